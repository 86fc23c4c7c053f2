"""Corpora as they come: Parquet, JSONL or a BEIR folder, on any fsspec URI, read as Arrow batches of docid, title and text.

Column names are those of the formats in the wild (docs/data.md). A row that cannot be used becomes a rejected row.
"""

from __future__ import annotations

import glob
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from lrat_ray import artifacts, lines
from lrat_ray.artifacts import ArtifactError
from lrat_ray.lines import BadLine
from lrat_ray.schema import Rejected

SCHEMA = pa.schema([("docid", pa.large_string()), ("title", pa.large_string()), ("text", pa.large_string())])

_NAMES = {"docid": ("docid", "_id", "id", "doc_id"), "title": ("title",), "text": ("text", "contents")}
_JSONL = (".jsonl", *(f".jsonl{packed}" for packed in lines.PACKED))
_SUFFIXES = (".parquet", *_JSONL)
_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_AS_GOOD_AS_STRINGS = (
    pa.types.is_integer,
    pa.types.is_null,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_EXACT_BELOW = {16: 1 << 11, 32: 1 << 24, 64: 1 << 53}  # bits of a float -> below it, every whole number has a float of its own
_ROWS_PER_BATCH = 2048
_MB = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Some rows of a file: those with a docid and a text (SCHEMA), where each stood, and the rejected ones.

    `numbers` counts rows of Parquet from 0 and lines of JSONL from 1, as `unit` says; `read_mb` is how much of the whole corpus
    (packed, where it is) was read up to here.
    """

    source: str
    unit: str
    numbers: Sequence[int] | np.ndarray
    rows: pa.RecordBatch
    rejected: list[Rejected]
    read_mb: float

    def position(self, row: int) -> str:
        """Where a row stood in its file: "row 17" or "line 18"."""
        return f"{self.unit} {self.numbers[row]}"


def files(corpus: str) -> list[str]:
    """The files of a corpus: one, those matching a glob, or those in a directory (of a BEIR folder, its corpus alone).

    Raises ArtifactError when there is none.
    """
    fs, path = url_to_fs(corpus)
    if fs.exists(path):
        beir = [file for ending in _JSONL if artifacts.exists(file := artifacts.join(corpus, f"corpus{ending}"))]
        found = beir[:1] or artifacts.list_files(corpus)
    elif glob.has_magic(path):
        found = [fs.unstrip_protocol(name) if "://" in corpus else name for name in sorted(fs.glob(path))]
    else:
        raise ArtifactError(f"corpus: {corpus} does not exist")
    if not (used := [file for file in found if file.endswith(_SUFFIXES)]):
        names = ", ".join(posixpath.basename(file) for file in found[:5]) or "nothing"
        raise ArtifactError(f"corpus: {corpus} holds no file whose name ends in {', '.join(_SUFFIXES)} (found: {names})")
    return used


def size_mb(paths: Sequence[str]) -> float:
    """How much there is to read."""
    return sum(_size_mb(path) for path in paths)


def read(paths: Sequence[str]) -> Iterator[Piece]:
    """The rows of some files, a few MB at a time. Raises ArtifactError for a file that is damaged or lacks a column."""
    mb_before = 0.0
    for path in paths:
        for piece in _parquet(path, mb_before) if path.endswith(".parquet") else _jsonl(path, mb_before):
            yield _usable(piece)
        mb_before += _size_mb(path)


def _size_mb(path: str) -> float:
    fs, name = url_to_fs(path)
    return float(fs.size(name) or 0) / _MB


def _usable(piece: Piece) -> Piece:
    """The piece with only the rows that have a docid and a text."""
    docid, text = piece.rows.column("docid"), piece.rows.column("text")
    usable = _not_empty(docid) & _not_empty(pc.utf8_trim_whitespace(text))
    if usable.all():
        return piece
    rejected = list(piece.rejected)
    for row in np.flatnonzero(~usable).tolist():
        name = docid[row].as_py()
        reason, detail = ("no text", f"docid {name!r} has no text") if name else ("no docid", "the row has no docid")
        rejected.append(Rejected(source=piece.source, position=piece.position(row), reason=reason, detail=detail))
    return _filtered(piece, usable, rejected)


def _filtered(piece: Piece, keep: np.ndarray, rejected: list[Rejected]) -> Piece:
    rows = piece.rows.filter(pa.array(keep))
    return Piece(piece.source, piece.unit, np.asarray(piece.numbers)[keep], rows, rejected, piece.read_mb)


def _not_empty(column: pa.Array) -> np.ndarray:
    not_empty: np.ndarray = pc.greater(pc.binary_length(column), 0).fill_null(False).to_numpy(zero_copy_only=False)
    return not_empty


def _columns(path: str, found: Sequence[str]) -> dict[str, str]:
    """Our column names -> the first of their names that is there. Raises ArtifactError without docid or text."""
    names = {ours: next((name for name in known if name in found), None) for ours, known in _NAMES.items()}
    if missing := [ours for ours in ("docid", "text") if names[ours] is None]:
        raise ArtifactError(
            f"corpus: {path} has no column {' and no column '.join(map(repr, missing))} (found: {', '.join(found)}); "
            f"a corpus needs docid (or {', '.join(_NAMES['docid'][1:])}) and text (or contents), and may have title"
        )
    return {ours: name for ours, name in names.items() if name is not None}


def _split_contents(contents: str | None) -> tuple[str | None, str | None]:
    """(title, text) of a `contents` as Pyserini and Search-R1 write it: the title in quotes, a line break, the text."""
    if contents is None:
        return None, None
    first, line_break, rest = contents.partition("\n")
    first = first.rstrip("\r")
    is_title = line_break and len(first) > 1 and first.startswith('"') and first.endswith('"')
    return (first[1:-1], rest) if is_title else (None, contents)


def _parquet(path: str, mb_before: float) -> Iterator[Piece]:
    size_mb, start = _size_mb(path), 0
    with fsspec.open(path, "rb") as file:
        try:
            # Buffered: otherwise the whole columns of a row group, which may be the whole file, are read at once.
            parquet = pq.ParquetFile(file, buffer_size=_MB, pre_buffer=False)
            names = _columns(path, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(_ROWS_PER_BATCH, columns=list(names.values())):
                read_mb = mb_before + size_mb * (start + batch.num_rows) / parquet.metadata.num_rows
                yield _parquet_piece(path, start, batch, names, read_mb)
                start += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            fix = "Copy or write it again"
            raise ArtifactError(f"corpus: {path} is not a Parquet file, or is damaged: {error}. {fix}") from error


def _parquet_piece(path: str, start: int, batch: pa.RecordBatch, names: dict[str, str], read_mb: float) -> Piece:
    columns = {ours: pa.nulls(batch.num_rows, pa.large_string()) for ours in SCHEMA.names}
    is_utf8 = np.ones(batch.num_rows, dtype=bool)
    for ours, name in names.items():
        try:
            columns[ours], valid = _text(batch.column(name))
        except TypeError as error:
            raise ArtifactError(f"corpus: {path}: column {name!r} holds {error}; write it as strings") from error
        is_utf8 &= valid
    if names["text"] == "contents":
        titles, texts = zip(*map(_split_contents, columns["text"].to_pylist()), strict=True)
        columns["title"] = pc.coalesce(columns["title"], pa.array(titles, pa.large_string()))
        columns["text"] = pa.array(texts, pa.large_string())
    rows = pa.record_batch([columns[ours] for ours in SCHEMA.names], schema=SCHEMA)
    piece = Piece(path, "row", range(start, start + batch.num_rows), rows, [], read_mb)
    if is_utf8.all():
        return piece
    detail = "the row holds bytes that are no UTF-8; write the file again with its texts decoded"
    rejected = [
        Rejected(source=path, position=piece.position(row), reason="not UTF-8", detail=detail)
        for row in np.flatnonzero(~is_utf8).tolist()
    ]
    return _filtered(piece, is_utf8, rejected)


def _text(column: pa.Array) -> tuple[pa.LargeStringArray, np.ndarray]:
    """(a column of texts or, as docids often are, of whole numbers as text; [rows] bool: whether a row is UTF-8).

    Raises TypeError, which says what the column holds, for one of anything else.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = _whole_numbers(column)
    elif any(is_one(column.type) for is_one in _STRINGS):
        column = column.cast(pa.large_binary())  # Parquet promises UTF-8 and nobody checks it: the way back does
    elif not any(is_one(column.type) for is_one in _AS_GOOD_AS_STRINGS):
        raise TypeError(f"{column.type}, which is no text")
    try:
        return column.cast(pa.large_string()), np.ones(len(column), dtype=bool)
    except pa.ArrowInvalid:
        parsed = [lines.parse_text(value or b"") for value in column.cast(pa.large_binary()).to_pylist()]
        texts = [None if isinstance(text, BadLine) else text for text in parsed]
        return pa.array(texts, pa.large_string()), np.array([text is not None for text in texts])


def _whole_numbers(column: pa.Array) -> pa.Int64Array:
    """Floats as integers, which pandas makes floats of when some are absent; NaN is absent, too.

    Raises TypeError for a fraction, and for a number so large that the float may be a neighbour of the one that was meant.
    """
    floats = column.cast(pa.float64())
    floats = pc.if_else(pc.is_nan(floats), None, floats)
    exact = pc.less(pc.abs(floats), float(_EXACT_BELOW[column.type.bit_width]))
    unfit = floats.filter(pc.invert(pc.and_(exact, pc.equal(pc.floor(floats), floats))))
    if len(unfit):
        raise TypeError(f"{column.type}, and {unfit[0].as_py()!r} is no whole number that it holds exactly")
    return floats.cast(pa.int64())


def _jsonl(path: str, mb_before: float) -> Iterator[Piece]:
    is_checked = False
    for block in lines.blocks(path, "corpus"):
        piece_rows = [(number, lines.parse_object(line)) for number, line in block.numbered()]
        if not is_checked:
            first = next((row for _, row in piece_rows if not isinstance(row, BadLine)), None)
            is_checked = first is not None and bool(_columns(path, list(first)))
        yield _jsonl_piece(path, piece_rows, mb_before + block.read_bytes / _MB)


def _jsonl_piece(path: str, parsed: Sequence[tuple[int, dict[str, Any] | BadLine]], read_mb: float) -> Piece:
    numbers: list[int] = []
    docids: list[str | None] = []
    titles: list[str | None] = []
    texts: list[str | None] = []
    rejected: list[Rejected] = []
    for number, row in parsed:
        document = row if isinstance(row, BadLine) else _json_document(row)
        if isinstance(document, BadLine):
            bad = Rejected(source=path, position=f"line {number}", reason=document.reason, detail=document.detail)
            rejected.append(bad)
            continue
        numbers.append(number)
        docids.append(document[0])
        titles.append(document[1])
        texts.append(document[2])
    rows = pa.record_batch([pa.array(values, pa.large_string()) for values in (docids, titles, texts)], schema=SCHEMA)
    return Piece(path, "line", np.array(numbers, dtype=np.int64), rows, rejected, read_mb)


def _json_document(row: dict[str, Any]) -> tuple[str | None, str | None, str | None] | BadLine:
    """(docid, title, text) of a JSON object, each None where it is absent."""
    docid: Any = next((row[name] for name in _NAMES["docid"] if row.get(name) is not None), None)
    if isinstance(docid, int) and not isinstance(docid, bool):
        docid = str(docid)
    title, text = row.get("title"), row.get("text")
    if text is None:
        contents = row.get("contents")
        in_contents, text = _split_contents(contents) if isinstance(contents, str) else (None, contents)
        title = in_contents if title is None else title
    for name, value in (("docid", docid), ("title", title), ("text", text)):
        if value is not None and not isinstance(value, str):
            return BadLine("malformed row", f"docid {docid!r}: {name} is no string but {type(value).__name__}")
    return docid, title, text
