"""Finding the rows of docids among millions, with 16 bytes a document: sorted 64-bit hashes, the docid itself verified."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SCHEMA = pa.schema([("hash", pa.uint64()), ("row", pa.int64())])
"""The lookup table, sorted by hash."""

Docids: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray

_HASHED_BYTES = 512  # of a longer docid its length and its beginning decide; docids of equal hash are compared in full
_ROWS_AT_ONCE = 1 << 16
_MASK = 0xFFFFFFFFFFFFFFFF
_ODD_INTS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64
_ODD = tuple(map(np.uint64, _ODD_INTS))


def hash_docids(docids: pa.LargeStringArray) -> np.ndarray:
    """[docids] uint64: a hash of each docid's UTF-8 bytes, the same on every machine and in every version of a store."""
    data, offsets = _bytes(docids)
    starts, lengths = offsets[:-1], np.diff(offsets)
    # A word of 8 bytes at every byte of the data; 7 bytes of padding, for the word at the last byte.
    words = np.ndarray(len(data) - 7, dtype="<u8", buffer=data.data, strides=(1,))
    hashes = lengths.astype(np.uint64) * _ODD[0]
    for start in range(0, min(int(lengths.max(initial=0)), _HASHED_BYTES), 8):
        longer = np.flatnonzero(lengths > start)
        missing = 8 - np.minimum(lengths[longer] - start, 8)
        word = words[starts[longer] + start] & (np.uint64(_MASK) >> (8 * missing).astype(np.uint64))
        mixed = (hashes[longer] ^ word) * _ODD[1]
        hashes[longer] = (mixed ^ (mixed >> np.uint64(31))) * _ODD[2]
    return hashes ^ (hashes >> np.uint64(30))


def hash_docid(docid: str) -> int:
    """`hash_docids` of one docid, which a single lookup has at once."""
    data = docid.encode("utf-8", "surrogatepass")  # half a character is in no corpus, and no error
    value = len(data) * _ODD_INTS[0] & _MASK
    for start in range(0, min(len(data), _HASHED_BYTES), 8):
        mixed = (value ^ int.from_bytes(data[start : start + 8], "little")) * _ODD_INTS[1] & _MASK
        value = (mixed ^ (mixed >> 31)) * _ODD_INTS[2] & _MASK
    return value ^ (value >> 30)


def repeated(hashes: np.ndarray, docids: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: whether the same docid stands in an earlier row. hashes: of the docids, row by row."""
    out = np.zeros(len(hashes), dtype=bool)
    order = np.argsort(hashes, kind="stable")  # rows of one hash stay in order
    hashes = hashes[order]
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = hashes[1:] != hashes[:-1]
    firsts, later = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    column = _Column(docids)
    seen: set[str] = set()
    for places in np.split(later, range(_ROWS_AT_ONCE, len(later), _ROWS_AT_ONCE)):
        rows, first_rows = order[places], order[firsts[np.searchsorted(firsts, places) - 1]]
        found = column.take(rows)
        same = _equal(found, column.take(first_rows))
        out[rows[same]] = True
        # Different docids of one hash: in 11 million, one pair in 300,000 corpora.
        for place in np.flatnonzero(~same).tolist():
            docid = found[place].as_py()
            out[rows[place]] = docid in seen
            seen.add(docid)
    return out


def lookup_table(hashes: np.ndarray) -> pa.RecordBatch:
    """The lookup table (SCHEMA) of rows 0, 1, ... with these hashes."""
    order = np.argsort(hashes, kind="stable")
    return pa.record_batch([pa.array(hashes[order]), pa.array(order)], schema=SCHEMA)


class Lookup:
    """docid -> row, over a lookup table and the docids themselves; both may be memory-mapped."""

    def __init__(self, table: pa.Table, docids: pa.ChunkedArray):
        self._hashes, self._rows = (_one_chunk(table.column(name)) for name in SCHEMA.names)
        self._docids = _Column(docids)

    def row(self, docid: str) -> int:
        """The row of one docid, -1 if it is not there."""
        wanted = np.uint64(hash_docid(docid))
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            if self._docids.value(row := int(self._rows[at])) == docid:
                return row
            at += 1
        return -1

    def rows(self, docids: Docids) -> np.ndarray:
        """[docids] int64: the row of each docid, -1 for one that is not there (or null)."""
        wanted = _as_array(docids)
        found = np.full(len(wanted), -1, dtype=np.int64)
        hashes = hash_docids(wanted)
        left = np.argsort(hashes)  # neighbours in the table are looked up together
        hashes = hashes[left]
        at = np.searchsorted(self._hashes, hashes)
        while True:
            hit = at < len(self._hashes)
            hit[hit] = self._hashes[at[hit]] == hashes[hit]
            left, hashes, at = left[hit], hashes[hit], at[hit]
            if not len(left):
                return found
            rows = self._rows[at]
            same = _equal(self._docids.take(rows), wanted.take(pa.array(left)))
            found[left[same]] = rows[same]
            left, hashes, at = left[~same], hashes[~same], at[~same] + 1  # a docid of equal hash may stand beside


class _Column:
    """A column in chunks, which may be a mapped file: unlike `ChunkedArray.take`, `take` does not copy it."""

    def __init__(self, column: pa.ChunkedArray):
        self._chunks, self._type = column.chunks, column.type
        self._first_rows = list(accumulate(map(len, self._chunks), initial=0))
        self._starts = np.array(self._first_rows)

    def value(self, row: int) -> Any:
        """The value in one row."""
        chunk = bisect.bisect_right(self._first_rows, row) - 1
        return self._chunks[chunk][row - self._first_rows[chunk]].as_py()

    def take(self, rows: np.ndarray) -> pa.Array:
        """The values in some rows."""
        order = np.argsort(rows)
        in_order = rows[order]
        chunk_of = np.searchsorted(self._starts, in_order, side="right") - 1
        begins = np.flatnonzero(np.diff(chunk_of, prepend=-1)).tolist()
        parts = [
            self._chunks[chunk_of[begin]].take(pa.array(in_order[begin:end] - self._starts[chunk_of[begin]]))
            for begin, end in pairwise([*begins, len(rows)])
        ]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_arrays(parts).take(pa.array(back)) if parts else pa.array([], self._type)


def _as_array(docids: Docids) -> pa.LargeStringArray:
    if isinstance(docids, pa.ChunkedArray):
        docids = docids.combine_chunks()
    if isinstance(docids, pa.Array):
        return docids.cast(pa.large_string())
    return pa.array(docids, pa.large_string())


def _bytes(docids: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """(the docids' bytes and 8 of padding, [docids + 1] where each begins among them)."""
    if not len(docids):
        return np.zeros(8, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    _, offset_buffer, data = docids.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64, count=docids.offset + len(docids) + 1)[docids.offset :]
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + 8, dtype=np.uint8)
    if last > first:
        padded[: last - first] = np.frombuffer(data, dtype=np.uint8, count=last)[first:]
    return padded, offsets - first


def _equal(left: pa.Array, right: pa.Array) -> np.ndarray:
    equal: np.ndarray = pc.equal(left, right).fill_null(False).to_numpy(zero_copy_only=False)
    return equal


def _one_chunk(column: pa.ChunkedArray) -> np.ndarray:
    """A column that was written as one batch, without copying it."""
    values: np.ndarray = column.chunk(0).to_numpy()
    return values
