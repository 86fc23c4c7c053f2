"""The negatives of one example's group: its own, and where there are too few, what fills the group up."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lrat_ray.training.examples import TrainingDataError
from lrat_ray.training.tokens import TrainingTable

Fill = Literal["other_queries", "resample"]

_ROUNDS = 8


def choose_negatives(
    table: TrainingTable, i: int, relevant: np.ndarray, *, size: int, fill: Fill, rng: np.random.Generator
) -> np.ndarray:
    """[size] rows of negatives of example i, none of them among `relevant`, the rows that are no negative of it.

    Enough negatives of its own: a sample. Fewer: all of them, and documents of other queries, or (resample, the published
    recipe) its own drawn again with replacement. None: documents of other queries in either case. Those are distinct as long as
    the table has enough. Raises TrainingDataError if there is no document at all that could be a negative.
    """
    own = table.negatives(i)
    if len(own) >= size:
        return rng.choice(own, size, replace=False)
    missing = size - len(own)
    if fill == "resample" and len(own) > 0:
        return np.concatenate([own, rng.choice(own, missing)])
    chosen = np.concatenate([own, other_documents(table, np.concatenate([relevant, own]), size=missing, rng=rng)])
    if len(chosen) == 0:
        raise TrainingDataError(
            f"pair {table.pair_id(i)!r} has no negatives, and the other pairs have no document that is not relevant to it; "
            "mine more trajectories"
        )
    return np.concatenate([chosen, rng.choice(chosen, size - len(chosen))])


def other_documents(table: TrainingTable, excluded: np.ndarray, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """At most `size` distinct rows of documents that the table's examples name, none excluded; fewer only if there are fewer.

    Drawn and drawn again, for listing what is left would take time in proportion to the table for every example.
    """
    rows = table.named_rows
    found: list[int] = []
    refused = set(excluded.tolist())
    for _ in range(_ROUNDS):
        for row in rows[rng.integers(len(rows), size=2 * size)].tolist():
            if row not in refused:
                found.append(row)
                refused.add(row)
                if len(found) == size:
                    return np.array(found)
    left = np.setdiff1d(rows, np.fromiter(refused, np.int64, len(refused)))  # a small table, or nearly all of it excluded
    more = rng.choice(left, min(size - len(found), len(left)), replace=False)
    return np.concatenate([np.array(found, dtype=np.int64), more])
