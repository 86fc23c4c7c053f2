"""Which pairs train: relevant ones with a positive weight, sampled if so configured, their weights brought back to mean 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair


class TrainingDataError(ValueError):
    """Pairs that cannot be trained on; the message names the pair and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A pair joined with the doc store: documents are rows of it. `relevant`: every document known to help its question."""

    pair_id: str
    query: str
    positive: int
    negatives: list[int]
    relevant: list[int]
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a first pass over the pairs decided. Positions count the pairs from 0; weights belong to the positions."""

    positions: np.ndarray
    weights: np.ndarray
    relevant_docids: dict[str, set[str]]
    pairs: int
    irrelevant: int
    weightless: int
    not_sampled: int


def select(pairs: Iterable[Pair], *, max_pairs: int | None, seed: int) -> Selection:
    """Choose the pairs to train on, in one pass that keeps no text.

    Relevant pairs with weight > 0 train, or a seeded sample of `max_pairs` of them. Their weights are divided by their mean,
    for LRAT eq. 3 takes mu_raw over what is trained on. Raises TrainingDataError for a negative or non-finite weight, or if no
    pair is left.
    """
    positions: list[int] = []
    weights: list[float] = []
    relevant_docids: dict[str, set[str]] = {}
    total = irrelevant = weightless = 0
    for position, pair in enumerate(pairs):
        total += 1
        if not math.isfinite(pair.weight) or pair.weight < 0:
            raise TrainingDataError(
                f"pair {pair.pair_id!r} (row {position}): weight {pair.weight} is no finite number >= 0; mine the pairs again"
            )
        if not pair.relevant:
            irrelevant += 1
            continue
        relevant_docids.setdefault(pair.query_id, set()).add(pair.positive_docid)
        if pair.weight == 0:
            weightless += 1
            continue
        positions.append(position)
        weights.append(pair.weight)
    if not positions:
        raise TrainingDataError(
            f"none of the {total} pairs can train: {irrelevant} are not relevant, {weightless} weigh 0. "
            "Mine more trajectories, or look at the judge's verdicts (section judge)"
        )
    chosen = np.arange(len(positions))
    if max_pairs is not None and max_pairs < len(positions):
        chosen = np.sort(np.random.default_rng(seed).choice(len(positions), max_pairs, replace=False))
    chosen_weights = np.array(weights)[chosen]
    return Selection(
        positions=np.array(positions)[chosen],
        weights=chosen_weights / chosen_weights.mean(),
        relevant_docids=relevant_docids,
        pairs=total,
        irrelevant=irrelevant,
        weightless=weightless,
        not_sampled=len(positions) - len(chosen),
    )


def join(pairs: Iterable[Pair], selection: Selection, store: DocumentStore) -> Iterator[Example]:
    """The selected pairs (in a second pass over the same pairs) with their documents as rows of the doc store.

    A pair's own positive is never among its negatives. Raises TrainingDataError naming a pair whose document the corpus lacks.
    """
    chosen = iter(zip(selection.positions.tolist(), selection.weights.tolist(), strict=True))
    position, weight = next(chosen)
    for i, pair in enumerate(pairs):
        if i != position:
            continue
        negatives = dict.fromkeys(docid for docid in pair.negative_docids if docid != pair.positive_docid)
        relevant = sorted(selection.relevant_docids[pair.query_id])
        yield Example(
            pair_id=pair.pair_id,
            query=pair.query,
            positive=_row(store, pair.positive_docid, pair, "positive"),
            negatives=[_row(store, docid, pair, "negative") for docid in negatives],
            relevant=[_row(store, docid, pair, "relevant") for docid in relevant],
            weight=weight,
        )
        position, weight = next(chosen, (-1, 0.0))


def _row(store: DocumentStore, docid: str, pair: Pair, role: str) -> int:
    try:
        return store.row(docid)
    except KeyError:
        raise TrainingDataError(
            f"pair {pair.pair_id!r}: {role} docid {docid!r} is not in the corpus ({store.uri}). Train with the corpus that the "
            "trajectories were collected on (config key: corpus)"
        ) from None
