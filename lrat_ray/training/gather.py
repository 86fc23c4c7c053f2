"""Embeddings of all workers, differentiably: what makes K workers train exactly like one (cross-device negatives)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_interleaved(embeddings: Tensor) -> Tensor:
    """[M, dim] of each of K workers -> [K * M, dim] on all of them, row j from worker j % K (its row j // K).

    That undoes `dealing.deal`, which hands documents out in turn. Backward sums the gradients that all workers have for a row
    and hands them to the worker that encoded it. Every worker must call it with the same M.
    """
    gathered = _AllGather.apply(embeddings)  # [K, M, dim]
    return gathered.transpose(0, 1).reshape(-1, embeddings.shape[1])


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        parts = [torch.empty_like(embeddings) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, embeddings.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
