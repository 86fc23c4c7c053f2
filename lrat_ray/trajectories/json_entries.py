"""The values in a JSON file, one at a time: one document, or one value on each line; told from its content.

A name says little: `.json` files hold lines, and `.jsonl` files one indented document. So the first line is parsed by itself:
when it is a whole value and another line follows, the file holds lines. No more than one line, or one document, is in memory.
"""

from __future__ import annotations

import io
import itertools
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from lrat_ray.text import without_lone_surrogates
from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.streams import BROKEN

MAX_BYTES = 64 << 20
"""Size of the largest document, or line, that is read."""

LINES = (".jsonl", ".ndjson")
"""Ends of the names of files that hold lines."""

_BOM = b"\xef\xbb\xbf"
_SKIPPED = 1 << 20
_SAMPLE = 1 << 18


class TooLargeError(LogError):
    """A document or a line of more than MAX_BYTES."""

    def __init__(self, what: str):
        problem = f"the {what} is larger than {MAX_BYTES >> 20} MiB; write one trajectory on each line (JSONL)"
        super().__init__("", problem)


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in a file, or the LogError that stands for it.

    `position` says where in the file (`line 3`; "" for the whole file); `key` tells it from the file's other values ("" for the
    only one).
    """

    position: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is not blank: its first byte, its number from 1, and its bytes (None when they are too many)."""

    offset: int
    number: int
    raw: bytes | None


def entries(stream: BinaryIO, name: str, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
    """The values in a JSON file called `name`; with `stop`, those on the lines that begin in its bytes [start, stop).

    The key of a line is the number of its first byte, so it does not depend on how a file is cut. What is no JSON, is too
    large, or was lost where a compressed file breaks off is an entry whose value is a LogError.
    """
    try:
        if stop is None:
            yield from _whole(stream, name)
        else:
            for line in _lines_between(stream, start, stop):
                yield _line_entry(line, f"line at byte {line.offset}")
    except BROKEN as error:
        yield Entry("the end", "", LogError("", f"the compressed file is damaged or breaks off ({error})"))


def sample(stream: BinaryIO, name: str) -> tuple[bytes, int] | None:
    """The first whole line of a file that holds lines, and their length (mean of the first ones); None for any other file."""
    lines = _lines(stream)
    first, second = next(lines, None), next(lines, None)
    if first is None or not _hold_values(first, second, name):
        return None
    line, count = first, 0
    for line in itertools.chain([first], [second] if second else [], lines):
        count += 1
        if line.raw is None or line.offset > _SAMPLE:
            break
        first = line if not _is_value(first) else first
    end = line.offset + len(line.raw or b"")
    return first.raw or b"", max(1, end // count)


def load(raw: bytes) -> Any:
    """The value in JSON text. Half an escaped character becomes U+FFFD; NaN is allowed, and integers of up to 4,300 digits.

    Raises LogError with the place: `line 2 column 7`, or `byte 14` for what is not UTF-8.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # the standard library allows more (a tool that cut a text inside an emoji), and says where it breaks off
    try:
        text = raw.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        raise LogError(f"byte {error.start}", f"not UTF-8 ({error.reason})") from error
    try:
        return without_lone_surrogates(json.loads(text))
    except json.JSONDecodeError as error:
        breaks_off = error.pos >= len(text) or error.msg.startswith("Unterminated")
        problem = f"not JSON ({error.msg}{'; it breaks off' if breaks_off else ''})"
        raise LogError(f"line {error.lineno} column {error.colno}", problem) from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise LogError("", f"not JSON ({error})") from error
    except RecursionError as error:
        raise LogError("", "nested too deeply to be read") from error


def _whole(stream: BinaryIO, name: str) -> Iterator[Entry]:
    lines = _lines(stream)
    first = next(lines, None)
    if first is None:
        yield Entry("", "", LogError("line 1 column 1", "the file is empty"))
        return
    second = next(lines, None)
    if _hold_values(first, second, name):
        for line in itertools.chain([first], [second] if second else [], lines):
            yield _line_entry(line, f"line {line.number}")
        return
    raw = _at_its_line(first) + (_at_its_line(second, after=first) if second else b"")
    raw += stream.read(max(MAX_BYTES + 1 - len(raw), 0))
    if first.raw is None or len(raw) > MAX_BYTES:
        yield Entry("", "", TooLargeError("file"))
    else:
        yield from _document(raw, second, name)


def _document(raw: bytes, second: _Line | None, name: str) -> Iterator[Entry]:
    try:
        value = load(raw)
    except LogError as error:
        if second is not None and _is_value(second):  # lines, of which the first is broken
            yield from (_line_entry(line, f"line {line.number}") for line in _lines(io.BytesIO(raw)))
        else:
            yield Entry("", "", error)
        return
    yield Entry("", "", value)


def _hold_values(first: _Line, second: _Line | None, name: str) -> bool:
    """Whether there is a value on each line, judging by the first one; for a broken or an only line, by the name."""
    named_so = any(extension in posixpath.basename(name).lower() for extension in LINES)
    if first.raw is None:
        return named_so or second is not None
    if second is None and not named_so:
        return False
    return _is_value(first) or (named_so and first.raw.strip() != b"{" and not first.raw.startswith(b"["))


def _is_value(line: _Line) -> bool:
    if line.raw is None or line.raw.rstrip() in (b"{", b"["):  # the first line of an indented document, as in every run file
        return False
    try:
        load(line.raw)
        return True
    except LogError:
        return False


def _line_entry(line: _Line, position: str) -> Entry:
    key = str(line.offset)
    if line.raw is None:
        return Entry(position, key, TooLargeError("line"))
    try:
        return Entry(position, key, load(line.raw))
    except LogError as error:
        column = error.position.removeprefix("line 1 ") if error.position.startswith("line 1 ") else None
        return (
            Entry(position, key, error) if column is None else Entry(f"{position} {column}", key, LogError("", error.problem))
        )


def _lines_between(stream: BinaryIO, start: int, stop: int) -> Iterator[_Line]:
    """The lines that begin in the bytes [start, stop); the last may end after them."""
    offset = start
    if start:
        stream.seek(start - 1)  # where that byte ends a line, the next one is ours
        offset += _skip_line(stream) - 1
    if offset < stop:
        yield from itertools.takewhile(lambda line: line.offset < stop, _lines(stream, offset))


def _lines(stream: BinaryIO, offset: int = 0) -> Iterator[_Line]:
    for number in itertools.count(1):
        raw = stream.readline(MAX_BYTES + 1)
        if not raw:
            return
        if len(raw) > MAX_BYTES:
            length = len(raw) if raw.endswith(b"\n") else len(raw) + _skip_line(stream)
            yield _Line(offset, number, None)
            offset += length
            continue
        text = raw.removeprefix(_BOM) if offset == 0 else raw
        if not text.isspace() and text:
            yield _Line(offset, number, text)
        offset += len(raw)


def _skip_line(stream: BinaryIO) -> int:
    """Move behind the next end of line; returns how many bytes that was."""
    skipped = 0
    while raw := stream.readline(_SKIPPED):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


def _at_its_line(line: _Line, after: _Line | None = None) -> bytes:
    """A line with the blank ones before it, so that the parser counts as an editor does."""
    return b"\n" * (line.number - 1 - (after.number if after else 0)) + (line.raw or b"")
