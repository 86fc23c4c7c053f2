"""Train an encoder: Ray Train starts the workers, DeepSpeed steps them, negatives cross between them (the room's edge to both).

    pairs + doc store -> training table -> workers x (batch -> embeddings -> gather -> loss -> step) -> encoder/

Checkpoints lie beside the encoder until it is written: the same command continues an interrupted run, with the same batches.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import ray.train
import torch
import torch.distributed as dist
from fsspec.core import url_to_fs
from ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from torch import Tensor

from lrat_ray import artifacts, cluster, documents
from lrat_ray.artifacts import Manifest, Work
from lrat_ray.config import Config, ConfigError, Train
from lrat_ray.documents import DocumentStore
from lrat_ray.models import resolve_model, usable_precision
from lrat_ray.schema import Pair
from lrat_ray.training import examples, tokens
from lrat_ray.training.batches import Batch, epoch_order, make_batch, shard, steps_per_epoch
from lrat_ray.training.encoder import Encoder, load_encoder
from lrat_ray.training.gather import gather_interleaved
from lrat_ray.training.loss import weighted_info_nce
from lrat_ray.training.schedule import learning_rate
from lrat_ray.training.tokens import TrainingTable

_TABLE = "training-table"
_CHECKPOINTS = "checkpoints"
_SELECTION = f"{_TABLE}/selection.json"
_STEPS_PER_LINE = 10
_TAG = "state"

_WORKER_ENVIRONMENT = {
    # OpenMP threads that spin while waiting take cores that Ray's other processes need: five times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps code for the last 1,024 shapes it saw; every step brings new ones, and a worker grew by 50 MB with each step.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "false",
}


class TrainingError(RuntimeError):
    """A training run that failed; the message says where and what to do."""


def run(config: Config) -> Manifest:
    """Train train.base_model on train.pairs over the documents of `corpus`; write an artifact of kind "encoder" at `output`.

    It holds encoder/ (a sentence-transformers folder), and in its manifest's metrics the curve of [{step, loss, learning_rate,
    examples_per_s}]. Raises ConfigError for options that do not go together, TrainingDataError for pairs that cannot be trained
    on, ArtifactError for missing inputs, and TrainingError if the loss stops being finite or a worker dies.
    """
    train = config.train
    output = config.require("output", "the encoder is written there")
    output = artifacts.local_path(output) or output  # a relative path means nothing to workers
    pairs = config.require("train.pairs", "an encoder is trained on a pairs artifact")
    corpus = config.require("corpus", "it holds the documents of the pairs")
    if len(train.seeds) != 1:
        raise ConfigError(
            f"train.seeds={list(train.seeds)}: a run trains one encoder; pass one seed (lrat flywheel takes more)"
        )
    if train.batch_size % train.num_workers:
        raise ConfigError(f"train.batch_size={train.batch_size} is not divisible by train.num_workers={train.num_workers}")
    base_model = resolve_model(train.base_model)
    base_folder = os.path.abspath(base_model) if os.path.isdir(base_model) else None
    work = artifacts.begin(
        output,
        kind="encoder",
        config=config.only("train"),
        inputs={"train.pairs": pairs, "corpus": corpus, "train.base_model": base_folder},
        force=config.force,
    )
    if work.manifest:
        return work.manifest
    began = time.monotonic()
    precision = usable_precision(train.precision, _device_type(train))
    train = train.model_copy(update={"precision": precision, "base_model": base_folder or base_model})
    selected = _write_table(work, train, pairs, documents.ensure(corpus, artifacts.join(output, "documents"), config=config))
    prepared = time.monotonic()
    cluster.connect(config.ray)
    curve = _fit(output, train)
    manifest = work.finish(
        parts=[os.path.relpath(path, output) for path in artifacts.list_files(artifacts.join(output, "encoder"))],
        rows={"in": selected["pairs"], "out": selected["trained"], "rejected": 0}
        | {name: selected[name] for name in ("irrelevant", "weightless", "not_sampled")},
        metrics={"pairs": selected["trained"], "steps": len(curve), "mean_weight": selected["mean_weight"], "curve": curve},
        timings_s={"prepare": round(prepared - began, 3), "train": round(time.monotonic() - prepared, 3)},
        protocol={"precision": precision},
    )
    artifacts.remove(artifacts.join(output, _CHECKPOINTS))
    artifacts.remove(artifacts.join(output, _TABLE))
    return manifest


def _device_type(train: Train) -> str:
    return "cuda" if train.use_gpu else "cpu"


def _load(train: Train) -> Encoder:
    return load_encoder(
        train.base_model,
        dropout=train.dropout,
        freeze_layers=train.freeze_layers,
        query_max_tokens=train.query_max_tokens,
        passage_max_tokens=train.passage_max_tokens,
        precision=train.precision,
        device=str(ray.train.torch.get_device()) if train.use_gpu else "cpu",
    )


def _write_table(work: Work, train: Train, pairs: str, store_uri: str) -> dict[str, Any]:
    """Write the training table unless an interrupted run did; returns the counts that the manifest reports."""
    if work.has(_SELECTION):
        return artifacts.read_json(artifacts.join(work.uri, _SELECTION))
    store = DocumentStore.open(store_uri)
    encoder = _load(train.model_copy(update={"use_gpu": False}))  # also finds a bad base model before any worker starts
    table = artifacts.join(work.uri, _TABLE)
    selection = examples.select(artifacts.read_rows(pairs, Pair, "pairs"), max_pairs=train.max_pairs, seed=train.seeds[0])
    joined = examples.join(artifacts.read_rows(pairs, Pair, "pairs"), selection, store)
    rows = tokens.write_examples(artifacts.join(table, tokens.EXAMPLES), joined, lambda texts: encoder.tokenize(texts, "query"))
    tokens.write_documents(
        artifacts.join(table, tokens.DOCUMENTS), rows, store, lambda texts: encoder.tokenize(texts, "passage")
    )
    counts = {
        "pairs": selection.pairs,
        "trained": len(selection.positions),
        "irrelevant": selection.irrelevant,
        "weightless": selection.weightless,
        "not_sampled": selection.not_sampled,
        "mean_weight": float(selection.weights.mean()),
    }
    work.write_json(_SELECTION, counts)
    return counts


def _fit(output: str, train: Train) -> list[dict[str, float]]:
    """Run the workers to the end; returns rank 0's curve."""
    progress = Queue(actor_options={"num_cpus": 0})
    trainer = _Trainer(
        _train_worker,  # type: ignore[arg-type]
        train_loop_config={"output": output, "train": train, "progress": progress},
        scaling_config=ScalingConfig(num_workers=train.num_workers, use_gpu=train.use_gpu),
        run_config=RunConfig(  # type: ignore[call-arg]
            # A constant name resumes whatever lies there: `artifacts.begin` has made sure that it is this very work.
            name=_CHECKPOINTS,
            storage_path=output,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        ),
    )
    printer = threading.Thread(target=_print_lines, args=(progress,), daemon=True)
    printer.start()
    try:
        result = trainer.fit()
    except WorkerGroupError as error:
        rank, failure = next(iter(error.worker_failures.items()))
        reason = str(failure).strip().splitlines()[-1]
        raise TrainingError(f"worker {rank}: {reason} (the same command would continue at the last checkpoint)") from error
    finally:
        progress.put(None)
        printer.join(timeout=10)
        progress.shutdown()
    return result.return_value  # type: ignore[attr-defined]


def _print_lines(progress: Queue) -> None:
    while (line := progress.get()) is not None:
        print(line, file=sys.stderr, flush=True)


class _Trainer(TorchTrainer):
    """Ray Train's trainer, but Ctrl-C stops it at once.

    Its own handler takes seconds, loses a Ctrl-C that comes before its controller runs, and ends the process with success.
    """

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def fit(self) -> ray.train.Result:
        try:
            return super().fit()
        except KeyboardInterrupt:
            if self._controller is not None:
                ray.kill(self._controller)  # its workers end with it; recorded checkpoints stay
            raise


def _train_worker(settings: dict[str, Any]) -> list[dict[str, float]]:
    """What each worker runs, from the last checkpoint (or the start) to the end; rank 0 writes the encoder."""
    output, train, progress = settings["output"], settings["train"], settings["progress"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size()))
    table = TrainingTable(artifacts.join(output, _TABLE))
    engine = build_engine(_load(train), train, workers=workers)
    curve = _resume(engine)
    steps = train.epochs * steps_per_epoch(len(table), train.batch_size)
    meter = _Meter(progress if rank == 0 else None, steps=steps, done=len(curve), batch_size=train.batch_size)
    for step in range(len(curve), steps):
        torch.manual_seed(hash((train.seeds[0], step, rank)))  # dropout after a resume is that of an uninterrupted run
        rate = learning_rate(step, steps=steps, peak=train.learning_rate, warmup_ratio=train.warmup_ratio)
        part = shard(_batch(table, train, step), rank, workers)
        loss = train_step(engine, part, rate=rate, temperature=train.temperature)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss of step {step + 1} of {steps} is {loss}; lower train.learning_rate")
        curve.append({"step": step + 1, "loss": loss, "learning_rate": rate, "examples_per_s": meter.tick(loss)})
        if (step + 1) % train.checkpoint_every_steps == 0 and step + 1 < steps:
            _checkpoint(engine, curve)
    if rank == 0:
        _export(engine.module, artifacts.join(output, "encoder"))
    return curve


def _batch(table: TrainingTable, train: Train, step: int) -> Batch:
    (seed,) = train.seeds
    epoch, place = divmod(step, steps_per_epoch(len(table), train.batch_size))
    order = epoch_order(len(table), batch_size=train.batch_size, seed=seed, epoch=epoch)
    return make_batch(
        table, order[place], group_size=train.group_size, in_batch_negatives=train.in_batch_negatives, seed=seed, epoch=epoch
    )


def build_engine(encoder: Encoder, train: Train, *, workers: int) -> Any:
    """The DeepSpeed engine of one worker; torch.distributed must run. Gradients are averaged over the workers, then clipped."""
    import deepspeed  # seconds of imports that only a worker needs

    # It would build this op with a C++ compiler (25 s, and fail without one), though only tensor-parallel inference uses it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    # torch's AdamW needs no compiler; DeepSpeed's own optimizers build C++ or CUDA code on first use.
    optimizer = torch.optim.AdamW(trainable, lr=train.learning_rate, weight_decay=train.weight_decay)
    engine, *_ = deepspeed.initialize(
        model=encoder,
        model_parameters=trainable,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": train.batch_size // workers,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": train.max_grad_norm,
            "zero_optimization": {"stage": train.zero_stage},
            "steps_per_print": sys.maxsize,
        },
    )
    return engine


def train_step(engine: Any, part: Batch, *, rate: float, temperature: float) -> float:
    """One optimizer step at learning rate `rate` on this worker's part of a batch; returns the loss of the whole batch."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    loss = batch_loss(engine, part, temperature=temperature)
    engine.backward(loss)
    engine.step()
    total = loss.detach().clone()
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def batch_loss(embed: Callable[[list[np.ndarray]], Tensor], part: Batch, *, temperature: float) -> Tensor:
    """The loss of this worker's queries against the documents of all workers.

    Each worker divides by its own number of queries. As DeepSpeed averages gradients over workers, and the gather adds what
    every worker's loss says about a document, the result is the gradient of one worker that holds the whole batch.
    """
    queries = embed(part.queries)  # [B / K, dim]
    encoded = gather_interleaved(embed(part.documents))  # [D, dim]
    device = queries.device
    return weighted_info_nce(
        queries,
        encoded[torch.from_numpy(part.slots).to(device)],  # [B * G, dim]
        torch.from_numpy(part.positives).to(device),
        torch.from_numpy(part.left_out).to(device),
        torch.from_numpy(part.weights).to(device),
        temperature=temperature,
    )


def _checkpoint(engine: Any, curve: list[dict[str, float]]) -> None:
    """Save optimizer state and trainable weights through Ray Train; each worker adds its own files."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag=_TAG, client_state={"curve": curve}, exclude_frozen_parameters=True)
        dist.barrier()
        ray.train.report(dict(curve[-1]), checkpoint=Checkpoint.from_directory(folder))


def _resume(engine: Any) -> list[dict[str, float]]:
    """Load the last checkpoint, if there is one; returns the curve so far, whose length is the number of steps done."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        _, state = engine.load_checkpoint(folder, tag=_TAG, load_module_strict=False)
    return list(state["curve"])


def _export(encoder: Encoder, uri: str) -> None:
    artifacts.remove(uri)
    with tempfile.TemporaryDirectory() as scratch:
        encoder.save(os.path.join(scratch, "encoder"))
        fs, path = url_to_fs(uri)
        fs.put(os.path.join(scratch, "encoder"), path, recursive=True)


class _Meter:
    """Speed since the start of this process, and a progress line every few steps."""

    def __init__(self, progress: Queue | None, *, steps: int, done: int, batch_size: int):
        self._progress, self._steps, self._batch_size = progress, steps, batch_size
        self._first = self._done = done
        self._began = time.monotonic()
        self._losses: list[float] = []
        if progress is not None and done:
            progress.put(f"  train: continues after step {done} of {steps}")

    def tick(self, loss: float) -> float:
        """Count a step; returns examples per second."""
        self._done += 1
        self._losses.append(loss)
        speed = (self._done - self._first) * self._batch_size / (time.monotonic() - self._began)
        if self._progress is not None and (self._done % _STEPS_PER_LINE == 0 or self._done == self._steps):
            left_s = (self._steps - self._done) * self._batch_size / speed
            mean_loss = sum(self._losses) / len(self._losses)  # of the steps since the last line: one batch's is noisy
            line = f"step {self._done}/{self._steps}, loss {mean_loss:.4f}, {speed:.1f} examples/s, {left_s:.0f} s left"
            self._progress.put(f"  train: {line}")
            self._losses.clear()
        return round(speed, 2)
