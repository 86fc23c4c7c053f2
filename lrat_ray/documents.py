"""The doc store: docid -> title and text, memory-mapped, so that processes share one copy and none holds the corpus in Python.

A documents artifact is two Arrow files: `documents.arrow` in corpus order (row i is vector i of an index built on it) and
`docids.arrow`, the docids sorted, each with its row, for lookup by binary search.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.schema import Document, Rejected

_ROWS_PER_BATCH = 4096
_STORE = pa.schema([("docid", pa.large_string()), ("title", pa.large_string()), ("text", pa.large_string())])
_LOOKUP = pa.schema([("docid", pa.large_string()), ("row", pa.int64())])
_SNIPPET_TOKEN = re.compile(r"\w+|[^\w\s]")


def build(corpus: str, output: str, *, force: bool = False) -> Manifest:
    """Write a documents artifact at `output` from Parquet or JSONL with docid, text and (optional) title.

    Rows without a docid or a text and repeated docids (the first stays) are rejected. Raises ArtifactError when the corpus is
    missing, is neither format, or has no docid or text column.
    """
    work = artifacts.begin(output, kind="documents", config={}, inputs={"corpus": corpus}, force=force)
    if work.manifest:
        return work.manifest
    files = _corpus_files(corpus)
    first_rows = _first_occurrences(files)
    rejected: list[Rejected] = []
    kept_docids: list[pa.Array] = []
    rows_in = 0
    with artifacts.atomic_write(artifacts.join(output, "documents.arrow")) as sink, pa.ipc.new_file(sink, _STORE) as writer:
        for source, start, batch in _batches(files):
            reasons = [_reason(row, first_rows[rows_in + i]) for i, row in enumerate(batch.to_pylist())]
            rejected += [
                Rejected(source=source, position=f"row {start + i}", reason=reason[0], detail=reason[1])
                for i, reason in enumerate(reasons)
                if reason is not None
            ]
            kept = batch.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
            writer.write_batch(kept)
            kept_docids.append(kept.column("docid"))
            rows_in += batch.num_rows
    docids = pa.chunked_array(kept_docids, type=pa.large_string())
    order = pc.sort_indices(docids)
    with artifacts.atomic_write(artifacts.join(output, "docids.arrow")) as sink, pa.ipc.new_file(sink, _LOOKUP) as writer:
        sorted_ids = docids.take(order).combine_chunks()
        writer.write_batch(pa.record_batch([sorted_ids, order.cast(pa.int64())], schema=_LOOKUP))
    return work.finish(
        parts=["documents.arrow", "docids.arrow"],
        rows={"in": rows_in, "out": len(docids), "rejected": work.write_rejected("documents", rejected)},
    )


def ensure(corpus: str, scratch: str) -> str:
    """The URI of a documents artifact: `corpus` itself where it is one, otherwise built (or found) at `scratch`."""
    if artifacts.is_artifact(corpus, "documents"):
        return corpus
    return build(corpus, scratch).uri


class DocumentStore:
    """Read access to a documents artifact. Pickles as its URI, so that an actor maps the files instead of receiving them."""

    def __init__(self, uri: str):
        self.uri = uri
        self._table = _memory_map(artifacts.join(uri, "documents.arrow"))
        lookup = _memory_map(artifacts.join(uri, "docids.arrow"))
        self._sorted_docids = lookup.column("docid").combine_chunks()
        self._rows = lookup.column("row").to_numpy()

    @classmethod
    def open(cls, uri: str) -> DocumentStore:
        """Map a finished documents artifact. Raises ArtifactError if `uri` is none."""
        artifacts.read_manifest(uri, "documents")
        return cls(uri)

    def __reduce__(self) -> tuple[Any, ...]:
        return DocumentStore, (self.uri,)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, docid: str) -> bool:
        position = self._position(docid)
        return position < len(self) and self._sorted_docids[position].as_py() == docid

    def row(self, docid: str) -> int:
        """The row of a document. Raises KeyError for a docid that the corpus does not hold."""
        position = self._position(docid)
        if position == len(self) or self._sorted_docids[position].as_py() != docid:
            raise KeyError(docid)
        return int(self._rows[position])

    def _position(self, docid: str) -> int:
        return bisect.bisect_left(range(len(self)), docid, key=lambda i: self._sorted_docids[i].as_py())

    def docid(self, row: int) -> str:
        return str(self._table.column("docid")[row].as_py())

    def document(self, row: int) -> Document:
        """The document in a row, counted from 0."""
        docid, title, text = (self._table.column(name)[row].as_py() for name in _STORE.names)
        return Document(docid=docid, title=title, text=text)

    def get(self, docid: str) -> Document:
        """The document with this docid. Raises KeyError for one that the corpus does not hold."""
        return self.document(self.row(docid))

    def passages(self, rows: Iterable[int]) -> list[str]:
        """The texts of some rows as an encoder reads them."""
        return [passage(self.document(row)) for row in rows]

    def documents(self) -> Iterator[Document]:
        """Every document, in corpus order."""
        for batch in self._table.to_batches():
            for row in batch.to_pylist():
                yield Document(**row)


def passage(document: Document) -> str:
    """What an encoder or a lexical index reads of a document: the title on a line of its own, then the text."""
    return f"{document.title}\n{document.text}" if document.title else document.text


def snippet(document: Document, tokens: int = 64) -> str:
    """The first `tokens` words and punctuation marks of the text, cut where they end.

    The paper shows the first 64 tokens of a document. Counting words and marks needs no tokenizer, so that every release,
    lexical or dense, shows an agent the same snippet of the same document.
    """
    marks = list(islice(_SNIPPET_TOKEN.finditer(document.text), tokens))
    return document.text[: marks[-1].end()] if marks else ""


def _reason(row: dict[str, Any], is_first: bool) -> tuple[str, str] | None:
    """Why a corpus row is rejected: (code, sentence), or None to keep it."""
    if not row["docid"]:
        return "no docid", "the row has no docid, or is not a JSON object"
    if not (row["text"] or "").strip():
        return "no text", f"docid {row['docid']!r} has no text"
    if not is_first:
        return "repeated docid", f"docid {row['docid']!r} stands earlier in the corpus; the first row was kept"
    return None


def _corpus_files(corpus: str) -> list[str]:
    if not artifacts.exists(corpus):
        raise ArtifactError(f"corpus: {corpus} does not exist")
    files = [f for f in artifacts.list_files(corpus) if f.endswith((".parquet", ".jsonl"))]
    if not files:
        raise ArtifactError(f"corpus: {corpus} holds no .parquet or .jsonl file")
    return files


def _first_occurrences(files: Sequence[str]) -> np.ndarray:
    """[rows] bool: whether a row is the first with its docid. Holds the docids only, as Arrow."""
    docids = pa.chunked_array([batch.column("docid") for _, _, batch in _batches(files)], type=pa.large_string())
    codes = pc.dictionary_encode(docids.combine_chunks(), null_encoding="encode").indices.to_numpy()
    first = np.zeros(len(codes), dtype=bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def _batches(files: Sequence[str]) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    """(file, number of the first row in it, rows in the store's schema), a few thousand rows at a time."""
    for path in files:
        rows = 0
        for batch in _parquet_batches(path) if path.endswith(".parquet") else _jsonl_batches(path):
            yield path, rows, batch
            rows += batch.num_rows


def _parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    with fsspec.open(path, "rb") as file:
        try:
            parquet = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise ArtifactError(f"corpus: {path} is not a Parquet file: {error}") from error
        names = parquet.schema_arrow.names
        _check_columns(path, names)
        for batch in parquet.iter_batches(_ROWS_PER_BATCH, columns=[n for n in _STORE.names if n in names]):
            columns = [_column(batch, name) for name in _STORE.names]
            yield pa.record_batch(columns, schema=_STORE)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.large_string())
    return batch.column(name).cast(pa.large_string())  # docids are often integers


def _jsonl_batches(path: str) -> Iterator[pa.RecordBatch]:
    with fsspec.open(path, "rt", encoding="utf-8") as file:
        numbered = enumerate(file, start=1)
        while lines := list(islice(numbered, _ROWS_PER_BATCH)):
            rows = [_jsonl_row(path, number, line) for number, line in lines]
            yield pa.RecordBatch.from_pylist(rows, schema=_STORE)


def _jsonl_row(path: str, number: int, line: str) -> dict[str, str | None]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict):
        return {}  # rejected, as a row without a docid
    if number == 1:
        _check_columns(path, list(row))
    return {name: None if row.get(name) is None else str(row[name]) for name in _STORE.names}


def _check_columns(path: str, found: list[str]) -> None:
    if missing := [name for name in ("docid", "text") if name not in found]:
        raise ArtifactError(
            f"corpus: {path} has no column {' and no column '.join(map(repr, missing))} (found: {', '.join(found)}); "
            "a corpus needs docid and text, and may have title"
        )


def _memory_map(uri: str) -> pa.Table:
    path = artifacts.local_path(uri) or fsspec.open_local(f"simplecache::{uri}")
    return pa.ipc.open_file(pa.memory_map(path)).read_all()
