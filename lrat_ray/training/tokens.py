"""The training table: examples and their documents, tokenised once and memory-mapped, so that the loop runs no tokenizer.

Three Arrow files: `examples.arrow` to train on, `validation.arrow` held out, and `documents.arrow` with the documents that both
name, sorted by their row in the doc store. Processes on a machine share one copy of them, whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from itertools import chain, islice
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lrat_ray import artifacts
from lrat_ray.documents import DocumentStore
from lrat_ray.training.examples import Example

Part = Literal["examples", "validation"]

_DOCUMENTS_FILE = "documents.arrow"
_ROWS_AT_ONCE = 1024
_EXAMPLES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("queries", pa.list_(pa.list_(pa.int32()))),
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


def write_examples(
    uri: str, examples: Iterable[Example], *, queries: Callable[[Example], list[str]], tokenize: Tokenize
) -> np.ndarray:
    """Write the examples of a training table, trained and held out, with the tokens of their queries.

    queries: the texts that an example's query may have (variants of a query template), equally many of every example. Returns
    the rows (sorted, distinct) of the documents that the examples name, which `write_documents` takes.
    """
    needed = [np.empty(0, dtype=np.int64)]
    with ExitStack() as files:
        parts: dict[bool, Part] = {False: "examples", True: "validation"}
        writers = {}
        for held_out, part in parts.items():
            sink = files.enter_context(artifacts.atomic_write(_examples_file(uri, part)))
            writers[held_out] = files.enter_context(pa.ipc.new_file(sink, _EXAMPLES))
        for chunk in _chunks(examples):
            needed.append(np.unique([row for e in chunk for row in (e.positive, *e.negatives)]))
            for held_out, writer in writers.items():
                if rows := [example for example in chunk if example.held_out == held_out]:
                    writer.write_batch(_record_batch(rows, queries, tokenize))
    return np.unique(np.concatenate(needed))


def _record_batch(examples: list[Example], queries: Callable[[Example], list[str]], tokenize: Tokenize) -> pa.RecordBatch:
    texts = [queries(example) for example in examples]
    tokens = iter(tokenize(list(chain.from_iterable(texts))))
    return pa.record_batch(
        [
            [e.pair_id for e in examples],
            [list(islice(tokens, len(variants))) for variants in texts],
            [e.positive for e in examples],
            [e.negatives for e in examples],
            [e.relevant for e in examples],
            [e.weight for e in examples],
        ],
        schema=_EXAMPLES,
    )


def write_documents(uri: str, rows: np.ndarray, store: DocumentStore, tokenize: Tokenize) -> None:
    """Write the documents of a training table with their tokens; `rows` are sorted rows of the doc store."""
    with artifacts.atomic_write(_documents_file(uri)) as sink, pa.ipc.new_file(sink, _DOCUMENTS) as writer:
        for chunk in _chunks(rows.tolist()):
            writer.write_batch(pa.record_batch([chunk, tokenize(store.passages(chunk))], schema=_DOCUMENTS))


class TrainingTable:
    """Read access to one part of a training table. Tokens are [length] int32 views of the mapped files, never copies.

    N examples of V query variants each; D documents, those of both parts. What batches are planned from is in memory: 24 + 4 V
    bytes an example and 12 a document.
    """

    def __init__(self, uri: str, part: Part = "examples"):
        examples = artifacts.memory_map(_examples_file(uri, part))
        documents = artifacts.memory_map(_documents_file(uri))
        self._pair_ids = examples["pair_id"]
        variants = pc.max(pc.list_value_length(examples["queries"])).as_py() or 1
        self._queries = _Lists([chunk.flatten() for chunk in examples["queries"].chunks])
        self._negatives = _Lists(examples["negatives"].chunks)
        self._relevant = _Lists(examples["relevant"].chunks)
        self._documents = _Lists(documents["tokens"].chunks)
        self.query_lengths: np.ndarray = self._queries.lengths.reshape(len(examples), variants)
        """[N, V] tokens of each query variant."""
        self.positives: np.ndarray = examples["positive"].to_numpy()
        """[N] doc store row of each example's positive."""
        self.weights: np.ndarray = examples["weight"].to_numpy()
        """[N] relevance intensities, of mean 1 over the examples that train."""
        self.document_rows: np.ndarray = documents["row"].to_numpy()
        """[D] doc store rows of the documents, sorted."""

    def __len__(self) -> int:
        return len(self.positives)

    def pair_id(self, i: int) -> str:
        return str(self._pair_ids[i].as_py())

    def queries(self, examples: np.ndarray, variants: np.ndarray) -> list[np.ndarray]:
        """[length] token ids of each: a variant of an example's query."""
        return self._queries.take(examples * self.query_lengths.shape[1] + variants)

    def negatives(self, i: int) -> np.ndarray:
        """[n] rows of the documents that an example was mined with as negatives."""
        return self._negatives[i]

    def relevant(self, examples: np.ndarray) -> list[np.ndarray]:
        """Of each example, [n] sorted rows of the documents that are no negative of it, its positive among them."""
        return self._relevant.take(examples)

    def documents(self, rows: np.ndarray) -> list[np.ndarray]:
        """Token ids of the documents in these rows of the doc store."""
        return self._documents.take(self._places(rows))

    def document_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of the documents in these rows of the doc store; of the shape of `rows`."""
        return self._documents.lengths[self._places(rows)]

    @cached_property
    def named_rows(self) -> np.ndarray:
        """Sorted doc store rows of the documents that the examples of this part name as positive or negative."""
        return np.unique(np.concatenate([self.positives, self._negatives.values()]))

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.document_rows, rows)


class _Lists:
    """A column of lists in the record batches of a mapped file: lengths in memory, each list a view of the file."""

    def __init__(self, batches: list[pa.ListArray]):
        # `values` and `offsets` belong together also where a batch is a slice of another.
        self._values = [batch.values.to_numpy() for batch in batches]
        self._offsets = [batch.offsets.to_numpy() for batch in batches]
        self._starts = np.cumsum([0, *map(len, batches)])
        self.lengths: np.ndarray = np.concatenate([np.empty(0, np.int32), *map(np.diff, self._offsets)])

    def __getitem__(self, row: int) -> np.ndarray:
        return self.take(np.array([row]))[0]

    def take(self, rows: np.ndarray) -> list[np.ndarray]:
        """The lists in some rows."""
        batches = np.searchsorted(self._starts, rows, side="right") - 1
        within = rows - self._starts[batches]
        views = []
        for batch, row in zip(batches.tolist(), within.tolist(), strict=True):
            begin, end = self._offsets[batch][row : row + 2].tolist()
            views.append(self._values[batch][begin:end])
        return views

    def values(self) -> np.ndarray:
        """The values of all lists, one after the other."""
        ends = zip(self._values, self._offsets, strict=True)
        return np.concatenate([np.empty(0, np.int64), *(values[offsets[0] : offsets[-1]] for values, offsets in ends)])


def _examples_file(uri: str, part: Part) -> str:
    return artifacts.join(uri, f"{part}.arrow")


def _documents_file(uri: str) -> str:
    return artifacts.join(uri, _DOCUMENTS_FILE)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
        yield chunk
