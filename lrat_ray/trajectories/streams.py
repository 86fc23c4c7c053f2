"""Files as streams of bytes: local ones opened directly, gzip and Zstandard unpacked, told from their first bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import fsspec
import zstandard

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What reading raises when a compressed file is damaged or breaks off."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BUFFER = 1 << 16
_PACKED = 1 << 15  # a few of these unpacked at once are still little memory


@contextmanager
def open_file(file: str) -> Iterator[BinaryIO]:
    """A file as it is, buffered and seekable. Raises FileNotFoundError."""
    if "://" not in file:  # fsspec takes as long to open a local file as we to parse it
        with open(file, "rb", buffering=_BUFFER) as local:
            yield local
        return
    with fsspec.open(file, "rb") as remote:
        yield cast(BinaryIO, io.BufferedReader(remote, _BUFFER))


def unpacked(raw: BinaryIO) -> BinaryIO:
    """The bytes of a file, unpacked where it is compressed; reading raises one of BROKEN where it is damaged."""
    head = first_bytes(raw)
    if head.startswith(_GZIP):
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), _BUFFER))
    if head.startswith(_ZSTD):
        return cast(BinaryIO, io.BufferedReader(_ZstdReader(raw), _BUFFER))
    return raw


def first_bytes(raw: BinaryIO) -> bytes:
    """The first bytes of a file that `open_file` opened, by which its kind is told; they are not consumed."""
    return cast(io.BufferedReader, raw).peek(8)[:8]


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins with these bytes is unpacked by `unpacked`."""
    return head.startswith((_GZIP, _ZSTD))


class _ZstdReader(io.RawIOBase):
    """The unpacked bytes of Zstandard frames. Unlike the library's reader it does not take a file that breaks off for whole."""

    def __init__(self, raw: BinaryIO):
        self._raw, self._frame, self._begun = raw, zstandard.ZstdDecompressor().decompressobj(), False
        self._unpacked = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._unpacked:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            packed = packed or self._raw.read(_PACKED)
            if not packed:
                if self._begun:
                    raise EOFError("the last Zstandard frame has no end")
                return 0
            self._unpacked, self._begun = self._frame.decompress(packed), True
        count = min(len(buffer), len(self._unpacked))
        buffer[:count], self._unpacked = self._unpacked[:count], self._unpacked[count:]
        return count
