"""What every Ray Train worker runs: steps, validations and checkpoints, from the last checkpoint (or the start) to the end."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from fsspec.core import url_to_fs
from ray.exceptions import RayError
from ray.train import Checkpoint
from ray.util.queue import Queue
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from lrat_ray import artifacts
from lrat_ray.config import ConfigError, Train
from lrat_ray.query_template import VARIANTS
from lrat_ray.training import validation
from lrat_ray.training.batches import Batch, plan_batch, steps_per_epoch
from lrat_ray.training.encoder import export_encoder, load_encoder, tokens_per_forward
from lrat_ray.training.engine import Stopwatch, build_engine, train_step, trained_weights
from lrat_ray.training.examples import TrainingDataError
from lrat_ray.training.model_card import model_card
from lrat_ray.training.prepare import COUNTS, TABLE
from lrat_ray.training.schedule import learning_rate
from lrat_ray.training.tokens import TrainingTable
from lrat_ray.training.tracking import Trackers

FATAL = "fatal.json"
"""Why a worker ended the run for good: the workers that Ray Train starts in its place stop at once."""
SCORE = "ndcg@10"

_STEPS_PER_LINE = 10
_TAG = "state"
_PROGRESS = "progress.json"
_WEIGHTS = "weights.safetensors"
_NOT_BEST = -1.0


class TrainingError(RuntimeError):
    """A training run that failed; the message says where and what to do."""


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and what it measured: all that a checkpoint holds besides tensors."""

    curve: list[dict[str, float]] = field(default_factory=list)
    """Per optimizer step: step, loss, learning_rate, examples_per_s."""
    validations: list[dict[str, float]] = field(default_factory=list)
    """Held-out metrics, each with the step after which they were measured (0: before training)."""

    @property
    def step(self) -> int:
        return len(self.curve)

    def best(self) -> dict[str, float]:
        """The validation with the highest nDCG@10, the first of equals."""
        return max(self.validations, key=lambda v: v[SCORE])

    def is_out_of_patience(self, patience: int | None) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        return patience is not None and sum(v["step"] > self.best()["step"] for v in self.validations) >= patience


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train to the end; rank 0 writes the encoder. Returns the progress and the seconds of each part of the steps.

    An error that would come again is returned as {"error": message}, for Ray Train starts workers again after an exception.
    """
    fatal = artifacts.join(settings["output"], FATAL)
    if artifacts.exists(fatal):
        return dict(artifacts.read_json(fatal))
    try:
        return _Worker(**settings).run()
    except (TrainingError, TrainingDataError) as error:  # found by all workers alike
        return {"error": str(error)}
    except (ConfigError, torch.OutOfMemoryError) as error:  # of one worker: the others wait until Ray Train ends them
        rank = ray.train.get_context().get_world_rank()
        is_memory = isinstance(error, torch.OutOfMemoryError)
        reason = f"worker {rank} ran out of GPU memory. {MEMORY_ADVICE} ({error})" if is_memory else f"worker {rank}: {error}"
        artifacts.write_json(fatal, {"error": reason})
        raise


MEMORY_ADVICE = (
    "Set train.gradient_caching=true (a batch's activations then take no more memory than a sub-batch's), "
    "train.gradient_checkpointing=true or a lower train.tokens_per_forward, and the same command goes on; or start over with "
    "--force and a higher train.zero_stage"
)


class _Worker:
    def __init__(self, output: str, train: Train, lines: Queue):
        context = ray.train.get_context()
        self.output, self.train = output, train
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size()))
        uri = artifacts.join(output, TABLE)
        self.table = TrainingTable(uri)
        self.steps_per_epoch = steps_per_epoch(len(self.table), train)
        self.steps = train.epochs * self.steps_per_epoch
        self.device = ray.train.torch.get_device() if train.use_gpu else torch.device("cpu")
        self.tokens_per_forward = tokens_per_forward(train)
        self.held_out = self._held_out(uri)
        self.progress = self._start()
        self.stopwatch = Stopwatch()
        self._say = _Lines(lines if self.rank == 0 else None)
        names = train.trackers if self.rank == 0 else ()
        self._trackers = Trackers(names, output, train.model_dump(mode="json"))

    def _held_out(self, uri: str) -> list[validation.Block]:
        table = TrainingTable(uri, part="validation")
        # With question and reasoning, as agents will ask.
        variant = len(VARIANTS) - 1 if self.train.query_template == "reasoning" else 0
        return validation.validation_blocks(table, self.rank, self.workers, self.tokens_per_forward, variant=variant)

    def _start(self) -> Progress:
        """Build the engine, in the state of the last checkpoint if there is one."""
        # ZeRO-3 moves weights to the GPU as it cuts them up; whole, they may not fit.
        encoder = load_encoder(self.train, device="cpu" if self.train.zero_stage == 3 else str(self.device))
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            self.engine = build_engine(encoder, self.train, workers=self.workers)
            return Progress()
        is_exact = _fits(checkpoint.get_metadata(), self.train, self.workers)
        with checkpoint.as_directory() as folder:
            if not is_exact:
                encoder.load_state_dict(load_file(os.path.join(folder, _WEIGHTS)), strict=False)
            self.engine = build_engine(encoder, self.train, workers=self.workers)
            if is_exact and self.engine.load_checkpoint(folder, tag=_TAG, load_module_strict=False)[0] is None:
                raise TrainingError(f"the checkpoint under {self.output} lacks DeepSpeed's files; start over with --force")
            with open(os.path.join(folder, _PROGRESS), encoding="utf-8") as file:
                return Progress(**json.load(file))

    def run(self) -> dict[str, Any]:
        try:
            exported = self._train()
        finally:
            self._trackers.close()
        return {**asdict(self.progress), "seconds": self.stopwatch.seconds, "exported_step": exported}

    def _train(self) -> int:
        """Every step that is left; returns the step whose weights were exported."""
        first = self.progress.step
        meter = _Meter(self._say, steps=self.steps, done=first, examples=self.train.batch_size * self.train.accumulation_steps)
        if first == 0:
            self._validate()
        with ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(self._batches, first)
            for step in range(first, self.steps):
                parts = self._wait(upcoming)
                if step + 1 < self.steps:
                    upcoming = reader.submit(self._batches, step + 1)
                self._step(step, parts, meter)
                if self._after(step + 1):
                    break
        return self._export()

    def _batches(self, step: int) -> list[Batch]:
        """This worker's parts of the batches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        (seed,) = self.train.seeds
        count = self.train.accumulation_steps
        plans = [plan_batch(self.table, self.train, seed=seed, epoch=epoch, place=place * count + i) for i in range(count)]
        return [plan.take(self.table, self.rank, self.workers, self.tokens_per_forward) for plan in plans]

    def _wait(self, upcoming: Future[list[Batch]]) -> list[Batch]:
        began = time.monotonic()
        parts = upcoming.result()
        self.stopwatch.lap("data", began, torch.device("cpu"))
        return parts

    def _step(self, step: int, parts: list[Batch], meter: _Meter) -> None:
        train = self.train
        torch.manual_seed(hash((train.seeds[0], step, self.rank)))  # dropout after a resume is that of an uninterrupted run
        rate = learning_rate(
            step, steps=self.steps, peak=train.learning_rate, warmup_ratio=train.warmup_ratio, decay=train.decay
        )
        loss = train_step(self.engine, parts, train, rate=rate, stopwatch=self.stopwatch)
        gradient_norm = self.engine.get_global_grad_norm()  # in bf16 DeepSpeed would skip a step without a word
        if not math.isfinite(loss) or not (gradient_norm is None or math.isfinite(gradient_norm)):
            raise TrainingError(
                f"the loss of step {step + 1} of {self.steps} is {loss}, the norm of its gradient {gradient_norm}: lower "
                "train.learning_rate, and start over with --force or another --output"
            )
        point = {"loss": loss, "learning_rate": rate, "examples_per_s": meter.tick(loss)}
        self.progress.curve.append({"step": step + 1, **point})
        self._trackers.log(step + 1, point)

    def _after(self, step: int) -> bool:
        """Validate and save what is due after a step; returns whether training stops here."""
        is_epoch = step % self.steps_per_epoch == 0
        every = self.train.validate_every_steps
        is_due = step == self.steps or (is_epoch if every is None else step % every == 0)
        if is_due:
            self._validate()
        stops = is_due and bool(self.held_out) and self.progress.is_out_of_patience(self.train.early_stopping_patience)
        if step < self.steps and not stops and (is_due or is_epoch or step % self.train.checkpoint_every_steps == 0):
            self._checkpoint(is_validated=is_due)
        return stops

    def _validate(self) -> None:
        """Measure the encoder on the held-out pairs, all workers together."""
        if not self.held_out:
            return
        sums = torch.from_numpy(validation.measure(self._embed, self.held_out)).to(self.device)
        dist.all_reduce(sums)
        metrics = validation.ranking_metrics(sums.cpu().numpy())
        step = self.progress.step
        self.progress.validations.append({"step": step, **metrics})
        self._trackers.log(step, metrics)
        values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "pairs")
        self._say(f"held out after step {step}: {values}")

    @torch.no_grad()
    def _embed(self, sequences: list[np.ndarray], cuts: list[slice]) -> np.ndarray:
        """[sequences, dim] embeddings as the encoder gives them when it is used: without dropout."""
        self.engine.eval()
        embeddings: np.ndarray = self.engine(sequences, cuts).float().cpu().numpy()
        self.engine.train()
        return embeddings

    def _checkpoint(self, *, is_validated: bool) -> None:
        """Save optimizer state, weights and progress through Ray Train; each worker adds its own files."""
        weights = trained_weights(self.engine)
        with tempfile.TemporaryDirectory() as folder:
            self.engine.save_checkpoint(folder, tag=_TAG, exclude_frozen_parameters=True)
            if self.rank == 0:
                save_file(weights, os.path.join(folder, _WEIGHTS))
                with open(os.path.join(folder, _PROGRESS), "w", encoding="utf-8") as file:
                    json.dump(asdict(self.progress), file)
            dist.barrier()
            checkpoint = Checkpoint.from_directory(folder)
            checkpoint.set_metadata({"workers": self.workers, "zero_stage": self.train.zero_stage})
            # Of equal scores Ray Train keeps the last, `Progress.best` the first: only what is better counts as scored.
            is_best = is_validated and bool(self.held_out) and self.progress.best() is self.progress.validations[-1]
            score = self.progress.validations[-1][SCORE] if is_best else _NOT_BEST
            ray.train.report({"step": self.progress.step, SCORE: score}, checkpoint=checkpoint)

    def _export(self) -> int:
        """Write the encoder folder, with the last weights or with those that validated best; returns the step they are of."""
        weights = trained_weights(self.engine)
        is_best = self.train.export == "best" and bool(self.progress.validations)
        step = int(self.progress.best()["step"]) if is_best else self.progress.step
        if self.rank != 0:
            return step
        if step < self.progress.step:
            weights = _checkpointed_weights(step)
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(scratch, "encoder")
            counts = artifacts.read_json(artifacts.join(self.output, COUNTS))
            card = model_card(self.train, counts=counts, curve=self.progress.curve, validations=self.progress.validations)
            export_encoder(self.train, weights, folder, card)
            uri = artifacts.join(self.output, "encoder")
            artifacts.remove(uri)
            fs, path = url_to_fs(uri)
            fs.put(folder, path, recursive=True)
        return step


def _checkpointed_weights(step: int) -> dict[str, Tensor]:
    """The weights after the step that validated best: Ray Train keeps its checkpoint."""
    if step == 0:
        return {}  # no step was an improvement: the base model's own
    reported = ray.train.get_all_reported_checkpoints()
    (checkpoint,) = [r.checkpoint for r in reported if r.metrics["step"] == step]
    with checkpoint.filesystem.open_input_stream(f"{checkpoint.path}/{_WEIGHTS}") as file:  # and not its optimizer states
        return load(file.read())


def _fits(metadata: dict[str, Any], train: Train, workers: int) -> bool:
    """Whether a checkpoint's optimizer states fit this many workers. Raises TrainingError if not, unless weights are enough."""
    if metadata["workers"] == workers or train.zero_stage == 0:
        return True
    if train.resume == "weights":
        return False
    raise TrainingError(
        f"the last checkpoint was written by {metadata['workers']} workers with train.zero_stage={train.zero_stage}, whose "
        f"optimizer states do not fit {workers}. Continue exactly with train.num_workers={metadata['workers']}, or with its "
        "weights and fresh optimizer states with train.resume=weights, or start over with --force"
    )


class _Lines:
    """Progress lines on the way to the driver. One that does not arrive is no reason to stop training."""

    def __init__(self, queue: Queue | None):
        self._queue = queue

    def __call__(self, line: str) -> None:
        if self._queue is not None:
            with suppress(RayError):
                self._queue.put(f"  train: {line}")


class _Meter:
    """Speed since the start of this process, and a progress line every few steps."""

    def __init__(self, say: Callable[[str], None], *, steps: int, done: int, examples: int):
        self._say, self._steps, self._examples = say, steps, examples
        self._first = self._done = done
        self._began = time.monotonic()
        self._losses: list[float] = []
        if done:
            say(f"continues after step {done} of {steps}")

    def tick(self, loss: float) -> float:
        """Count a step; returns examples per second."""
        self._done += 1
        self._losses.append(loss)
        speed = (self._done - self._first) * self._examples / (time.monotonic() - self._began)
        if self._done % _STEPS_PER_LINE == 0 or self._done == self._steps:
            left_s = (self._steps - self._done) * self._examples / speed
            mean_loss = sum(self._losses) / len(self._losses)  # of the steps since the last line: one batch's is noisy
            self._say(f"step {self._done}/{self._steps}, loss {mean_loss:.4f}, {speed:.1f} examples/s, {left_s:.0f} s left")
            self._losses.clear()
        return round(speed, 2)
