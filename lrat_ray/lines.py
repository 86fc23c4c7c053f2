"""Files of lines (JSONL, TSV), unpacked where they are gzip or Zstandard, a few MB at a time."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import orjson
import pyarrow as pa

from lrat_ray.artifacts import ArtifactError
from lrat_ray.text import without_lone_surrogates

PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Endings of names of packed files, and how they are packed."""

_BYTES_PER_BLOCK = 1 << 22
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some lines of a file without their ends; the first has the number `start` (from 1). `read_bytes` of the file are read."""

    start: int
    lines: list[bytes]
    read_bytes: int

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        """(number, line) of each line that is not blank."""
        return ((number, line) for number, line in enumerate(self.lines, self.start) if line and not line.isspace())


@dataclass(frozen=True)
class BadLine:
    """Why nothing can be read from a line: a short code, and a sentence."""

    reason: str
    detail: str


def blocks(path: str, option: str) -> Iterator[Block]:
    """The lines of a file. Raises ArtifactError, naming the option, for one that is missing or damaged."""
    start, rest = 1, b""
    try:
        with fsspec.open(path, "rb") as file:
            packing = PACKED.get(posixpath.splitext(path)[1])
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), packing) if packing else file
            while block := stream.read(_BYTES_PER_BLOCK):
                lines = (rest + block).split(b"\n")
                rest = lines.pop()
                yield _block(start, lines, file.tell())
                start += len(lines)
            yield _block(start, [rest], file.tell())
    except FileNotFoundError as error:
        raise ArtifactError(f"{option}: {path} does not exist") from error
    except OSError as error:
        raise ArtifactError(f"{option}: {path} is damaged after line {start - 1}: {error}") from error


def parse_text(line: bytes) -> str | BadLine:
    """The text of a line."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return BadLine("not UTF-8", f"byte {error.start + 1} of the line is no UTF-8; convert the file, with iconv for example")


def parse_object(line: bytes) -> dict[str, Any] | BadLine:
    """The JSON object in a line. Halves of characters (a cut escape) become U+FFFD."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        text = parse_text(line)
        if isinstance(text, BadLine):
            return text
        try:
            row = without_lone_surrogates(json.loads(text))  # cut escapes, which orjson refuses
        except (ValueError, RecursionError) as error:
            return BadLine("malformed JSON", f"the line is no JSON: {error}")
    return row if isinstance(row, dict) else BadLine("malformed row", "the line is not a JSON object")


def _block(start: int, lines: list[bytes], read_bytes: int) -> Block:
    if start == 1 and lines:
        lines[0] = lines[0].removeprefix(_BOM)
    return Block(start, lines, read_bytes)
