"""The DeepSpeed engine of one worker: how a batch becomes a gradient, directly or in two passes, and an optimizer step.

Shapes: B queries and D distinct documents in the contrastive batch, K workers, M = B / K + ceil(D / K) sequences on each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lrat_ray.config import ConfigError, Train
from lrat_ray.training.batches import Batch
from lrat_ray.training.encoder import Encoder
from lrat_ray.training.gather import gather_interleaved
from lrat_ray.training.loss import weighted_info_nce

_OWNED_KEYS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.batch_size",
    "gradient_accumulation_steps": "train.accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
    "managed_gradient_accumulation": "train.accumulation_steps",
    "fp16": "train.precision=bf16",
    "optimizer": "train.learning_rate and train.weight_decay",
    "scheduler": "train.warmup_ratio and train.decay",
    "zero_optimization.stage": "train.zero_stage",
    "bf16.enabled": "train.bf16_parameters",
}


class Stopwatch:
    """Seconds that a worker spent on each part of its steps: `data`, `gather` and `compute` (everything else)."""

    def __init__(self) -> None:
        self.seconds = {"data": 0.0, "gather": 0.0, "compute": 0.0}

    def lap(self, part: str, began: float, device: torch.device) -> float:
        """Add the time since `began` to a part; returns now. A GPU has to have finished what it was given."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.monotonic()
        self.seconds[part] += now - began
        return now


def deepspeed_config(train: Train, *, workers: int) -> dict[str, Any]:
    """DeepSpeed's configuration. Keys of train.deepspeed pass through; ConfigError for what section `train` itself has."""
    zero: dict[str, Any] = {"stage": train.zero_stage}
    if train.cpu_offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": train.use_gpu}
        if train.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": train.use_gpu}
    config = {
        "train_micro_batch_size_per_gpu": train.batch_size // workers,
        # Batches are accumulated by moving the boundary (`train_step`): the two-pass gradient needs that anyway.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": train.bf16_parameters},
        # Hundreds of sub-batches may add to one gradient: in bf16 the later ones would be rounded away.
        "data_types": {"grad_accum_dtype": "fp32"},
        # torch's AdamW needs no compiler; DeepSpeed's own optimizers build C++ or CUDA code on first use.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }
    return _merge(config, train.deepspeed)


def _merge(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        name = f"{prefix}{key}"
        if name in _OWNED_KEYS:
            raise ConfigError(f"train.deepspeed.{name}: set {_OWNED_KEYS[name]} instead")
        is_section = isinstance(merged.get(key), dict)
        if is_section and not isinstance(value, dict):
            raise ConfigError(f"train.deepspeed.{name}: {value!r} is no mapping of keys")
        merged[key] = _merge(merged[key], value, f"{name}.") if is_section else value
    return merged


def build_engine(encoder: Encoder, train: Train, *, workers: int) -> Any:
    """This worker's DeepSpeed engine; torch.distributed must run. Gradients are averaged over the workers, then clipped."""
    import deepspeed  # seconds of imports that only a worker needs

    # It would build this op with a C++ compiler (25 s, and fail without one), though only tensor-parallel inference uses it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trainable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    # Biases and the scales of normalisation are not decayed: nothing is gained by pulling them to zero.
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=train.learning_rate)
    engine, *_ = deepspeed.initialize(
        model=encoder, model_parameters=trainable, optimizer=optimizer, config=deepspeed_config(train, workers=workers)
    )
    return engine


def train_step(engine: Any, batches: Sequence[Batch], train: Train, *, rate: float, stopwatch: Stopwatch) -> float:
    """One optimizer step at learning rate `rate` on this worker's parts of one or more batches; returns their mean loss."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    loss = backward(engine, batches, train, stopwatch=stopwatch)
    began = time.monotonic()
    engine.step()
    dist.all_reduce(loss)
    stopwatch.lap("compute", began, engine.device)
    return float(loss) / dist.get_world_size()


def backward(engine: Any, batches: Sequence[Batch], train: Train, *, stopwatch: Stopwatch) -> Tensor:
    """Bring the gradient of the mean loss of some batches into the engine; returns that loss on this worker's queries."""
    one_batch = _cached_backward if train.gradient_caching else _direct_backward
    share = 1 / len(batches)
    losses = [
        one_batch(engine, part, train.temperature, share=share, is_last=i == len(batches), stopwatch=stopwatch)
        for i, part in enumerate(batches, start=1)
    ]
    return torch.stack(losses).mean()


def _direct_backward(
    engine: Any, part: Batch, temperature: float, *, share: float, is_last: bool, stopwatch: Stopwatch
) -> Tensor:
    """Accumulate the gradient of `share` times a batch's loss in one pass; returns this worker's loss, without the share."""
    began = time.monotonic()
    # One call for queries and documents: ZeRO-3 expects a backward pass after each forward pass.
    embeddings = engine(*_sequences(part))  # [M, dim]
    began = stopwatch.lap("compute", began, engine.device)
    loss, began = _contrast(embeddings, part, temperature, began, stopwatch)
    engine.set_gradient_accumulation_boundary(is_last)
    engine.backward(loss * share)
    stopwatch.lap("compute", began, engine.device)
    return loss.detach()


def _cached_backward(
    engine: Any, part: Batch, temperature: float, *, share: float, is_last: bool, stopwatch: Stopwatch
) -> Tensor:
    """The same gradient in two passes (GradCache, arXiv 2101.06983), with the activations of one sub-batch at a time.

    Pass 1 embeds without a graph and finds the loss's gradient with respect to the embeddings; pass 2 embeds each sub-batch
    again and carries that gradient on to the weights. Random numbers of dropout are those of pass 1.
    """
    began = time.monotonic()
    sequences, cuts = _sequences(part)
    pieces = [(sequences[cut], [slice(0, cut.stop - cut.start)]) for cut in cuts]
    random_states = []
    with torch.no_grad():
        embedded = []
        for piece in pieces:
            random_states.append(_random_state(engine.device))
            embedded.append(engine(*piece))
    embeddings = torch.cat(embedded).requires_grad_()
    began = stopwatch.lap("compute", began, engine.device)
    loss, began = _contrast(embeddings, part, temperature, began, stopwatch)
    (loss * share).backward()
    gradient = embeddings.grad
    assert gradient is not None  # of a leaf that the loss was computed from
    began = stopwatch.lap("gather", began, engine.device)  # its one costly part: the backward pass of the gather
    after = _random_state(engine.device)
    for cut, piece, random_state in zip(cuts, pieces, random_states, strict=True):
        _set_random_state(random_state, engine.device)
        engine.set_gradient_accumulation_boundary(is_last and cut is cuts[-1])
        engine.backward((engine(*piece) * gradient[cut]).sum())
    _set_random_state(after, engine.device)
    stopwatch.lap("compute", began, engine.device)
    return loss.detach()


def _sequences(part: Batch) -> tuple[list[Any], list[slice]]:
    """A part's queries, then its documents, and the sub-batches of both."""
    offset = len(part.queries)
    documents = [slice(cut.start + offset, cut.stop + offset) for cut in part.document_cuts]
    return [*part.queries, *part.documents], [*part.query_cuts, *documents]


def _contrast(embeddings: Tensor, part: Batch, temperature: float, began: float, stopwatch: Stopwatch) -> tuple[Tensor, float]:
    """The loss of this worker's queries against the documents of all workers, from this worker's embeddings [M, dim].

    Each worker divides by its own number of queries. As DeepSpeed averages gradients over workers, and the gather adds what
    every worker's loss says about a document, the result is the gradient of one worker that holds the whole batch.
    """
    device = embeddings.device
    queries, documents = embeddings[: len(part.queries)], embeddings[len(part.queries) :]
    if part.gathered:
        documents = gather_interleaved(documents)  # [D, dim]
        began = stopwatch.lap("gather", began, device)
    loss = weighted_info_nce(
        queries,
        documents[torch.from_numpy(part.slots).to(device)],  # [slots, dim]
        torch.from_numpy(part.positives).to(device),
        torch.from_numpy(part.left_out).to(device),
        torch.from_numpy(part.weights).to(device),
        temperature=temperature,
    )
    return loss, began


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


def trained_weights(engine: Any) -> dict[str, Tensor]:
    """Name -> CPU copy of every weight that trains, gathered where ZeRO-3 has cut it up; empty on all but the first worker.

    Every worker must call it.
    """
    import deepspeed

    weights = {}
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_cut_up = hasattr(parameter, "ds_id")
        with deepspeed.zero.GatheredParameters([parameter]) if is_cut_up else nullcontext():
            if dist.get_rank() == 0:
                weights[name] = parameter.detach().cpu().clone()
    return weights
