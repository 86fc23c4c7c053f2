"""Which pairs train, with which weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.documents import DocumentStore
from lrat_ray.training.examples import TrainingDataError, join, select
from tests.training.conftest import pair


def test_only_relevant_pairs_with_a_weight_train() -> None:
    pairs = [pair(0, weight=3.0), pair(1, relevant=False, weight=0.0), pair(2, weight=0.0), pair(3, weight=1.0)]
    selection = select(pairs, max_pairs=None, seed=1)
    assert selection.positions.tolist() == [0, 3]
    assert selection.weights.tolist() == [1.5, 0.5]  # divided by their mean, 2
    assert (selection.pairs, selection.irrelevant, selection.weightless, selection.not_sampled) == (4, 1, 1, 0)


@given(weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), limit=st.integers(1, 30), seed=st.integers(0, 9))
def test_trained_weights_have_mean_one(weights: list[float], limit: int, seed: int) -> None:
    selection = select([pair(i % 40, weight=w) for i, w in enumerate(weights)], max_pairs=limit, seed=seed)
    assert selection.weights.mean() == pytest.approx(1)
    assert len(selection.positions) == min(limit, len(weights))
    assert selection.not_sampled == len(weights) - len(selection.positions)
    original = np.array(weights)[selection.positions]
    assert selection.weights == pytest.approx(original / original.mean())


def test_a_sample_depends_on_the_seed_alone() -> None:
    pairs = [pair(i) for i in range(40)]
    first, again, other = (select(pairs, max_pairs=8, seed=seed).positions.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_bad_weight_names_its_pair(weight: float) -> None:
    with pytest.raises(TrainingDataError, match=r"pair 'p1' \(row 1\): weight"):
        select([pair(0), pair(1, weight=weight)], max_pairs=None, seed=1)


def test_nothing_to_train_on() -> None:
    with pytest.raises(TrainingDataError, match="none of the 3 pairs can train: 2 are not relevant, 1 weigh 0"):
        select([pair(0, relevant=False), pair(1, relevant=False), pair(2, weight=0.0)], max_pairs=None, seed=1)


def test_join_knows_everything_that_helped_the_question(store_uri: str) -> None:
    """Two pairs of one question: each knows the other's positive, also one that was not sampled or weighs nothing."""
    pairs = [
        pair(4, query_id="q", negative_docids=["d9", "d4", "d9", "d8"]),
        pair(5, query_id="q", weight=0.0),
        pair(6),
    ]
    store = DocumentStore.open(store_uri)
    first, second = join(pairs, select(pairs, max_pairs=None, seed=1), store)
    assert (first.pair_id, first.positive, first.negatives, first.relevant) == ("p4", 4, [9, 8], [4, 5])
    assert (second.pair_id, second.relevant) == ("p6", [6])


@pytest.mark.parametrize(("field", "role"), [("positive_docid", "positive"), ("negative_docids", "negative")])
def test_a_missing_document_names_its_pair(store_uri: str, field: str, role: str) -> None:
    pairs = [pair(0), pair(1, **{field: "gone" if role == "positive" else ["gone"]})]
    with pytest.raises(TrainingDataError, match=rf"pair 'p1': {role} docid 'gone' is not in the corpus .*config key: corpus"):
        list(join(pairs, select(pairs, max_pairs=None, seed=1), DocumentStore.open(store_uri)))
