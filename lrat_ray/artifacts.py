"""Stage outputs: a directory with parts, rejected rows and a manifest that is written last, on any fsspec URI.

    work = artifacts.begin(config.output, kind="pairs", config=config.only("mining"), inputs={"trajectories": uri})
    if work.manifest:                        # the same work was finished earlier
        return work.manifest
    if not work.has("part-00000.parquet"):   # an interrupted run left its finished parts
        work.write_table("part-00000.parquet", table)
    return work.finish(parts=["part-00000.parquet"], rows={"in": 3, "out": 2, "rejected": 1})

A directory without a manifest is unfinished work that the same command continues; readers trust only what a manifest lists.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import posixpath
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from lrat_ray import __version__
from lrat_ray.schema import SCHEMA_VERSION, Rejected, from_table, to_table

MANIFEST = "manifest.json"
STARTED = "started.json"

Row = TypeVar("Row")


class ArtifactError(ValueError):
    """An input that is missing or unfit, or an output directory that holds other work; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what it was made from, and what became of every input row."""

    uri: str
    kind: str
    config: dict[str, Any]
    config_hash: str
    inputs: dict[str, dict[str, Any]]
    parts: list[str]
    rows: dict[str, int]
    metrics: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    package_version: str = __version__

    def part_uris(self) -> list[str]:
        """Full URIs of the parts, in order."""
        return [join(self.uri, part) for part in self.parts]


class Work:
    """An output directory being filled. Part names are deterministic, so that a rerun finds what is already there."""

    def __init__(self, uri: str, kind: str, config: dict[str, Any], inputs: dict[str, dict[str, Any]]):
        self.uri, self.kind, self.config, self.inputs = uri, kind, config, inputs
        self.manifest: Manifest | None = None
        self.continues = False  # whether an interrupted run began this work
        self._began = time.monotonic()

    def has(self, name: str) -> bool:
        """Whether an earlier, interrupted run of the same work wrote this file."""
        return exists(join(self.uri, name))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one Parquet file so that it is there whole or not at all."""
        with atomic_write(join(self.uri, name)) as file:
            pq.write_table(table, file)

    def write_rows(self, name: str, rows: Iterable[Any], row_type: type) -> None:
        self.write_table(name, to_table(rows, row_type))

    def write_json(self, name: str, data: Any) -> None:
        write_json(join(self.uri, name), data)

    def write_rejected(self, name: str, rows: Iterable[Rejected]) -> int:
        """Write rejected/<name>.parquet; returns how many rows it holds. No file is written for none."""
        kept = list(rows)
        if kept:
            self.write_rows(f"rejected/{name}.parquet", kept, Rejected)
        return len(kept)

    def finish(
        self,
        *,
        parts: list[str],
        rows: dict[str, int],
        metrics: dict[str, Any] | None = None,
        timings_s: dict[str, float] | None = None,
        protocol: dict[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest, which makes the artifact whole. `rows` holds at least "in", "out" and "rejected"."""
        self.manifest = Manifest(
            uri=self.uri,
            kind=self.kind,
            config=self.config,
            config_hash=_hash(self.config),
            inputs=self.inputs,
            parts=parts,
            rows=rows,
            metrics=metrics or {},
            timings_s={"total": round(time.monotonic() - self._began, 3), **(timings_s or {})},
            protocol=protocol or {},
        )
        body = asdict(self.manifest)
        del body["uri"]  # an artifact may be moved
        write_json(join(self.uri, MANIFEST), body)
        remove(join(self.uri, STARTED))
        return self.manifest


def begin(uri: str, *, kind: str, config: dict[str, Any], inputs: dict[str, str | None], force: bool = False) -> Work:
    """Open the output directory of a stage: new, to be continued, or finished (then `.manifest` is set).

    `inputs` maps a name to the URI it is read from (None entries are left out). Raises ArtifactError when an input does not
    exist, or when the directory holds work of another kind, configuration or input and `force` is not set. `force` deletes
    earlier work, and nothing else (see `start_over`).
    """
    config = json.loads(json.dumps(config))  # as a manifest reads back: lists for tuples
    work = Work(uri, kind, config, {name: fingerprint(name, source) for name, source in inputs.items() if source})
    if force:
        start_over(uri, inputs)
    ours = {"kind": kind, "config": config, "inputs": work.inputs}
    if exists(join(uri, MANIFEST)):
        manifest = read_manifest(uri)
        _check_same(uri, {"kind": manifest.kind, "config": manifest.config, "inputs": manifest.inputs}, ours)
        work.manifest = manifest
    elif exists(join(uri, STARTED)):
        _check_same(uri, read_json(join(uri, STARTED)), ours)
        work.continues = True
    else:
        write_json(join(uri, STARTED), ours)
    return work


def start_over(uri: str, inputs: dict[str, str | None]) -> None:
    """Delete the work in an output directory. Raises ArtifactError for a directory that holds no work of ours, or an input."""
    if not exists(uri):
        return
    if not is_work(uri):
        raise ArtifactError(
            f"{uri} holds neither {MANIFEST} nor {STARTED}, so it is not ours to delete (--force). Delete it yourself"
        )
    for name, source in inputs.items():
        if source and f"{url_to_fs(source)[1]}/".startswith(f"{url_to_fs(uri)[1].rstrip('/')}/"):
            raise ArtifactError(f"{name}: {source} lies inside the output {uri}, which --force would delete")
    remove(uri)


def _check_same(uri: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    old, new = _flatten(theirs), _flatten(ours)
    changed = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in [*new, *(key for key in old if key not in new)]
        if old.get(key) != new.get(key) and not key.endswith(".uri")
    ]
    if changed:
        raise ArtifactError(
            f"{uri} holds work made from something else ({'; '.join(changed[:3])}). "
            "Choose another --output, or pass --force to start over"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out.update(_flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
    return out


def read_manifest(uri: str, kind: str | None = None) -> Manifest:
    """The manifest of a finished artifact. Raises ArtifactError if there is none, or a foreign file, or another kind."""
    if not exists(join(uri, MANIFEST)):
        state = "is unfinished: run the command that writes it again" if exists(uri) else "does not exist"
        raise ArtifactError(f"{uri} {state}" if "exist" in state else f"{uri} has no {MANIFEST}, so it {state}")
    try:
        manifest = Manifest(uri=uri, **read_json(join(uri, MANIFEST)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{join(uri, MANIFEST)} is no manifest of an artifact ({error})") from error
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{uri} is an artifact of kind {manifest.kind!r}, but one of kind {kind!r} is needed here")
    return manifest


def is_work(uri: str) -> bool:
    """Whether `uri` is a finished artifact or one that was begun."""
    return exists(join(uri, MANIFEST)) or exists(join(uri, STARTED))


def is_artifact(uri: str, kind: str) -> bool:
    """Whether `uri` is a finished artifact of this kind."""
    return exists(join(uri, MANIFEST)) and read_manifest(uri).kind == kind


def read_rows(uri: str, row_type: type[Row], kind: str) -> Iterator[Row]:
    """The rows of a finished artifact, part by part in order."""
    for part in read_manifest(uri, kind).part_uris():
        yield from from_table(read_table(part), row_type)


def read_rejected(uri: str) -> Iterator[Rejected]:
    """Every rejected row of an artifact."""
    for path in list_files(join(uri, "rejected"), ".parquet"):
        yield from from_table(read_table(path), Rejected)


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or some of its columns. Raises ArtifactError if it is missing or is not Parquet."""
    try:
        with fsspec.open(uri, "rb") as file:
            return pq.read_table(file, columns=None if columns is None else list(columns))
    except FileNotFoundError as error:
        raise ArtifactError(f"{uri} does not exist") from error
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{uri} is not a Parquet file: {error}") from error


def memory_map(uri: str) -> pa.Table:
    """An Arrow IPC file, mapped into memory (of a remote one, a local copy)."""
    path = local_path(uri) or fsspec.open_local(f"simplecache::{uri}")
    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def fingerprint(name: str, uri: str) -> dict[str, Any]:
    """Identity of an input: URI, size and mtime or ETag; of a directory, its manifest's or all files'; of a glob, all files'.

    Raises ArtifactError naming the option `name` when nothing is there.
    """
    fs, path = url_to_fs(uri)
    if not fs.exists(path):
        if not (matches := fs.glob(path, detail=True) if glob.has_magic(path) else {}):
            raise ArtifactError(f"{name}: {uri} does not exist")
        found = [fs.find(p, detail=True) if info["type"] == "directory" else {p: info} for p, info in matches.items()]
        files = {p: info for part in found for p, info in part.items()}
        return {"uri": uri, "files": len(files), "identity": _hash([[p, _file_identity(files[p])] for p in sorted(files)])}
    if fs.isdir(path):
        manifest = posixpath.join(path, MANIFEST)
        if fs.exists(manifest):
            return {"uri": uri, **_file_identity(fs.info(manifest))}
        files = fs.find(path, detail=True)
        identities = [[posixpath.relpath(p, path), _file_identity(info)] for p, info in sorted(files.items())]
        return {"uri": uri, "files": len(files), "identity": _hash(identities)}
    return {"uri": uri, **_file_identity(fs.info(path))}


def _file_identity(info: dict[str, Any]) -> dict[str, Any]:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or info.get("updated")
    return {"size": info.get("size"), "version": str(version)}


def join(uri: str, *names: str) -> str:
    """`uri/name`, for local paths and URIs alike."""
    return "/".join([uri.rstrip("/"), *names])


def exists(uri: str) -> bool:
    fs, path = url_to_fs(uri)
    return bool(fs.exists(path))


def remove(uri: str) -> None:
    """Delete a file or a directory, if it is there."""
    fs, path = url_to_fs(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def list_files(uri: str, suffix: str = "") -> list[str]:
    """Every file under a directory (or the file itself) whose name ends in `suffix`, sorted; hidden files are left out."""
    fs, path = url_to_fs(uri)
    names = [path] if fs.isfile(path) else fs.find(path)
    wanted = sorted(n for n in names if n.endswith(suffix) and not posixpath.basename(n).startswith("."))
    return [fs.unstrip_protocol(n) if "://" in uri else n for n in wanted]


def local_path(uri: str) -> str | None:
    """The path of a local URI; None for a remote one."""
    fs, path = url_to_fs(uri)
    return path if isinstance(fs, fsspec.get_filesystem_class("file")) else None


class atomic_write:
    """Context manager: a binary file that appears whole or not at all.

    A local file is written beside its place and renamed; an object store makes an upload visible only when it is complete.
    """

    def __init__(self, uri: str):
        self._fs, self._path = url_to_fs(uri)
        self._is_local = local_path(uri) is not None
        self._target = f"{self._path}.tmp-{os.getpid()}" if self._is_local else self._path

    def __enter__(self) -> Any:
        self._fs.makedirs(posixpath.dirname(self._path), exist_ok=True)
        self._file = self._fs.open(self._target, "wb")
        return self._file

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        failed = error_type is not None
        if not self._is_local:
            self._file.discard() if failed else self._file.close()
            return
        self._file.close()
        if failed:
            os.remove(self._target)
        else:
            os.replace(self._target, self._path)


def write_json(uri: str, data: Any) -> None:
    with atomic_write(uri) as file:
        file.write((json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(uri: str) -> Any:
    with fsspec.open(uri, "r", encoding="utf-8") as file:
        return json.load(file)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
