"""`lrat export trajectories`: trajectories as BrowseComp-Plus run files, one JSON file each, for the tools that read those."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Work
from lrat_ray.config import Config
from lrat_ray.schema import Rejected, Trajectory
from lrat_ray.trajectories import source
from lrat_ray.trajectories.run_files import to_run_file

_PER_SHARE = 256
_REJECTED = ".rejected/export.parquet"  # hidden, so that whoever reads the run files does not take it for a log
_MAX_NAME_BYTES = 240  # of a file; file systems allow 255, of which an unfinished file needs some


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How many run files were written, and what could not be: as rows in the file `rejected_uri`."""

    uri: str
    written: int
    rejected: int

    @property
    def rejected_uri(self) -> str:
        return artifacts.join(self.uri, _REJECTED)


def run(config: Config) -> Exported:
    """`config.trajectories` (an artifact, or logs in any format) -> `config.output`/<trajectory_id>.json.

    A trajectory that came from a run file gives that run file, field for field. There is no manifest: tools take every JSON
    file there for a run. Raises ConfigError for a setting that is missing, ArtifactError when the source cannot be read, or
    when files are there already and `config.force` is not set.
    """
    uri = config.require("trajectories", "it is what is exported")
    output = config.require("output", "the run files are written there")
    shares = source.shares(uri, _PER_SHARE, format_name=config.logs.format)
    if not config.force and artifacts.exists(output) and (there := artifacts.list_files(output, ".json")):
        raise ArtifactError(f"{there[0]} is there already. Choose another --output, or pass --force to write over such files")
    dialect = source.dialect(config.logs)
    written: set[str] = set()
    rejected: list[Rejected] = []
    for piece in (piece for share in shares for piece in share):
        for item in source.read(piece, uri, config.logs.format, dialect):
            refused = item if isinstance(item, Rejected) else _refused(item, piece.file, written)
            if refused is not None:
                rejected.append(refused)
                continue
            assert isinstance(item, Trajectory)
            with artifacts.atomic_write(artifacts.join(output, f"{item.trajectory_id}.json")) as file:
                file.write(json.dumps(to_run_file(item), indent=2, ensure_ascii=False).encode())
            written.add(item.trajectory_id)
    exported = Exported(uri=output, written=len(written), rejected=len(rejected))
    artifacts.remove(exported.rejected_uri)  # of an earlier export
    if rejected:
        Work(output, "run-files", {}, {}).write_rows(_REJECTED, rejected, Rejected)
    return exported


def _refused(trajectory: Trajectory, file: str, written: set[str]) -> Rejected | None:
    """Why a trajectory gets no file; None when it gets one."""
    name = trajectory.trajectory_id
    if name in written:
        reason, problem = "repeated trajectory_id", "was written before; the first one is kept"
    elif not name or posixpath.normpath(name) != name or name.startswith(("/", "../")) or "\0" in name:
        reason, problem = "no file name", "is no path below the output"
    elif max(len(part.encode()) for part in f"{name}.json".split("/")) > _MAX_NAME_BYTES:
        reason, problem = "no file name", f"is longer than the {_MAX_NAME_BYTES} bytes that a file's name may have"
    else:
        return None
    position = f"trajectory {name}"
    return Rejected(source=file, position=position, reason=reason, detail=f"{file}: trajectory_id {name!r} {problem}")
