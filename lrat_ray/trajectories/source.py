"""Where trajectories are read from: run files (one, or a directory of them) or the Parquet parts of our own rollouts.

What cannot be read becomes a rejected row that names file, position and reason; the other trajectories go on.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.schema import Rejected, Trajectory, from_table
from lrat_ray.text import without_lone_surrogates
from lrat_ray.trajectories.run_files import RunFileError, parse_run_file

_PARQUET = ".parquet"


def chunks(uri: str, run_files_per_chunk: int) -> list[list[str]]:
    """The files of a source, in the shares in which they are worked on: run files by the number given, Parquet parts singly.

    Raises ArtifactError when nothing is there, when there is no run file in the directory, or when the artifact is unfinished
    or holds something else.
    """
    files = _files(uri)
    size = 1 if files[0].endswith(_PARQUET) else run_files_per_chunk
    return [files[start : start + size] for start in range(0, len(files), size)]


def read(file: str, root: str, *, search_tools: Sequence[str], browse_tools: Sequence[str]) -> Iterator[Trajectory | Rejected]:
    """The trajectories of one file of the source `root`: one of a run file, or a rejected row; the rows of a Parquet part.

    The trajectory_id of a run file is its path below `root` without .json: query_ids repeat where a question was asked twice.
    """
    if file.endswith(_PARQUET):
        table = artifacts.read_table(file)
        try:
            yield from from_table(table, Trajectory)
        except ValueError as error:
            raise ArtifactError(f"trajectories: {file}: {error}") from error
        return
    try:
        yield parse_run_file(_load(file), _trajectory_id(file, root), search_tools=search_tools, browse_tools=browse_tools)
    except RunFileError as error:
        fix = "Repair the file or take it out of the directory; a run file has query_id and a list of steps named result"
        detail = f"{file}, {error.position}: {error.problem}. {fix}"
        yield Rejected(source=file, position=error.position, reason="malformed run file", detail=detail)


def _files(uri: str) -> list[str]:
    if not artifacts.exists(uri):
        raise ArtifactError(f"trajectories: {uri} does not exist")
    if any(artifacts.exists(artifacts.join(uri, name)) for name in (artifacts.MANIFEST, "part-00000.parquet")):
        files = artifacts.read_manifest(uri, "trajectories").part_uris()
        expected = "a trajectories artifact without a single part; run the rollout again"
    else:
        is_file = url_to_fs(uri)[0].isfile(url_to_fs(uri)[1])
        files = [uri] if is_file else artifacts.list_files(uri, ".json")
        expected = "neither a directory with run files (*.json) nor an artifact of `lrat rollout`"
    if not files:
        raise ArtifactError(f"trajectories: {uri} is {expected}")
    return files


def _load(file: str) -> Any:
    with fsspec.open(file, "rb") as stream:
        raw: bytes = stream.read()
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RunFileError(f"byte {error.start}", f"not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        end = "; the file breaks off" if error.pos >= len(error.doc.rstrip()) else ""
        raise RunFileError(f"line {error.lineno} column {error.colno}", f"not JSON ({error.msg}{end})") from error
    return without_lone_surrogates(data) if b"\\ud" in raw.lower() else data


def _trajectory_id(file: str, root: str) -> str:
    file_path, root_path = url_to_fs(file)[1], url_to_fs(root)[1]
    relative = posixpath.basename(file_path) if file_path == root_path else posixpath.relpath(file_path, root_path)
    return str(relative).removesuffix(".json")
