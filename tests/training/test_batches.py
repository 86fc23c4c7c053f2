"""Batches: what each step sees, and that workers see it together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.config import Train
from lrat_ray.training.batches import Batch, BatchPlan, epoch_order, plan_batch, steps_per_epoch
from lrat_ray.training.examples import Example, TrainingDataError
from lrat_ray.training.loss import weighted_info_nce
from lrat_ray.training.negatives import choose_negatives
from lrat_ray.training.tokens import TrainingTable
from tests.training.tables import document_length, example, example_lists, make_table, train

# Examples i ask for document i and have the three negatives i + 7, i + 11 and i + 13.
TWELVE = [example(i, positive=i, negatives=[i + 7, i + 11, i + 13]) for i in range(12)]
SEVERAL = settings(max_examples=40)


@pytest.fixture(scope="module")
def table() -> TrainingTable:
    return make_table(TWELVE)


def plan(table: TrainingTable, config: Train, *, seed: int = 1, epoch: int = 0, place: int = 0) -> BatchPlan:
    return plan_batch(table, config, seed=seed, epoch=epoch, place=place)


def take_all(plan: BatchPlan, table: TrainingTable, workers: int, tokens: int = 100) -> list[Batch]:
    return [plan.take(table, rank, workers, tokens) for rank in range(workers)]


def example_of(query: np.ndarray) -> int:
    return int(query[0]) // 10


def slot_rows(parts: Sequence[Batch], rank: int) -> list[int]:
    """The document in each slot of a worker, with all workers' documents put together where that is asked for."""
    documents = parts[rank].documents
    if parts[rank].gathered:
        documents = [document for dealt in zip(*(part.documents for part in parts), strict=True) for document in dealt]
    return [int(documents[slot][0]) for slot in parts[rank].slots]


# --- epochs -------------------------------------------------------------------------------------------------------------------


@given(examples=st.integers(1, 50), batch_size=st.integers(1, 9), accumulation=st.integers(1, 3), epoch=st.integers(0, 3))
def test_an_epoch_sees_every_example_in_whole_steps(examples: int, batch_size: int, accumulation: int, epoch: int) -> None:
    arguments = {"batch_size": batch_size, "accumulation_steps": accumulation, "seed": 5, "epoch": epoch}
    order = epoch_order(examples, **arguments)
    steps = steps_per_epoch(examples, train(batch_size=batch_size, accumulation_steps=accumulation))
    assert order.shape == (steps * accumulation, batch_size)
    assert 0 <= order.size - examples < batch_size * accumulation
    assert sorted(order.reshape(-1)[:examples].tolist()) == list(range(examples))
    assert (order.reshape(-1)[examples:] == np.resize(order.reshape(-1)[:examples], order.size)[examples:]).all()
    epoch_order.cache_clear()
    assert (order == epoch_order(examples, **arguments)).all()


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(epoch_order(30, batch_size=30, accumulation_steps=1, seed=s, epoch=e)[0].tolist()) for s in (1, 2) for e in (0, 1)
    }
    assert len(orders) == 4


def test_the_batches_of_an_epoch_hold_its_examples(table: TrainingTable) -> None:
    config = train(accumulation_steps=2)
    places = range(steps_per_epoch(len(table), config) * 2)
    seen = [i for place in places for i in plan(table, config, place=place).examples.tolist()]
    assert len(seen) == 16 and set(seen) == set(range(12))


# --- groups -------------------------------------------------------------------------------------------------------------------


def test_what_an_example_gets_depends_on_seed_epoch_and_example_alone(table: TrainingTable) -> None:
    def negatives(batch_size: int, **changes: int) -> dict[int, list[int]]:
        p = plan(table, train(group_size=3, batch_size=batch_size), **changes)
        return dict(zip(p.examples.tolist(), p.groups.tolist(), strict=True))

    whole = negatives(12)
    assert all(whole[i] == group for place in range(3) for i, group in negatives(4, place=place).items())
    assert whole == negatives(12) != negatives(12, epoch=1)
    assert negatives(12, epoch=1) != negatives(12, seed=2)


def test_a_group_is_the_positive_and_a_sample_of_its_negatives(table: TrainingTable) -> None:
    p = plan(table, train(group_size=3, batch_size=12))
    for i, (positive, *negatives) in zip(p.examples.tolist(), p.groups.tolist(), strict=True):
        assert positive == i and len(set(negatives)) == 2 and set(negatives) < {i + 7, i + 11, i + 13}


def test_without_trajectory_negatives_there_is_the_positive_alone(table: TrainingTable) -> None:
    p = plan(table, train(trajectory_negatives=False))
    assert p.groups.tolist() == [[i] for i in p.examples.tolist()]


def test_too_few_negatives() -> None:
    few = example(0, positive=0, negatives=[7], relevant=[3])
    table = make_table([few, example(1, positive=1, negatives=[7, 8, 9]), example(2, positive=3, negatives=[4])])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        again = choose_negatives(table, 0, np.array(few.relevant), size=3, fill="resample", rng=rng).tolist()
        assert again == [7, 7, 7]
        own, *others = choose_negatives(table, 0, np.array(few.relevant), size=3, fill="other_queries", rng=rng).tolist()
        # Neither its own again nor document 3, which is known to help its question.
        assert own == 7 and len(set(others)) == 2 and set(others) <= {1, 4, 8, 9}
    everything = choose_negatives(table, 0, np.array(few.relevant), size=7, fill="other_queries", rng=rng).tolist()
    assert set(everything) == {1, 4, 7, 8, 9}  # and two of them a second time


@pytest.mark.parametrize("fill", ["other_queries", "resample"])
def test_no_negatives_of_its_own(fill: Any) -> None:
    table = make_table([example(0, positive=0, relevant=[3]), example(1, positive=1, negatives=[7]), example(2, positive=3)])
    for seed in range(20):
        chosen = choose_negatives(table, 0, np.array([0, 3]), size=2, fill=fill, rng=np.random.default_rng(seed))
        assert sorted(chosen.tolist()) == [1, 7]


def test_other_documents_are_not_those_held_out() -> None:
    """What validation asks for must not be pushed away from other queries in training."""
    table = make_table([example(0, positive=0), example(1, positive=1), example(2, positive=2, held_out=True)])
    assert plan(table, train(batch_size=2, group_size=2)).groups[:, 1].tolist() in ([0, 1], [1, 0])


@pytest.mark.parametrize("fill", ["other_queries", "resample"])
def test_no_negative_anywhere(fill: str) -> None:
    table = make_table([example(0, positive=0, relevant=[1]), example(1, positive=1, relevant=[0])])
    with pytest.raises(TrainingDataError, match="pair 'p[01]' has no negatives.*mine more trajectories"):
        plan(table, train(batch_size=2, fill_negatives=fill))


def test_each_query_variant_is_drawn_a_quarter_of_the_time() -> None:
    table = make_table([example(i, positive=i) for i in range(400)], variants=4)
    config = train(batch_size=400, trajectory_negatives=False)
    plans = [plan(table, config, epoch=epoch) for epoch in range(2)]
    first, second = (np.bincount(p.variants, minlength=4) for p in plans)
    assert all(abs(count - 100) < 35 for count in [*first, *second])
    drawn = [dict(zip(p.examples.tolist(), p.variants.tolist(), strict=True)) for p in plans]
    assert drawn[0] != drawn[1]
    batch = plans[0].take(table, 0, 1, 100)
    assert [int(query[0]) % 10 for query in batch.queries] == plans[0].variants.tolist()


# --- one worker's part --------------------------------------------------------------------------------------------------------


def test_each_document_is_encoded_once_and_every_slot_finds_its_own() -> None:
    """Examples 0 and 7 share documents: document 7 is the positive of one and a negative of the other."""
    table = make_table([TWELVE[0], TWELVE[7]])
    p = plan(table, train(batch_size=2))
    (batch,) = take_all(p, table, 1)
    assert sorted(int(document[0]) for document in batch.documents) == [0, 7, 11, 13, 14, 18, 20]
    for sequences in (batch.queries, batch.documents):
        assert [len(s) for s in sequences] == sorted(len(s) for s in sequences)
    assert [len(query) for query in batch.queries] == p.query_lengths.tolist()
    assert [len(document) for document in batch.documents] == p.document_lengths.tolist()
    assert slot_rows([batch], 0) == p.groups.reshape(-1).tolist()
    assert batch.positives.tolist() == [0, 4] and not batch.gathered
    assert [example_of(query) for query in batch.queries] == [(0, 7)[i] for i in p.examples]
    of_zero = [example_of(query) for query in batch.queries].index(0)
    masked = {slot for slot in range(8) if batch.left_out[of_zero, slot]}
    assert masked == set()  # 7 is the other's positive, and a negative of 0


def test_by_hand_what_is_left_out() -> None:
    """Query 0 wants document 10 and knows 11 to help; query 1 wants 11 and was mined with 10 and 12."""
    table = make_table([example(0, positive=10, negatives=[12], relevant=[11]), example(1, positive=11, negatives=[10, 12])])
    (batch,) = take_all(plan(table, train(batch_size=2, group_size=2)), table, 1)
    rows, order = slot_rows([batch], 0), [example_of(query) for query in batch.queries]
    own, other = order.index(0), order.index(1)
    assert [rows[slot] for slot in range(4) if batch.left_out[own, slot]] == [row for row in rows[2 * other :][:2] if row != 12]
    assert not batch.left_out[other].any()


def test_weights_are_those_of_the_whole_batch(table: TrainingTable) -> None:
    for weighting in ("paper", "batch_normalised", "none"):
        p = plan(table, train(batch_size=4, weighting=weighting))
        raw = table.weights[p.examples]
        expected = {"paper": raw, "batch_normalised": raw / raw.mean(), "none": np.ones(4)}[weighting]
        for rank, part in enumerate(take_all(p, table, 2)):
            assert part.weights.dtype == np.float32
            assert part.weights == pytest.approx(expected[rank::2])


SETTINGS = st.fixed_dictionaries(
    {
        "in_batch_negatives": st.booleans(),
        "cross_worker_negatives": st.booleans(),
        "fill_negatives": st.sampled_from(["other_queries", "resample"]),
        "group_size": st.integers(2, 6),
    }
)


@SEVERAL
@given(examples=example_lists(), changes=SETTINGS, workers=st.sampled_from([1, 2, 4]), place=st.integers(0, 1))
def test_workers_hold_one_batch_together(examples: list[Example], changes: dict[str, Any], workers: int, place: int) -> None:
    """Queries, groups and what counts as a negative, against a reference that goes slot by slot."""
    table = make_table(examples)
    config = train(batch_size=8, accumulation_steps=2, **changes)
    try:
        p = plan(table, config, epoch=2, place=place)
    except TrainingDataError:
        return  # all documents help one question
    parts = take_all(p, table, workers)
    in_batch, across = changes["in_batch_negatives"], changes["cross_worker_negatives"]
    assert {part.gathered for part in parts} == {in_batch and across and workers > 1}
    assert [
        example_of(q) for dealt in zip(*(part.queries for part in parts), strict=True) for q in dealt
    ] == p.examples.tolist()
    for rank, part in enumerate(parts):
        rows = slot_rows(parts, rank)
        mine = range(rank, 8, workers)
        there = range(8) if part.gathered else mine  # queries whose groups have slots here
        assert rows == [row for query in there for row in p.groups[query].tolist()]
        if not part.gathered:
            assert {int(document[0]) for document in part.documents} == set(rows)
        for place_here, query in enumerate(mine):
            asked = examples[p.examples[query]]
            slots = [(other, j) for other in there for j in range(config.group_size)]
            expected = [
                (other, j) != (query, 0) and ((other != query and not in_batch) or int(p.groups[other, j]) in asked.relevant)
                for other, j in slots
            ]
            assert part.left_out[place_here].tolist() == expected
            assert slots[part.positives[place_here]] == (query, 0)
            contrasted = [row for row, is_out in zip(rows, expected, strict=True) if not is_out]
            assert [row for row in contrasted if row in asked.relevant] == [asked.positive]


@SEVERAL
@given(examples=example_lists(), changes=SETTINGS, workers=st.sampled_from([1, 2, 4]), tokens=st.integers(1, 60))
def test_workers_encode_equally_much_and_everything(
    examples: list[Example], changes: dict[str, Any], workers: int, tokens: int
) -> None:
    table = make_table(examples)
    try:
        p = plan(table, train(batch_size=8, **changes))
    except TrainingDataError:
        return
    parts = take_all(p, table, workers, tokens)
    assert len({str(part.query_cuts) for part in parts}) == len({str(part.document_cuts) for part in parts}) == 1
    encoded: Counter[int] = Counter()
    for part in parts:
        for sequences, cuts in ((part.queries, part.query_cuts), (part.documents, part.document_cuts)):
            assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(len(sequences)))
            padded = [max(map(len, sequences[cut])) * len(sequences[cut]) for cut in cuts]
            assert all(n <= tokens or cut.stop - cut.start == 1 for n, cut in zip(padded, cuts, strict=True))
        for document in part.documents:
            assert len(document) == document_length(int(document[0])) and len(set(document.tolist())) == 1
        encoded.update(int(document[0]) for document in part.documents)
    assert set(encoded) == set(p.groups.reshape(-1).tolist())
    if parts[0].gathered or workers == 1:  # each once, but for the shortest, which fills up
        assert sum(encoded.values()) - len(encoded) < workers


@SEVERAL
@given(
    examples=example_lists(),
    in_batch=st.booleans(),
    weighting=st.sampled_from(["paper", "batch_normalised", "none"]),
    workers=st.sampled_from([2, 4]),
)
def test_workers_have_the_loss_of_one(examples: list[Example], in_batch: bool, weighting: str, workers: int) -> None:
    table = make_table(examples)
    try:
        p = plan(table, train(batch_size=8, in_batch_negatives=in_batch, weighting=weighting))
    except TrainingDataError:
        return
    (alone,) = losses(take_all(p, table, 1))
    assert np.mean(losses(take_all(p, table, workers))) == pytest.approx(alone, rel=1e-5, abs=1e-7)


def losses(parts: Sequence[Batch]) -> list[float]:
    """The loss of each worker, under a made-up encoder: a unit vector that follows from the first token alone."""

    def embed(sequences: Sequence[np.ndarray]) -> torch.Tensor:
        vectors = np.stack([np.random.default_rng(int(s[0])).normal(size=6) for s in sequences])
        return torch.nn.functional.normalize(torch.from_numpy(vectors))

    encoded = [embed(part.documents) for part in parts]
    gathered = torch.stack(encoded, dim=1).flatten(0, 1)  # what `gather_interleaved` gives
    return [
        float(
            weighted_info_nce(
                embed(part.queries),
                (gathered if part.gathered else own)[torch.from_numpy(part.slots)],
                *map(torch.from_numpy, (part.positives, part.left_out, part.weights)),
                temperature=0.1,
            )
        )
        for part, own in zip(parts, encoded, strict=True)
    ]


def test_a_batch_that_does_not_divide(table: TrainingTable) -> None:
    with pytest.raises(ValueError, match="8 queries cannot be dealt out evenly to 3 workers"):
        plan(table, train(batch_size=8)).take(table, 0, 3, 100)
