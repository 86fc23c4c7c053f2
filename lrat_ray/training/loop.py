"""Train an encoder: Ray Train starts the workers, and again when one is lost (with worker.py, the room's edge to Ray).

    pairs + doc store -> training table -> workers x (batch -> embeddings -> gather -> loss -> step) -> encoder/

Checkpoints lie beside the encoder until it is written: the same command continues an interrupted run, with the same batches.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lrat_ray import artifacts, cluster, documents
from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config, ConfigError, Train
from lrat_ray.documents import DocumentStore
from lrat_ray.models import resolve_model, usable_precision
from lrat_ray.training import prepare
from lrat_ray.training.engine import deepspeed_config
from lrat_ray.training.plan import Plan
from lrat_ray.training.tracking import find_tracker
from lrat_ray.training.worker import FATAL, MEMORY_ADVICE, SCORE, TrainingError, train_worker

__all__ = ["TrainingError", "check", "plan", "run"]

_CHECKPOINTS = "checkpoints"

_CHANGE_NOTHING = frozenset(
    "num_workers accelerator_type placement max_failures resume trackers checkpoint_every_steps gradient_caching "
    "gradient_checkpointing tokens_per_forward".split()
)
"""Keys of section `train` that a run may be continued with other values of: what is computed stays, but for rounding."""

WORKER_ENVIRONMENT = {
    # OpenMP threads that spin while waiting take cores that Ray's other processes need: five times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps code for the last 1,024 shapes it saw; every step brings new ones, and a worker grew by 50 MB with each step.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "false",
}


def run(config: Config) -> Manifest:
    """Train train.base_model on train.pairs over the documents of `corpus`; write an artifact of kind "encoder" at `output`.

    It holds encoder/ (a sentence-transformers folder), and in its manifest's metrics the curve of [{step, loss, learning_rate,
    examples_per_s}] and the validations of [{step, ndcg@10, recall@1, recall@5, mrr, pairs}]. Raises ConfigError for options
    that do not go together, TrainingDataError for pairs that cannot be trained on, ArtifactError for missing inputs, and
    TrainingError if the loss stops being finite, memory runs out or workers are lost too often.
    """
    check(config)
    train = config.train
    output = config.require("output", "the encoder is written there")
    output = artifacts.local_path(output) or output  # a relative path means nothing to workers
    base_model = resolve_model(train.base_model)
    base_folder = os.path.abspath(base_model) if os.path.isdir(base_model) else None
    work = artifacts.begin(
        output,
        kind="encoder",
        config=_identity(config),
        inputs={"train.pairs": train.pairs, "corpus": config.corpus, "train.base_model": base_folder},
        force=config.force,
    )
    if work.manifest:
        return work.manifest
    began = time.monotonic()
    train = _usable(train)
    store = documents.ensure(str(config.corpus), artifacts.join(output, "documents"), config=config)
    counts = prepare.write_table(output, train, DocumentStore.open(store))
    prepared = time.monotonic()
    cluster.connect(config.ray)
    _check_resources(train, joined=config.ray.address is not None)
    result = _fit(output, train)
    manifest = work.finish(
        parts=[os.path.relpath(path, output) for path in artifacts.list_files(artifacts.join(output, "encoder"))],
        rows={"in": counts["pairs"], "out": counts["trained"], "rejected": 0}
        | {name: counts[name] for name in ("held_out", "irrelevant", "weightless", "not_sampled") if counts[name]},
        metrics=_metrics(counts, result),
        timings_s={"prepare": round(prepared - began, 3), "train": round(time.monotonic() - prepared, 3)},
        protocol={"precision": train.precision, "num_workers": train.num_workers},
    )
    artifacts.remove(artifacts.join(output, _CHECKPOINTS))
    artifacts.remove(artifacts.join(output, prepare.TABLE))
    return manifest


def plan(config: Config) -> Plan:
    """What `run` would do and need. Nothing is written. Raises the errors that `run` does before it trains."""
    check(config)
    train = _usable(config.train)
    with tempfile.TemporaryDirectory() as scratch:
        store = DocumentStore.open(documents.ensure(str(config.corpus), scratch, config=config))
        return prepare.plan(train, store)


def check(config: Config) -> None:
    """Raise ConfigError for options that cannot work together, before anything is written."""
    train = config.train
    config.require("train.pairs", "an encoder is trained on a pairs artifact")
    config.require("corpus", "it holds the documents of the pairs")
    if len(train.seeds) != 1:
        raise ConfigError(
            f"train.seeds={list(train.seeds)}: a run trains one encoder; pass one seed (lrat flywheel takes more)"
        )
    if train.batch_size % train.num_workers:
        raise ConfigError(
            f"train.batch_size={train.batch_size} is not divisible by train.num_workers={train.num_workers}; "
            f"{train.batch_size // train.num_workers * train.num_workers or train.num_workers} is"
        )
    alone = train.batch_size // (1 if train.cross_worker_negatives else train.num_workers) == 1
    if alone and not train.trajectory_negatives:
        raise ConfigError(
            "without train.trajectory_negatives, a query that is alone in its batch has nothing to contrast with: "
            "raise train.batch_size, or set train.cross_worker_negatives=true"
        )
    deepspeed_config(train, workers=train.num_workers)
    for name in train.trackers:
        find_tracker(name)


def _check_resources(train: Train, *, joined: bool) -> None:
    """Ray Train waits for resources without end and without a word. Raises ConfigError where none can come."""
    kind = "GPU" if train.use_gpu else "CPU"
    found = int(ray.cluster_resources().get(kind, 0))
    if found >= train.num_workers:
        return
    message = f"train.num_workers={train.num_workers} need as many {kind}s; Ray has {found} of them"
    if not joined:
        fewer = "lower train.num_workers" if kind == "CPU" or found else "set train.use_gpu=false train.num_workers=1"
        raise ConfigError(f"{message}: {fewer}, or join a cluster (ray.address=auto)")
    print(f"  train: {message}; waiting for the cluster to grow", file=sys.stderr, flush=True)


def _usable(train: Train) -> Train:
    """With arithmetic that the workers' devices have."""
    precision = usable_precision(train.precision, "cuda" if train.use_gpu else "cpu")
    return train.model_copy(update={"precision": precision, "bf16_parameters": train.bf16_parameters and precision == "bf16"})


def _identity(config: Config) -> dict[str, Any]:
    """What a run's result depends on."""
    train = config.only("train")["train"]
    names = _CHANGE_NOTHING
    if config.train.in_batch_negatives and not config.train.cross_worker_negatives:
        names -= {"num_workers"}  # it decides which queries see one another
    return {"train": {name: value for name, value in train.items() if name not in names}}


def _metrics(counts: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "pairs": counts["trained"],
        "steps": len(result["curve"]),
        "exported_step": result["exported_step"],
        "mean_weight": counts["mean_weight"],
        "curve": result["curve"],
        "seconds": {name: round(value, 3) for name, value in result["seconds"].items()},
    }
    if validations := result["validations"]:
        before = validations[0]
        after = next(v for v in validations if v["step"] == result["exported_step"])
        metrics["held_out_questions"] = counts["held_out_questions"]
        metrics["validations"] = validations
        metrics["held_out_gain"] = {name: after[name] - before[name] for name in after if name not in ("step", "pairs")}
    return metrics


def _fit(output: str, train: Train) -> dict[str, Any]:
    """Run the workers to the end; returns what `train_worker` does on the first."""
    artifacts.remove(artifacts.join(output, FATAL))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = _Trainer(
        train_worker,  # type: ignore[arg-type]
        train_loop_config={"output": output, "train": train, "lines": lines},
        scaling_config=ScalingConfig(
            num_workers=train.num_workers,
            use_gpu=train.use_gpu,
            accelerator_type=train.accelerator_type,
            placement_strategy=train.placement,
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            # A constant name resumes whatever lies there: `artifacts.begin` has made sure that it is this very work.
            name=_CHECKPOINTS,
            storage_path=output,
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute=SCORE),  # the best, and the last
            failure_config=FailureConfig(max_failures=train.max_failures),
            worker_runtime_env={"env_vars": WORKER_ENVIRONMENT},
        ),
    )
    printer = threading.Thread(target=_print_lines, args=(lines,), daemon=True)
    printer.start()
    try:
        result = trainer.fit().return_value  # type: ignore[attr-defined]
    except WorkerGroupError as error:
        raise TrainingError(_explain(error)) from error
    except ControllerError as error:
        raise TrainingError(f"Ray Train gave up: {_last_line(error)} (if it comes again, start over with --force)") from error
    finally:
        lines.put(None)
        printer.join(timeout=10)
        lines.shutdown()
    if "error" in result:
        raise TrainingError(result["error"])
    return result


def _explain(error: WorkerGroupError) -> str:
    rank, failure = next(iter(error.worker_failures.items()))
    reason = _last_line(failure)
    advice = ""
    if "out of memory" in reason.lower() or "outofmemory" in reason.lower():
        advice = f" {MEMORY_ADVICE}."
    if reason.startswith("FileNotFoundError"):
        advice = " Every node must be able to reach the output: give a URI of shared storage."
    return f"worker {rank}: {reason}.{advice} The same command continues at the last checkpoint"


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _print_lines(lines: Queue) -> None:
    while (line := lines.get()) is not None:
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
