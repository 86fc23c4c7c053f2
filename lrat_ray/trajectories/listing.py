"""The files that a source names (a file, a directory or a glob, on any fsspec URI), and what each is called below it."""

from __future__ import annotations

import functools
import glob
import logging
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs

from lrat_ray.artifacts import ArtifactError

PARQUET = ".parquet"
COMPRESSED = (".gz", ".zst", ".zstd")
_LOGS = (".json", ".jsonl", ".ndjson", PARQUET)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class File:
    """A file by its full URI (a plain path when it is local), and its size in bytes."""

    uri: str
    size: int


def list_logs(uri: str) -> list[File]:
    """The log files of a source, sorted; no file is opened.

    A directory gives its .json, .jsonl, .ndjson and .parquet files (also .gz, .zst), whatever the depth; README files and the
    like are passed over with a line in the log, hidden files without. A file that is named, or matched by a glob, is read
    whatever its name. Raises ArtifactError when nothing is there.
    """
    fs, path = url_to_fs(uri)
    prefix = _prefix(fs)
    if fs.isfile(path):
        return [File(prefix(path), fs.size(path))]
    if fs.isdir(path):
        files = _logs_below(fs, path)
    elif glob.has_magic(path):
        matches = fs.glob(path, detail=True)
        files = {name: info for name, info in matches.items() if info["type"] == "file"}
        for directory in (name for name, info in matches.items() if info["type"] == "directory"):
            files |= _logs_below(fs, directory)
    else:
        raise ArtifactError(f"trajectories: {uri} does not exist")
    if not files:
        what = "no file matches" if glob.has_magic(path) and not fs.isdir(path) else "no log lies in the directory"
        raise ArtifactError(f"trajectories: {what} {uri}; looked for {', '.join(_LOGS)}, each also with .gz or .zst")
    return [File(prefix(name), info["size"]) for name, info in sorted(files.items())]


def name_below(file: str, root: str) -> str:
    """What a file of source `root` is called: its path below root without extensions (for a file by itself, its name)."""
    base = _base(root)
    return without_extensions(file[len(base) :] if file.startswith(base) else posixpath.basename(file))


def without_extensions(name: str) -> str:
    """`a/1.json.gz` -> `a/1`; other extensions stay."""
    for extension in (*COMPRESSED, *_LOGS):
        name = name.removesuffix(extension)
    return name


@functools.lru_cache(maxsize=64)
def _base(root: str) -> str:
    """What the URIs of a source's files begin with. Cached: it asks the file system, and is needed for each file."""
    fs, path = url_to_fs(root)
    if not fs.isdir(path):
        path = posixpath.dirname(path)
        while glob.has_magic(path):
            path = posixpath.dirname(path)
    return _prefix(fs)(path).rstrip("/") + "/"


def _logs_below(fs: Any, directory: str) -> dict[str, dict[str, Any]]:
    found = fs.find(directory, detail=True)
    visible = {name: info for name, info in found.items() if "/." not in name[len(directory) :]}
    logs = {name: info for name, info in visible.items() if is_log(name)}
    if others := [name for name in visible if name not in logs]:
        _log.info("%s: passed over %s", directory, _some(others))
    return logs


def is_log(name: str) -> bool:
    """Whether a file in a directory is taken for a log, by its name."""
    stem = name.lower()
    for extension in COMPRESSED:
        stem = stem.removesuffix(extension)
    return stem.endswith(_LOGS) and not posixpath.basename(stem).startswith("readme")


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(posixpath.basename(name) for name in names)
    return f"{first} and {len(others)} other files that are no logs" if others else f"{first}, which is no log"


def _prefix(fs: Any) -> Any:
    """How a path of this file system becomes a URI; a local path stays one."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return str if "file" in protocols else fs.unstrip_protocol
