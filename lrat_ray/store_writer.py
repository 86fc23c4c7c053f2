"""Writing a doc store from a corpus of any size: Arrow batches stream through; some 40 bytes a document stay in memory."""

from __future__ import annotations

import bisect
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lrat_ray import artifacts, corpus, docids, tokens
from lrat_ray.artifacts import ArtifactError, Manifest, Work, join
from lrat_ray.chunking import DOCID_OF_A_CHUNK, Chunker
from lrat_ray.config import Config
from lrat_ray.corpus import Piece
from lrat_ray.docids import Lookup
from lrat_ray.progress import Progress
from lrat_ray.schema import Document, Rejected

LAYOUT = 2
"""Version of the files of a store; in 1, docids were sorted as text."""

DOCUMENTS = "documents.arrow"
DOCIDS = "docids.arrow"
SCHEMA = pa.schema([*corpus.SCHEMA, ("parent_docid", pa.large_string())])

_ROWS_PER_BATCH = 1 << 16
_BYTES_PER_BATCH = 1 << 25
_REJECTED_PER_FILE = 1 << 16
_CUT_AT_ONCE = 1024
_BYTES_CUT_AT_ONCE = 1 << 21  # while a text is cut, each of its tokens takes some 100 bytes


def write_store(source: str, output: str, *, config: Config | None, force: bool) -> Manifest:
    """The work of `documents.build`: every usable row is written, then what cannot be told before is taken care of.

    Repeated docids are known only when all rows were seen, so a corpus with some is written a second time without them; so is
    one that is cut into chunks.
    """
    files = corpus.files(source)
    max_tokens = config.documents.chunk_tokens if config else None
    tokenizer = config.train.base_model if config and max_tokens else None
    chunker = Chunker(tokens.load(tokenizer), max_tokens) if tokenizer and max_tokens else None
    work = artifacts.begin(
        output,
        kind="documents",
        config={"layout": LAYOUT, "chunk_tokens": max_tokens, "tokenizer": tokenizer},
        inputs={"corpus": source},
        force=force,
    )
    if work.manifest:
        return work.manifest
    rejected = _RejectedRows(work)
    with _unfinished(output) as path:
        rows, hashes = _collect(files, path, rejected)
        if not len(hashes):  # what follows rejects a row only for the sake of another one, so no corpus ends up empty later
            rejected.close()
            raise ArtifactError(f"corpus: {source} holds no usable document{_first_rejected(output)}")
        rows_in = len(hashes) + rejected.total
        repeated = docids.repeated(hashes, artifacts.memory_map(path).column("docid"))
        metrics: Counter[str] = Counter()
        if chunker or repeated.any():
            hashes = _rewrite(path, output, rows, repeated, hashes, rejected, chunker, metrics)
        else:
            _move(path, join(output, DOCUMENTS))
    rejected.close()
    with artifacts.atomic_write(join(output, DOCIDS)) as sink, pa.ipc.new_file(sink, docids.SCHEMA) as writer:
        writer.write_batch(docids.lookup_table(hashes))
    counts = {"in": rows_in, "out": rows_in - rejected.total, "rejected": rejected.total}
    return work.finish(
        parts=[DOCUMENTS, DOCIDS],
        rows={**counts, "chunks": len(hashes)} if chunker else counts,
        metrics={**metrics, "rejected_by_reason": dict(rejected.by_reason)},
    )


def _first_rejected(output: str) -> str:
    first = next(artifacts.read_rejected(output), None)
    return f"; the first: {first.source} {first.position}: {first.detail}" if first else " and no other row"


class _Origins:
    """Where each row of the first writing came from."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[tuple[str, str, Sequence[int] | np.ndarray]] = []
        self._rows = 0

    def add(self, piece: Piece) -> None:
        numbers = piece.numbers
        if not len(numbers):
            return
        if numbers[-1] - numbers[0] == len(numbers) - 1:
            numbers = range(int(numbers[0]), int(numbers[-1]) + 1)
        self._starts.append(self._rows)
        self._pieces.append((piece.source, piece.unit, numbers))
        self._rows += len(numbers)

    def of(self, row: int) -> tuple[str, str]:
        """(file, position in it)."""
        at = bisect.bisect_right(self._starts, row) - 1
        source, unit, numbers = self._pieces[at]
        return source, f"{unit} {numbers[row - self._starts[at]]}"


class _RejectedRows:
    """Rejected rows, written file by file so that a corpus with millions of them is no matter of memory."""

    def __init__(self, work: Work):
        self._work, self._pending, self._files = work, list[Rejected](), 0
        self.by_reason: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.by_reason.total()

    def add(self, rows: Sequence[Rejected]) -> None:
        self.by_reason.update(row.reason for row in rows)
        self._pending += rows
        if len(self._pending) >= _REJECTED_PER_FILE:
            self.close()

    def close(self) -> None:
        """Write what is pending."""
        self._files += bool(self._work.write_rejected(f"documents-{self._files:05d}", self._pending))
        self._pending = []


class _StoreFile:
    """A documents.arrow being written in batches of tens of MB, however small the batches are that come in."""

    def __init__(self, sink: Any):
        self._writer = pa.ipc.new_file(sink, SCHEMA)
        self._pending: list[pa.RecordBatch] = []
        self._hashes: list[np.ndarray] = [np.zeros(0, dtype=np.uint64)]
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._hashes.append(docids.hash_docids(batch.column("docid")))
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _ROWS_PER_BATCH or self._bytes >= _BYTES_PER_BATCH:
            self._flush()

    def close(self) -> np.ndarray:
        """Finish the file; returns the hashes of its docids, row by row."""
        self._flush()
        self._writer.close()
        return np.concatenate(self._hashes)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._pending).combine_chunks())
        self._pending, self._rows, self._bytes = [], 0, 0


@contextmanager
def _unfinished(output: str) -> Iterator[str]:
    """A local path for the first writing: in the output where that is local, so that it is moved, not copied, from there."""
    with ExitStack() as cleanup:
        if (folder := artifacts.local_path(output)) is None:
            folder = cleanup.enter_context(tempfile.TemporaryDirectory())
        path = os.path.join(folder, f"{DOCUMENTS}.unfinished")
        cleanup.callback(artifacts.remove, path)
        yield path


def _move(path: str, target: str) -> None:
    if (local := artifacts.local_path(target)) is not None:
        os.replace(path, local)
        return
    with open(path, "rb") as reader, artifacts.atomic_write(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _collect(files: Sequence[str], path: str, rejected: _RejectedRows) -> tuple[_Origins, np.ndarray]:
    """Write every row with a docid and a text to `path`; returns where each came from, and the hashes of their docids."""
    origins = _Origins()
    progress = Progress("import corpus", round(corpus.size_mb(files)), "MB")
    with pa.OSFile(path, "wb") as sink:
        store = _StoreFile(sink)
        for piece in corpus.read(files):
            rejected.add(piece.rejected)
            origins.add(piece)
            if piece.rows.num_rows:
                parents = pa.nulls(piece.rows.num_rows, pa.large_string())
                store.write(pa.record_batch([*piece.rows.columns, parents], schema=SCHEMA))
            progress.update(round(piece.read_mb))
        return origins, store.close()


def _rewrite(
    path: str,
    output: str,
    origins: _Origins,
    repeated: np.ndarray,
    hashes: np.ndarray,
    rejected: _RejectedRows,
    chunker: Chunker | None,
    metrics: Counter[str],
) -> np.ndarray:
    """Write the rows at `path` again, without repeated docids and cut into chunks; returns the hashes of their docids."""
    names = Lookup(pa.Table.from_batches([docids.lookup_table(hashes)]), artifacts.memory_map(path).column("docid"))
    progress = Progress("write documents", len(repeated), "documents")
    start = 0
    with artifacts.atomic_write(join(output, DOCUMENTS)) as sink, pa.OSFile(path) as source:
        store, reader = _StoreFile(sink), pa.ipc.open_file(source)  # read, not mapped: mapped pages would stay in memory
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            is_repeated = repeated[start : start + batch.num_rows]
            is_misnamed = _is_named_like_a_chunk(batch, names) if chunker else np.zeros(batch.num_rows, dtype=bool)
            rejected.add(_repeated_rows(batch, is_repeated, start, origins))
            rejected.add(_misnamed_rows(batch, is_misnamed & ~is_repeated, start, origins))
            kept = batch.filter(pa.array(~(is_repeated | is_misnamed)))
            for piece in _cut(kept, chunker, metrics) if chunker else [kept]:
                store.write(piece)
                progress.update(start)
            start += batch.num_rows
        return store.close()


def _repeated_rows(batch: pa.RecordBatch, is_repeated: np.ndarray, start: int, origins: _Origins) -> list[Rejected]:
    out = []
    for row in np.flatnonzero(is_repeated).tolist():
        source, position = origins.of(start + row)
        detail = f"docid {batch.column('docid')[row].as_py()!r} stands earlier in the corpus; the first row was kept"
        out.append(Rejected(source=source, position=position, reason="repeated docid", detail=detail))
    return out


def _is_named_like_a_chunk(batch: pa.RecordBatch, names: Lookup) -> np.ndarray:
    """[rows] bool: whether the docid is one that a chunk of another document may get."""
    parents = pc.extract_regex(batch.column("docid"), DOCID_OF_A_CHUNK).field("parent")
    return names.rows(parents) >= 0


def _misnamed_rows(batch: pa.RecordBatch, is_misnamed: np.ndarray, start: int, origins: _Origins) -> list[Rejected]:
    out = []
    for row in np.flatnonzero(is_misnamed).tolist():
        source, position = origins.of(start + row)
        docid = batch.column("docid")[row].as_py()
        parent = docid.rpartition("#")[0]
        detail = f"docid {docid!r} could be that of a chunk of {parent!r}; rename it, or leave out documents.chunk_tokens"
        out.append(Rejected(source=source, position=position, reason="docid of a chunk", detail=detail))
    return out


def _cut(batch: pa.RecordBatch, chunker: Chunker, metrics: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The chunks of a batch of documents, some at a time."""
    for part in _slices(batch):
        whole = [Document(**row) for row in part.to_pylist()]
        cut = chunker.cut(whole)
        for document, chunks in zip(whole, cut, strict=True):
            metrics["documents_cut"] += len(chunks) > 1
            metrics["titles_shortened"] += chunks[0].title != document.title
        flat = [chunk for chunks in cut for chunk in chunks]
        columns = [pa.array([getattr(chunk, name) for chunk in flat], pa.large_string()) for name in SCHEMA.names]
        yield pa.record_batch(columns, schema=SCHEMA)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Consecutive rows, so few that their texts are at most some MB (or one document)."""
    ends = np.cumsum(pc.binary_length(batch.column("text")).to_numpy())
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _BYTES_CUT_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _CUT_AT_ONCE)
        yield batch.slice(start, stop - start)
        start = stop
