"""How sequences are dealt out to workers and cut into sub-batches: on every worker equally many, cut alike.

ZeRO-3 gathers weights in every forward pass, so that workers with unequal numbers of them would wait for one another for ever.
All of it follows from lengths that every worker has: they need not talk about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lrat_ray.training.tokens import TrainingTable


def short_to_long(table: TrainingTable, rows: np.ndarray) -> np.ndarray:
    """The distinct ones of some rows of documents, by the length of the documents."""
    distinct = np.unique(rows)
    return distinct[np.argsort(table.document_lengths(distinct), kind="stable")]


def deal(items: np.ndarray, workers: int) -> np.ndarray:
    """[K, M] items dealt out in turn to K workers. The first one, the shortest, is repeated to fill up.

    >>> deal(np.array([1, 2, 3, 4, 5]), 2).tolist()
    [[1, 2, 4], [1, 3, 5]]
    """
    full = np.concatenate([np.repeat(items[:1], -len(items) % workers), items])
    return full.reshape(-1, workers).T


def stack(shares: Sequence[np.ndarray]) -> np.ndarray:
    """[K, M] items of K workers that have each their own. A worker's first one, its shortest, is repeated to fill up.

    >>> stack([np.array([1, 2, 4]), np.array([3])]).tolist()
    [[1, 2, 4], [3, 3, 3]]
    """
    most = max(map(len, shares))
    return np.stack([np.concatenate([np.repeat(share[:1], most - len(share)), share]) for share in shares])


def places_in(known: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Where each item stands among the known ones (the first place, if there are more); of the shape of `items`.

    >>> places_in(np.array([7, 7, 3]), np.array([3, 7])).tolist()
    [2, 0]
    """
    order = np.argsort(known, kind="stable")
    return order[np.searchsorted(known[order], items)]


def common_cuts(lengths: np.ndarray, tokens: int) -> list[slice]:
    """Sub-batches of M sequences that hold at most `tokens` tokens on every one of K workers. lengths: [K, M].

    Where all are ordered by length, the sequences at a place are about as long on each worker, so cutting alike costs little.
    """
    return list(sub_batches(lengths.max(axis=0).tolist(), tokens))


def sub_batches(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Cut sequences into runs of at most `tokens` tokens, padding included (a longer sequence stands alone).

    >>> list(sub_batches([2, 2, 3, 9], 8))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, longest = 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and longest * (i + 1 - start) > tokens:
            yield slice(start, i)
            start, longest = i, length
    if lengths:
        yield slice(start, len(lengths))
