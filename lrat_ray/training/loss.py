"""The loss: InfoNCE in which each query counts by its relevance intensity."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_info_nce(
    queries: Tensor, documents: Tensor, positives: Tensor, left_out: Tensor, weights: Tensor, *, temperature: float
) -> Tensor:
    """Weighted InfoNCE, mean over the queries (LRAT, arXiv 2604.04949, weighted contrastive loss):

        L = -(1/Q) * sum_i w_i * log( exp(s_ii+ / tau) / sum_{j not left out} exp(s_ij / tau) ),  s_ij = q_i . d_j

    queries: [Q, dim] and documents: [D, dim], both of length 1; positives: [Q] column of each query's positive; left_out: [Q,
    D], True where a document is no negative of a query (never its positive); weights: [Q] relevance intensity, mean 1 over
    the data set. The sum is divided by Q, not by sum(w): dividing by it would cancel eq. 3's normalisation batch by batch.
    Returns a scalar in nats. Raises ValueError for shapes that do not fit and for temperature <= 0.
    """
    shape = (len(queries), len(documents))
    if positives.shape != shape[:1] or weights.shape != shape[:1] or left_out.shape != shape:
        raise ValueError(
            f"{shape[0]} queries and {shape[1]} documents need positives [{shape[0]}], weights [{shape[0]}] and left_out "
            f"{list(shape)}; found {list(positives.shape)}, {list(weights.shape)} and {list(left_out.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    scores = (queries @ documents.T / temperature).masked_fill(left_out, -torch.inf)
    return (weights * torch.nn.functional.cross_entropy(scores, positives, reduction="none")).mean()
