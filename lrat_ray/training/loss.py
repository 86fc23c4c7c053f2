"""The loss: InfoNCE in which each query counts by its relevance intensity."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Weighting = Literal["paper", "batch_normalised", "none"]


def weighted_info_nce(
    queries: Tensor, documents: Tensor, positives: Tensor, left_out: Tensor, weights: Tensor, *, temperature: float
) -> Tensor:
    """Weighted InfoNCE, mean over the queries (LRAT, arXiv 2604.04949, weighted contrastive loss):

        L = -(1/Q) * sum_i w_i * log( exp(s_ii+ / tau) / sum_{j not left out} exp(s_ij / tau) ),  s_ij = q_i . d_j

    queries: [Q, dim] and documents: [D, dim], both of length 1; positives: [Q] column of each query's positive; left_out: [Q,
    D], True where a document is no negative of a query, and never its positive; weights: [Q], those of `example_weights`. The
    sum is divided by Q whatever the weights. Returns a scalar in nats, of at least float32. Raises ValueError for shapes that
    do not fit, for a positive that is left out or no column, and for temperature <= 0.
    """
    shape = (len(queries), len(documents))
    if positives.shape != shape[:1] or weights.shape != shape[:1] or left_out.shape != shape:
        raise ValueError(
            f"{shape[0]} queries and {shape[1]} documents need positives [{shape[0]}], weights [{shape[0]}] and left_out "
            f"{list(shape)}; found {list(positives.shape)}, {list(weights.shape)} and {list(left_out.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    _check_positives(positives, left_out)
    # In bf16 a cosine near 1 is off by 0.002, which tau = 0.02 makes 0.1 nats.
    with torch.autocast(queries.device.type, enabled=False):
        q, d = (e.to(torch.promote_types(e.dtype, torch.float32)) for e in (queries, documents))
        scores = (q @ d.T / temperature).masked_fill(left_out, -torch.inf)  # [Q, D]
        return (weights * torch.nn.functional.cross_entropy(scores, positives, reduction="none")).mean()


def _check_positives(positives: Tensor, left_out: Tensor) -> None:
    columns = left_out.shape[1]
    is_column = (positives >= 0) & (positives < columns)
    is_left_out = left_out.gather(1, positives.clamp(0, columns - 1)[:, None])[:, 0]
    if bool((~is_column | is_left_out).any()):  # one wait for the GPU, whichever it is
        query = int((~is_column | is_left_out).nonzero()[0])
        fault = "left out" if is_column[query] else f"no column of {columns} documents"
        raise ValueError(f"the positive of query {query}, {int(positives[query])}, is {fault}")


def example_weights(weights: np.ndarray, weighting: Weighting) -> np.ndarray:
    """What each query of a batch counts in `weighted_info_nce`: the one difference between the weightings.

    weights: [N] relevance intensities of the whole contrastive batch, of all workers, finite and >= 0 (`examples.select`). Of
    mean 1 over the data set, they enter the loss as they are (paper: LRAT eq. 3 and 4). batch_normalised divides them by their
    mean in the batch, which turns the loss into sum(w l) / sum(w), as the public code has it; a batch without any weight stays
    without. none: every query counts 1.

    >>> [example_weights(np.array([0.5, 1.5, 4.0]), weighting).tolist() for weighting in ("paper", "batch_normalised", "none")]
    [[0.5, 1.5, 4.0], [0.25, 0.75, 2.0], [1.0, 1.0, 1.0]]
    """
    if weighting == "none":
        return np.ones_like(weights)
    if weighting == "batch_normalised" and weights.any():
        return weights / weights.mean()
    return weights
