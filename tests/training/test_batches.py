"""Batches: what each step sees, and that workers see it together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair
from lrat_ray.training import tokens
from lrat_ray.training.batches import Batch, epoch_order, left_out, make_batch, negative_group, shard
from lrat_ray.training.examples import TrainingDataError, join, select
from lrat_ray.training.tokens import TrainingTable
from tests.training.conftest import pair


def tokenize(texts: list[str]) -> list[list[int]]:
    return [[len(word) for word in text.split()] for text in texts]


def make_table(folder: Path, pairs: list[Pair], store_uri: str) -> TrainingTable:
    store = DocumentStore.open(store_uri)
    examples = join(pairs, select(pairs, max_pairs=None, seed=1), store)
    rows = tokens.write_examples(str(folder / tokens.EXAMPLES), examples, tokenize)
    tokens.write_documents(str(folder / tokens.DOCUMENTS), rows, store, tokenize)
    return TrainingTable(str(folder))


@pytest.fixture
def table(tmp_path: Path, store_uri: str) -> TrainingTable:
    return make_table(tmp_path, [pair(i) for i in range(12)], store_uri)


def batch_of(table: TrainingTable, examples: list[int], *, in_batch_negatives: bool = True, epoch: int = 0) -> Batch:
    return make_batch(table, np.array(examples), group_size=4, in_batch_negatives=in_batch_negatives, seed=1, epoch=epoch)


def test_the_table_gives_back_what_was_written(table: TrainingTable, store_uri: str) -> None:
    assert len(table) == 12
    assert table.pair_id(3) == "p3"
    assert table.query(3).tolist() == tokenize([pair(3).query])[0]
    assert (table.positive(3), table.negatives(3).tolist(), table.relevant(3).tolist()) == (3, [10, 14, 16], [3])
    assert table.document(14).tolist() == tokenize(DocumentStore.open(store_uri).passages([14]))[0]
    assert table.document_rows.tolist() == sorted({i + k for i in range(12) for k in (0, 7, 11, 13)})


@given(examples=st.integers(1, 50), batch_size=st.integers(1, 20), epoch=st.integers(0, 3))
def test_an_epoch_sees_every_example(examples: int, batch_size: int, epoch: int) -> None:
    order = epoch_order(examples, batch_size=batch_size, seed=5, epoch=epoch)
    assert order.shape == (-(-examples // batch_size), batch_size)
    assert sorted(order.reshape(-1)[:examples].tolist()) == list(range(examples))
    assert (order == epoch_order(examples, batch_size=batch_size, seed=5, epoch=epoch)).all()


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(30, batch_size=30, seed=s, epoch=e)[0].tolist()) for s in (1, 2) for e in (0, 1)}
    assert len(orders) == 4


def test_negatives_are_sampled_resampled_or_borrowed(tmp_path: Path, store_uri: str) -> None:
    many, few, none = pair(0, negative_docids=["d7", "d8", "d9", "d10"]), pair(1, negative_docids=["d7"]), pair(2)
    pairs = [many, few, pair(2, negative_docids=[]), pair(3, query_id=none.query_id, negative_docids=[])]
    table = make_table(tmp_path, pairs, store_uri)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sampled = negative_group(table, 0, size=3, rng=rng).tolist()
        assert len(set(sampled)) == 3 and set(sampled) <= {7, 8, 9, 10}
        assert negative_group(table, 1, size=3, rng=rng).tolist() == [7, 7, 7]
        # Neither its positive nor d3, which another pair found to help the same question.
        assert set(negative_group(table, 2, size=3, rng=rng).tolist()) <= {0, 1, 7, 8, 9, 10}
    assert set(negative_group(table, 0, size=6, rng=np.random.default_rng(0)).tolist()) == {7, 8, 9, 10}


def test_no_negative_anywhere(tmp_path: Path, store_uri: str) -> None:
    table = make_table(tmp_path, [pair(2, negative_docids=[])], store_uri)
    with pytest.raises(TrainingDataError, match="pair 'p2' has no negatives"):
        negative_group(table, 0, size=3, rng=np.random.default_rng(0))


def test_each_document_is_encoded_once_and_every_slot_finds_its_own(table: TrainingTable) -> None:
    """Examples 0 and 7 share documents: passage 7 is the positive of one and a negative of the other."""
    batch = batch_of(table, [0, 7])
    assert len(batch.documents) == 7 and len(batch.slots) == 8
    lengths = [len(d) for d in batch.documents]
    assert lengths == sorted(lengths)
    by_example = {0: [0, 7, 11, 13], 7: [7, 14, 18, 20]}
    for place, query in enumerate(batch.queries):
        example = 0 if query.tolist() == table.query(0).tolist() else 7
        group = batch.slots[place * 4 : place * 4 + 4]
        assert batch.positives[place] == place * 4
        assert batch.documents[group[0]].tolist() == table.document(by_example[example][0]).tolist()
        assert batch.weights[place] == pytest.approx(table.weight(example))
        found = sorted(batch.documents[slot].tolist() for slot in group)
        assert found == sorted(table.document(row).tolist() for row in by_example[example])


def test_what_is_left_out() -> None:
    groups = np.array([[1, 5], [2, 1], [3, 6]])
    relevant = [np.array([1, 6]), np.array([2]), np.array([3, 5])]
    masked = left_out(groups, relevant, in_batch_negatives=True)
    # Query 0: its positive 1 in another's group, and 6, which helps its question. Query 2: 5.
    assert masked.astype(int).tolist() == [[0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
    alone = left_out(groups, relevant, in_batch_negatives=False)
    assert alone.astype(int).tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]]


def test_mined_negatives_of_the_own_group_stay() -> None:
    """Whether a mined negative is a false one was mining's decision (the naive arm keeps them); batching does not undo it."""
    masked = left_out(np.array([[1, 5], [2, 6]]), [np.array([1, 5]), np.array([2])], in_batch_negatives=True)
    assert not masked[0, :2].any()


def test_a_batch_depends_on_seed_and_epoch_alone(table: TrainingTable) -> None:
    first, again, later = batch_of(table, [0, 1, 2, 3]), batch_of(table, [0, 1, 2, 3]), batch_of(table, [0, 1, 2, 3], epoch=1)
    assert first.slots.tolist() == again.slots.tolist() != later.slots.tolist()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_hold_one_batch_together(table: TrainingTable, workers: int) -> None:
    whole = batch_of(table, list(range(8)))
    parts = [shard(whole, rank, workers) for rank in range(workers)]
    assert len({len(part.documents) for part in parts}) == 1
    dealt = [d for row in zip(*(part.documents for part in parts), strict=True) for d in row]
    assert [d.tolist() for d in dealt[: len(whole.documents)]] == [d.tolist() for d in whole.documents]
    for rank, part in enumerate(parts):
        assert [q.tolist() for q in part.queries] == [q.tolist() for q in whole.queries[rank::workers]]
        assert part.positives.tolist() == whole.positives[rank::workers].tolist()
        assert part.weights.tolist() == whole.weights[rank::workers].tolist()
        assert part.left_out.tolist() == whole.left_out[rank::workers].tolist()
        assert part.slots.tolist() == whole.slots.tolist()


def test_a_batch_that_does_not_divide(table: TrainingTable) -> None:
    with pytest.raises(ValueError, match="8 queries cannot be dealt out evenly to 3 workers"):
        shard(batch_of(table, list(range(8))), 0, 3)
