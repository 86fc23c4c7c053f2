"""Reading trajectories from files, directories and artifacts; what cannot be read is listed, not fatal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.schema import Rejected, Trajectory
from lrat_ray.trajectories.source import chunks, read

RUN = {"query_id": "1", "query": "who?", "result": [{"type": "output_text", "output": "she"}]}


def read_all(root: Path) -> list[Trajectory | Rejected]:
    files = [file for chunk in chunks(str(root), 2) for file in chunk]
    return [t for file in files for t in read(file, str(root), search_tools=("search",), browse_tools=("visit",))]


def test_run_files_are_read_in_order_and_named_by_their_path(tmp_path: Path) -> None:
    for name in ("b.json", "seed2/a.json", "a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(RUN))
    (tmp_path / "README.md").write_text("not a run file")
    assert [len(chunk) for chunk in chunks(str(tmp_path), 2)] == [2, 1]
    assert [t.trajectory_id for t in read_all(tmp_path) if isinstance(t, Trajectory)] == ["a", "b", "seed2/a"]
    assert [t.trajectory_id for t in read_all(tmp_path / "b.json") if isinstance(t, Trajectory)] == ["b"]


def test_an_artifact_is_read_part_by_part(tmp_path: Path) -> None:
    rows = [Trajectory(trajectory_id=str(i), query_id="1", question="q", agent="a", status="s", steps=[]) for i in range(3)]
    work = artifacts.begin(str(tmp_path), kind="trajectories", config={}, inputs={})
    work.write_rows("part-00000.parquet", rows[:2], Trajectory)
    work.write_rows("part-00001.parquet", rows[2:], Trajectory)
    with pytest.raises(ArtifactError, match="unfinished"):
        chunks(str(tmp_path), 10)
    work.finish(parts=["part-00000.parquet", "part-00001.parquet"], rows={"in": 3, "out": 3, "rejected": 0})
    assert [len(chunk) for chunk in chunks(str(tmp_path), 10)] == [1, 1]
    assert read_all(tmp_path) == rows


@pytest.mark.parametrize(
    ("content", "position", "problem"),
    [
        (b'{"query_id": "1", "result": [', "line 1 column 30", "breaks off"),
        (b'{"query_id": "1", "result": [{"out', "line 1 column 31", "Unterminated string"),
        (b"", "line 1 column 1", "breaks off"),
        (b'{"query_id": 1,\n "result": oops}', "line 2 column 12", "not JSON"),
        (b'{"query_id": "\xff"}', "byte 14", "not UTF-8"),
        (b'{"query_id": "1"}', "result", "found nothing"),
    ],
)
def test_a_malformed_file_is_rejected_with_file_position_and_reason(
    tmp_path: Path, content: bytes, position: str, problem: str
) -> None:
    (tmp_path / "good.json").write_text(json.dumps(RUN))
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    rejected, good = read_all(tmp_path)
    assert isinstance(good, Trajectory)
    assert isinstance(rejected, Rejected)
    assert (rejected.source, rejected.position, rejected.reason) == (str(bad), position, "malformed run file")
    assert problem in rejected.detail and str(bad) in rejected.detail


def test_half_an_escaped_character_does_not_cost_the_trajectory(tmp_path: Path) -> None:
    """A tool cut a snippet inside an emoji: valid JSON, but no text that Arrow can store."""
    path = tmp_path / "1.json"
    path.write_text('{"query_id": "1", "query": "\\ud83d, \\ud83d\\ude00", "result": []}')
    (trajectory,) = read_all(path)
    assert isinstance(trajectory, Trajectory)
    assert trajectory.question == "�, \N{GRINNING FACE}"


def test_nothing_to_read_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        chunks(str(tmp_path / "nowhere"), 1)
    with pytest.raises(ArtifactError, match="neither a directory with run files"):
        chunks(str(tmp_path), 1)
    artifacts.begin(str(tmp_path / "pairs"), kind="pairs", config={}, inputs={}).finish(parts=[], rows={})
    with pytest.raises(ArtifactError, match="kind 'pairs', but one of kind 'trajectories'"):
        chunks(str(tmp_path / "pairs"), 1)


def test_a_parquet_file_of_other_rows_is_refused_with_the_columns_it_lacks(tmp_path: Path) -> None:
    artifacts.begin(str(tmp_path), kind="x", config={}, inputs={}).write_rows("part.parquet", [], Rejected)
    with pytest.raises(ArtifactError, match="part.parquet: Trajectory rows need"):
        read_all(tmp_path / "part.parquet")
