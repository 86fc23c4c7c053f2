"""The training table: what is written is what is read, in parts, variants and record batches."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from lrat_ray.documents import DocumentStore
from lrat_ray.training import tokens
from lrat_ray.training.tokens import TrainingTable
from tests.training.tables import Passages, document_length, example, make_table, query_texts, tokenize


def test_both_parts_and_their_documents(tmp_path: Path) -> None:
    trained = [example(0, positive=3, negatives=[9, 1], relevant=[4]), example(1, positive=9, weight=2.0)]
    held_out = [example(2, positive=20, negatives=[3], held_out=True)]
    rows = tokens.write_examples(
        str(tmp_path), [trained[0], *held_out, trained[1]], queries=lambda e: query_texts(e, 1), tokenize=tokenize
    )
    assert rows.tolist() == [1, 3, 9, 20]  # 4 is known to help, but nobody encodes it
    tokens.write_documents(str(tmp_path), rows, cast(DocumentStore, Passages()), tokenize)

    table, validation = TrainingTable(str(tmp_path)), TrainingTable(str(tmp_path), part="validation")
    assert (len(table), len(validation)) == (2, 1)
    assert [table.pair_id(0), table.pair_id(1), validation.pair_id(0)] == ["p0", "p1", "p2"]
    assert table.positives.tolist() == [3, 9] and table.weights.tolist() == [0.5, 2.0]
    assert table.negatives(0).tolist() == [9, 1] and table.negatives(1).tolist() == []
    assert [r.tolist() for r in table.relevant(np.array([1, 0]))] == [[9], [3, 4]]
    assert table.queries(np.array([1]), np.array([0]))[0].tolist() == tokenize(query_texts(trained[1], 1))[0]
    assert [d.tolist() for d in table.documents(np.array([9, 1]))] == tokenize(Passages().passages([9, 1]))
    assert table.document_lengths(np.array([[1, 20], [3, 9]])).tolist() == [
        [document_length(1), document_length(20)],
        [document_length(3), document_length(9)],
    ]
    assert table.document_rows.tolist() == validation.document_rows.tolist() == [1, 3, 9, 20]
    assert table.named_rows.tolist() == [1, 3, 9] and validation.named_rows.tolist() == [3, 20]


def test_query_variants() -> None:
    examples = [example(i, positive=i) for i in range(5)]
    table = make_table(examples, variants=4)
    assert table.query_lengths.shape == (5, 4)
    taken = table.queries(np.array([4, 0, 4]), np.array([3, 2, 0]))
    assert [query.tolist() for query in taken] == [
        tokenize(query_texts(examples[i], 4))[v] for i, v in ((4, 3), (0, 2), (4, 0))
    ]
    assert [len(q) for q in table.queries(np.full(4, 2), np.arange(4))] == table.query_lengths[2].tolist()


def test_an_empty_part() -> None:
    table = make_table([example(0, positive=1)], part="validation")
    assert len(table) == 0 and table.query_lengths.shape == (0, 1) and table.named_rows.tolist() == []


def test_rows_of_several_record_batches_of_unequal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_ROWS_AT_ONCE", 3)
    examples = [example(i, positive=i, negatives=range(i + 1, i + 1 + i % 4), held_out=i % 5 == 1) for i in range(11)]
    table = make_table(examples, variants=4)
    trained = [e for e in examples if not e.held_out]
    assert len(table) == len(trained) == 9
    order = np.array([8, 0, 5, 3, 5])
    for i, e, query in zip(order, (trained[i] for i in order), table.queries(order, order % 4), strict=True):
        assert query.tolist() == tokenize(query_texts(e, 4))[i % 4]
        assert table.negatives(int(i)).tolist() == e.negatives
    assert [d.tolist() for d in table.documents(np.array([10, 2, 7]))] == tokenize(Passages().passages([10, 2, 7]))
    assert table.named_rows.tolist() == sorted({row for e in trained for row in (e.positive, *e.negatives)})


def test_tokens_are_views_of_the_file() -> None:
    table = make_table([example(i, positive=i) for i in range(3)])
    first, again = table.documents(np.array([1])), table.documents(np.array([1]))
    assert np.shares_memory(first[0], again[0]) and not first[0].flags.writeable
