"""How high the encoder ranks what helped: the positive of each held-out pair among the candidates that it was mined with.

Pessimistic about ties, as a collapsed encoder, which finds all documents alike, must not look perfect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lrat_ray.training.dealing import common_cuts, places_in, short_to_long, stack
from lrat_ray.training.tokens import TrainingTable

METRICS = ("ndcg@10", "recall@1", "recall@5", "mrr")

Embed = Callable[[list[np.ndarray], list[slice]], np.ndarray]
"""Token arrays and their sub-batches -> [sequences, dim] embeddings of length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Q held-out pairs of one worker, ranked at a time. Each distinct document stands once.

    queries: Q token arrays; documents: M token arrays; query_cuts and document_cuts: their sub-batches, the same on every
    worker. candidates: [Q, C] documents of each pair, the positive first; -1 where a pair has fewer than C. counts: [Q] bool,
    False for a pair that is there a second time to fill up.
    """

    queries: list[np.ndarray]
    documents: list[np.ndarray]
    query_cuts: list[slice]
    document_cuts: list[slice]
    candidates: np.ndarray
    counts: np.ndarray


def validation_blocks(
    table: TrainingTable, rank: int, workers: int, tokens_per_forward: int, *, variant: int = 0, pairs_per_block: int = 64
) -> list[Block]:
    """This worker's share of the held-out pairs; on every worker equally many blocks, of equally many sequences, cut alike.

    table: the validation part; variant: of the queries (of a reasoning template, 3 is the full one). A pair's candidates are
    its positive and all its negatives. A pair without negatives says nothing and is in no block; if that is all of them, there
    is no block.
    """
    pairs = np.array([i for i in range(len(table)) if len(table.negatives(i))], dtype=np.int64)
    if len(pairs) == 0:
        return []
    per_worker = -(-len(pairs) // workers)
    blocks = -(-per_worker // pairs_per_block)
    size = -(-per_worker // blocks)
    # Neighbours in the table often ask one question and share documents, so each block takes a run of them.
    shape = (blocks, workers, size)
    shares = np.resize(pairs, shape)
    counts = (np.arange(blocks * workers * size) < len(pairs)).reshape(shape)
    return [_block(table, shares[b], counts[b], rank, tokens_per_forward, variant=variant) for b in range(blocks)]


def _block(
    table: TrainingTable, shares: np.ndarray, counts: np.ndarray, rank: int, tokens_per_forward: int, *, variant: int
) -> Block:
    """shares, counts: [K, Q], all workers' pairs of a block and which of them count."""
    by_length = np.argsort(table.query_lengths[shares, variant], axis=1, kind="stable")
    shares, counts = (np.take_along_axis(array, by_length, axis=1) for array in (shares, counts))
    groups = [np.concatenate([_candidates(table, i) for i in share]) for share in shares.tolist()]
    documents = stack([short_to_long(table, rows) for rows in groups])  # [K, M]
    own = [places_in(documents[rank], _candidates(table, i)) for i in shares[rank].tolist()]
    candidates = np.full((len(own), max(map(len, own))), -1)
    for row, places in zip(candidates, own, strict=True):
        row[: len(places)] = places
    return Block(
        queries=table.queries(shares[rank], np.full(len(own), variant)),
        documents=table.documents(documents[rank]),
        query_cuts=common_cuts(table.query_lengths[shares, variant], tokens_per_forward),
        document_cuts=common_cuts(table.document_lengths(documents), tokens_per_forward),
        candidates=candidates,
        counts=counts[rank],
    )


def _candidates(table: TrainingTable, i: int) -> np.ndarray:
    return np.concatenate([table.positives[i : i + 1], table.negatives(i)])


def measure(embed: Embed, blocks: Sequence[Block]) -> np.ndarray:
    """[len(METRICS) + 1] float64: `ranking_sums` of a worker's blocks; their sum over workers is what `ranking_metrics` takes.

    Every worker calls `embed` equally often, on sub-batches of equally many sequences.
    """
    sums = np.zeros(len(METRICS) + 1)
    for block in blocks:
        queries = embed(block.queries, block.query_cuts)  # [Q, dim]
        documents = embed(block.documents, block.document_cuts)  # [M, dim]
        scores = np.take_along_axis(queries @ documents.T, block.candidates, axis=1)  # [Q, C]; -1 takes some score
        sums += ranking_sums(rank_of_positive(scores, block.candidates >= 0)[block.counts])
    return sums


def rank_of_positive(scores: np.ndarray, is_candidate: np.ndarray) -> np.ndarray:
    """[Q] rank of the first candidate of each query, from 1: behind all that score as high, and all whose score is no number.

    scores: [Q, C]; is_candidate: [Q, C], False where a query has fewer than C candidates.

    >>> rank_of_positive(np.array([[0.5, 0.1, 0.9], [0.5, 0.5, 0.5]]), np.array([[True, True, True], [True, True, False]]))
    array([2, 2])
    """
    ahead = ~(scores[:, 1:] < scores[:, :1]) & is_candidate[:, 1:]
    return 1 + ahead.sum(axis=1)


def ranking_sums(ranks: np.ndarray) -> np.ndarray:
    """[len(METRICS) + 1] float64: the sum of each metric over queries with one positive at these ranks, then their number.

    nDCG@10 is 1 / log2(1 + rank) up to rank 10; the ideal ranking has 1. MRR is not cut off.
    """
    gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
    return np.array([gains.sum(), (ranks <= 1).sum(), (ranks <= 5).sum(), (1 / ranks).sum(), len(ranks)], dtype=np.float64)


def ranking_metrics(sums: np.ndarray) -> dict[str, float]:
    """Metrics in [0, 1], means over the pairs, and `pairs`, their number. Raises ValueError for no pairs.

    >>> ranking_metrics(ranking_sums(np.array([1, 3])))
    {'ndcg@10': 0.75, 'recall@1': 0.5, 'recall@5': 1.0, 'mrr': 0.6666666666666666, 'pairs': 2.0}
    """
    *totals, pairs = sums.tolist()
    if pairs == 0:
        raise ValueError("no held-out pair was ranked: metrics of none are unknown")
    return {**{name: total / pairs for name, total in zip(METRICS, totals, strict=True)}, "pairs": pairs}
