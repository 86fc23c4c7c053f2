"""Which pairs train, which are held out, with which weights and documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair
from lrat_ray.training import examples
from lrat_ray.training.examples import Example, Selection, TrainingDataError
from tests.training.conftest import pair


def select(pairs: Sequence[Pair], **changes: Any) -> Selection:
    return examples.select(
        pairs, **{"max_pairs": None, "validation_share": 0.0, "validation_max_pairs": 1000, "seed": 1, **changes}
    )


def join(pairs: Sequence[Pair], store_uri: str, *, mask_relevant: bool = True, **changes: Any) -> list[Example]:
    store = DocumentStore.open(store_uri)
    return list(examples.join(pairs, select(pairs, **changes), store, mask_relevant=mask_relevant))


def own_question(i: int, **changes: object) -> Pair:
    return pair(i % 40, **{"pair_id": f"p{i}", "query_id": f"q{i}", "question": f"which {i}", **changes})


# --- select -------------------------------------------------------------------------------------------------------------------


def test_only_relevant_pairs_with_a_weight_train() -> None:
    selection = select([pair(0, weight=3.0), pair(1, relevant=False, weight=0.0), pair(2, weight=0.0), pair(3, weight=1.0)])
    assert selection.positions.tolist() == [0, 3]
    assert selection.weights.tolist() == [1.5, 0.5]  # divided by their mean, 2
    assert not selection.held_out.any()
    assert selection.counts == {
        "pairs": 4,
        "trained": 2,
        "held_out": 0,
        "held_out_questions": 0,
        "irrelevant": 1,
        "weightless": 1,
        "not_sampled": 0,
    }


@given(
    weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30),
    limit=st.integers(1, 30),
    held_out=st.integers(1, 5),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 9),
)
def test_trained_weights_have_mean_one(weights: list[float], limit: int, held_out: int, share: float, seed: int) -> None:
    pairs = [own_question(i, query_id=f"q{i // 3}", weight=w) for i, w in enumerate(weights)]
    selection = select(pairs, max_pairs=limit, validation_share=share, validation_max_pairs=held_out, seed=seed)
    trained = selection.weights[~selection.held_out]
    assert trained.mean() == pytest.approx(1) and 1 <= len(trained) <= limit
    assert selection.held_out.sum() <= held_out
    original = np.array(weights)[selection.positions]
    assert selection.weights == pytest.approx(original / original[~selection.held_out].mean())
    counts = selection.counts
    assert (counts["trained"], counts["held_out"]) == (len(trained), selection.held_out.sum())
    assert counts["pairs"] == counts["trained"] + counts["held_out"] + counts["not_sampled"] == len(weights)


def test_a_sample_depends_on_the_seed_alone() -> None:
    pairs = [pair(i) for i in range(40)]
    first, again, other = (select(pairs, max_pairs=8, seed=seed).positions.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_max_pairs_counts_pairs_that_train() -> None:
    pairs = [own_question(i) for i in range(200)]
    counts = select(pairs, max_pairs=50, validation_share=0.2, validation_max_pairs=10).counts
    assert (counts["trained"], counts["held_out"], counts["not_sampled"]) == (50, 10, 140)
    assert 1 <= counts["held_out_questions"] <= 10


@given(order=st.permutations(range(30)), seeds=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_pairs_are_held_out_by_question(order: list[int], seeds: tuple[int, int]) -> None:
    """Ten questions of three pairs. The last pair of question 0 came in under another query_id, with other capitals."""
    pairs = [own_question(i, query_id=f"q{i // 3}", question=f"Which {i // 3}?") for i in range(30)]
    pairs[2] = own_question(2, query_id="q0-again", question="which  0?")

    def held_out(some: Sequence[Pair], seed: int) -> set[str]:
        selection = select(some, validation_share=0.3, seed=seed)
        return {some[position].pair_id for position in selection.positions[selection.held_out]}

    chosen = held_out(pairs, seeds[0])
    assert all(len({f"p{3 * q + k}" in chosen for k in range(3)}) == 1 for q in range(10))
    assert held_out([pairs[i] for i in order], seeds[1]) == chosen
    assert 0 < len(chosen) < 30


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_bad_weight_names_its_pair(weight: float) -> None:
    with pytest.raises(TrainingDataError, match=r"pair 'p1' \(row 1\): weight"):
        select([pair(0), pair(1, weight=weight)])


def test_nothing_to_train_on() -> None:
    with pytest.raises(TrainingDataError, match="none of the 3 pairs can train: 2 are not relevant, 1 weigh 0"):
        select([pair(0, relevant=False), pair(1, relevant=False), pair(2, weight=0.0)])


# --- join ---------------------------------------------------------------------------------------------------------------------


def test_an_example_carries_what_a_query_template_needs(store_uri: str) -> None:
    (example,) = join([pair(4, search_reasoning="It must be a castle.")], store_uri)
    assert (example.pair_id, example.query, example.question) == ("p4", pair(4).query, pair(4).question)
    assert example.search_reasoning == "It must be a castle." and not example.held_out


def test_join_knows_everything_that_helped_the_question(store_uri: str) -> None:
    """Each pair of a question knows the others' positives, also if one weighs nothing or was asked apart."""
    pairs = [
        pair(4, query_id="q", question="Who?", negative_docids=["d9", "d4", "d9", "d5", "d8", "d7"]),
        pair(5, query_id="q", question="Who?", weight=0.0),
        pair(7, query_id="elsewhere", question="who? "),
        pair(6),
        pair(9, query_id="q", question="Who?", relevant=False),
    ]
    first, third, other = join(pairs, store_uri)
    assert (first.pair_id, first.positive, first.negatives, first.relevant) == ("p4", 4, [9, 8], [4, 5, 7])
    assert (third.pair_id, third.relevant, third.negatives) == ("p7", [4, 5, 7], [14, 18, 20])
    assert (other.pair_id, other.relevant) == ("p6", [6])


def test_without_masking_a_pair_knows_its_own_positive_alone(store_uri: str) -> None:
    pairs = [pair(4, query_id="q", negative_docids=["d9", "d4", "d5", "d9"]), pair(5, query_id="q")]
    first, _ = join(pairs, store_uri, mask_relevant=False)
    assert (first.negatives, first.relevant) == ([9, 5], [4])


def test_held_out_pairs_are_always_masked(store_uri: str) -> None:
    """Arms with and without masking are measured on the same candidates."""
    pairs = [own_question(i, query_id=f"q{i % 2}", question=f"q{i % 2}", negative_docids=["d2", "d3", "d30"]) for i in range(4)]
    for mask_relevant in (True, False):
        held_out = [e for e in join(pairs, store_uri, mask_relevant=mask_relevant, validation_share=0.5) if e.held_out]
        assert len(held_out) == 2
        for example in held_out:
            parity = example.positive % 2
            assert example.relevant == [parity, parity + 2] and example.negatives == [3 - parity, 30]


@pytest.mark.parametrize("at_once", [1, 3, 1024])
def test_join_goes_through_the_pairs_in_order(store_uri: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_PAIRS_AT_ONCE", at_once)
    pairs = [own_question(i, relevant=i % 3 != 0) for i in range(30)]
    joined = join(pairs, store_uri, max_pairs=9, validation_share=0.3)
    selection = select(pairs, max_pairs=9, validation_share=0.3)
    assert [e.pair_id for e in joined] == [f"p{i}" for i in selection.positions]
    assert [e.weight for e in joined] == selection.weights.tolist()
    assert [e.held_out for e in joined] == selection.held_out.tolist() and any(e.held_out for e in joined)
    assert all(e.positive == int(e.pair_id[1:]) for e in joined)


@pytest.mark.parametrize(("field", "role"), [("positive_docid", "positive"), ("negative_docids", "negative")])
def test_a_missing_document_names_its_pair(store_uri: str, field: str, role: str) -> None:
    pairs = [pair(0), pair(1, **{field: "gone" if role == "positive" else ["gone"]})]
    with pytest.raises(TrainingDataError, match=rf"pair 'p1': {role} docid 'gone' is not in the corpus .*config key: corpus"):
        join(pairs, store_uri)
