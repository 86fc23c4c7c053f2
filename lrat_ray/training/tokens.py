"""The training table: examples and their documents, tokenised once and memory-mapped, so that the loop runs no tokenizer.

Two Arrow files: `examples.arrow`, and `documents.arrow` with the documents that examples name, sorted by their row in the doc
store. Processes on a machine share one copy of them, whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import fsspec
import numpy as np
import pyarrow as pa

from lrat_ray import artifacts
from lrat_ray.documents import DocumentStore
from lrat_ray.training.examples import Example

EXAMPLES = "examples.arrow"
DOCUMENTS = "documents.arrow"
_ROWS_PER_BATCH = 1024
_EXAMPLES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("positive", pa.int64()),
        ("negatives", pa.list_(pa.int64())),
        ("relevant", pa.list_(pa.int64())),
        ("weight", pa.float64()),
    ]
)
_DOCUMENTS = pa.schema([("row", pa.int64()), ("tokens", pa.list_(pa.int32()))])

Item = TypeVar("Item")
Tokenize = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, special tokens and prompt included, cut at the maximum length."""


def write_examples(uri: str, examples: Iterable[Example], tokenize: Tokenize) -> np.ndarray:
    """Write the examples with their queries' tokens. Returns the rows (sorted, distinct) of the documents that they name."""
    needed: list[np.ndarray] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for chunk in _chunks(examples):
            needed.append(np.unique([row for e in chunk for row in (e.positive, *e.negatives)]))
            yield pa.record_batch(
                [
                    [e.pair_id for e in chunk],
                    tokenize([e.query for e in chunk]),
                    [e.positive for e in chunk],
                    [e.negatives for e in chunk],
                    [e.relevant for e in chunk],
                    [e.weight for e in chunk],
                ],
                schema=_EXAMPLES,
            )

    _write(uri, _EXAMPLES, batches())
    return np.unique(np.concatenate(needed))


def write_documents(uri: str, rows: np.ndarray, store: DocumentStore, tokenize: Tokenize) -> None:
    """Write the tokens of some documents; `rows` are sorted rows of the doc store."""
    chunks = _chunks(rows.tolist())
    _write(uri, _DOCUMENTS, (pa.record_batch([c, tokenize(store.passages(c))], schema=_DOCUMENTS) for c in chunks))


class TrainingTable:
    """Read access to a training table. Tokens come as [length] int32 views of the mapped files, never as copies."""

    def __init__(self, uri: str):
        self._examples = _memory_map(artifacts.join(uri, EXAMPLES))
        self._documents = _memory_map(artifacts.join(uri, DOCUMENTS))
        rows = [batch.column("row").to_numpy() for batch in self._documents]
        self.document_rows = np.concatenate(rows)
        """[documents] doc store rows, sorted."""

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self._examples)

    def pair_id(self, i: int) -> str:
        return str(self._example("pair_id", i).as_py())

    def query(self, i: int) -> np.ndarray:
        """[length] token ids of an example's query."""
        return self._example("tokens", i).values.to_numpy()

    def positive(self, i: int) -> int:
        return int(self._example("positive", i).as_py())

    def negatives(self, i: int) -> np.ndarray:
        """[n] rows of the documents that an example was mined with as negatives."""
        return self._example("negatives", i).values.to_numpy()

    def relevant(self, i: int) -> np.ndarray:
        """[n] rows of the documents known to help the question of an example."""
        return self._example("relevant", i).values.to_numpy()

    def weight(self, i: int) -> float:
        return float(self._example("weight", i).as_py())

    def document(self, row: int) -> np.ndarray:
        """[length] token ids of the document in this row of the doc store."""
        batch, position = divmod(int(np.searchsorted(self.document_rows, row)), _ROWS_PER_BATCH)
        return self._documents[batch].column("tokens")[position].values.to_numpy()

    def _example(self, column: str, i: int) -> pa.Scalar:
        batch, position = divmod(i, _ROWS_PER_BATCH)
        return self._examples[batch].column(column)[position]


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _ROWS_PER_BATCH)):
        yield chunk


def _write(uri: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with artifacts.atomic_write(uri) as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _memory_map(uri: str) -> list[pa.RecordBatch]:
    path = artifacts.local_path(uri) or fsspec.open_local(f"simplecache::{uri}")
    reader = pa.ipc.open_file(pa.memory_map(path))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]
