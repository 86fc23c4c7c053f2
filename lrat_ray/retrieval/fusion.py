"""Reciprocal-rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): rankings are merged by rank, scores are not compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]], *, k: int = 60) -> list[tuple[int, float]]:
    """(row, score) of every row in any ranking, best first: score = sum over rankings of 1 / (k + rank), rank from 1.

    A row that a ranking lacks gets nothing from it. Equal scores stand in row order.
    """
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row] += 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
