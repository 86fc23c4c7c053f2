"""What a training run will do and need, before it does it: examples, steps, tokens, and memory on each worker."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lrat_ray.config import Train
from lrat_ray.training.shape import ModelShape

_ACTIVATION_BYTES = 34
"""Bytes per token, layer and hidden unit that 16-bit training keeps of a transformer layer without the attention matrix, which
fused attention does not keep (Korthikanti et al., arXiv 2205.05198, eq. 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the pairs amount to. Tokens are per step and over all workers, without padding."""

    examples: int
    held_out: int
    steps: int
    queries_per_step: int
    documents_per_step: float
    query_tokens_per_step: float
    document_tokens_per_step: float

    @property
    def tokens_per_step(self) -> float:
        return self.query_tokens_per_step + self.document_tokens_per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one worker, estimated; what the CUDA context and the allocator's fragments take comes on top."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    scores: float
    offloaded: float
    """Of the above, what lies in main memory instead of the GPU's (train.cpu_offload)."""

    @property
    def total(self) -> float:
        """What the device that trains has to hold."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.scores - self.offloaded


def estimate_memory(shape: ModelShape, train: Train, work: Work, tokens_per_forward: int) -> Memory:
    """Bytes per worker of `train` on a model of this shape.

    Weights, gradients and AdamW's two moments are counted exactly (in fp32, or in bf16 with an fp32 master copy) and divided
    by the workers as ZeRO's stage says. Activations are estimated: of one sub-batch with gradient caching, else of a
    worker's whole share of a batch; with gradient checkpointing one layer's worth and the input of each.
    """
    workers = train.num_workers
    width = 2 if train.bf16_parameters else 4
    master = 4 if train.bf16_parameters else 0
    trainable = shape.trainable_parameters
    held = shape.parameters * width / (workers if train.zero_stage == 3 else 1)
    weights = held
    if train.precision == "bf16" and not train.bf16_parameters:
        weights += shape.parameters * 2  # what autocast keeps of each weight during a pass
    gradients = trainable * 4 / (workers if train.zero_stage >= 2 else 1)
    optimizer = trainable * (8 + master) / (workers if train.zero_stage >= 1 else 1)
    share = work.tokens_per_step / train.accumulation_steps / workers
    tokens = min(share, tokens_per_forward) if train.gradient_caching else share
    slots = train.batch_size * train.group_size if train.in_batch_negatives else train.group_size
    offloaded = 0.0
    if train.cpu_offload:
        offloaded = optimizer + (held if train.zero_stage == 3 else 0)
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=tokens * _activation_bytes_per_token(shape, train),
        scores=3 * 4 * (train.batch_size / workers) * slots,  # scores, probabilities and their gradient
        offloaded=offloaded,
    )


def _activation_bytes_per_token(shape: ModelShape, train: Train) -> float:
    layer = _ACTIVATION_BYTES * shape.hidden_size * (1 if train.precision == "bf16" else 2)
    kept = shape.layers - min(train.freeze_layers, shape.layers)  # frozen layers keep nothing for a backward pass
    if not train.gradient_checkpointing:
        return layer * kept
    inputs = shape.hidden_size * (2 if train.bf16_parameters else 4) * kept
    return inputs + layer


def training_flops(shape: ModelShape, train: Train, work: Work) -> float:
    """Floating-point operations of the whole run: 2 per weight and token forward, 4 backward where weights train (Kaplan et
    al., arXiv 2001.08361, section 2.1), a forward pass more with gradient caching and with gradient checkpointing."""
    share = shape.trainable_parameters / shape.parameters
    forward = 1 + train.gradient_caching + share * train.gradient_checkpointing
    return work.steps * work.tokens_per_step * 2 * shape.parameters_per_token * (forward + 2 * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run before it is run."""

    train: Train
    shape: ModelShape
    work: Work
    memory: Memory

    def rows(self) -> list[tuple[str, str]]:
        """What `lrat train --dry-run` prints: (what, how much)."""
        train, shape, work, memory = self.train, self.shape, self.work, self.memory
        accumulated = f" in {train.accumulation_steps} batches" if train.accumulation_steps > 1 else ""
        parts = ("weights", "gradients", "optimizer", "activations", "scores")
        rows = [
            ("base model", f"{train.base_model} ({shape.architecture}, pooling {shape.pooling})"),
            ("parameters", f"{shape.parameters / 1e6:,.1f} M, of which {shape.trainable_parameters / 1e6:,.1f} M train"),
            ("pairs", f"{work.examples:,} to train on, {work.held_out:,} held out"),
            ("steps", f"{work.steps:,} ({train.epochs} x the pairs), each of {work.queries_per_step:,} queries{accumulated}"),
            ("documents", f"about {work.documents_per_step:,.0f} distinct ones a step"),
            (
                "tokens",
                f"about {work.tokens_per_step:,.0f} a step ({work.query_tokens_per_step:,.0f} of queries), "
                f"{work.steps * work.tokens_per_step:,.0f} in all",
            ),
            ("arithmetic", f"about {training_flops(shape, train, work) / 1e12:,.1f} TFLOP in all"),
            ("workers", f"{train.num_workers}, {'a GPU each' if train.use_gpu else 'on CPUs'}; ZeRO stage {train.zero_stage}"),
            (
                "memory per worker",
                f"about {_size(memory.total)}: " + ", ".join(f"{p} {_size(getattr(memory, p))}" for p in parts),
            ),
        ]
        if memory.offloaded:
            rows.append(("offloaded", f"of these {_size(memory.offloaded)} lie in main memory instead (train.cpu_offload)"))
        return rows

    def as_json(self) -> dict[str, Any]:
        """The same for programs: the objects of this module, and the two sums."""
        flops = training_flops(self.shape, self.train, self.work)
        parts = {"model": asdict(self.shape), "work": asdict(self.work), "memory_bytes": asdict(self.memory)}
        return {**parts, "memory_bytes_total": self.memory.total, "flops": flops}


def _size(count: float) -> str:
    size = count / 2**30
    return f"{size:.1f} GiB" if size >= 1 else f"{math.ceil(count / 2**20)} MiB"
