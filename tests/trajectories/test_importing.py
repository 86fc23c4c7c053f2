"""Logs of many kinds become one artifact, every record accounted for, and go back to the files that they were."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import Config
from lrat_ray.schema import Rejected, Trajectory, from_table
from lrat_ray.trajectories import exporting, importing, source

RUN = {"query_id": "1", "query": "who?", "result": [{"type": "output_text", "output": "she"}]}


def config_for(trajectories: Path | str, output: Path, **changes: Any) -> Config:
    return Config().replace(trajectories=str(trajectories), output=str(output), **changes)


@pytest.fixture
def mixed(lrat_trajectories: Path, tmp_path: Path) -> Path:
    """Real run files, a file of lines, a packed one, and a broken one."""
    folder = tmp_path / "mixed"
    shutil.copytree(lrat_trajectories / "trajectories", folder)
    line = json.dumps(RUN) + "\n"
    (folder / "lines.jsonl").write_text(line + "oops\n" + line)
    (folder / "packed.json.gz").write_bytes(gzip.compress(line.encode()))
    (folder / "broken.json").write_text('{"query_id": "1"')
    return folder


@pytest.mark.usefixtures("ray_local")
class TestImport:
    def test_every_record_is_a_trajectory_or_a_rejected_row(self, mixed: Path, lrat_trajectories: Path, tmp_path: Path) -> None:
        corpus = lrat_trajectories / "corpus.parquet"
        config = config_for(mixed, tmp_path / "out", corpus=str(corpus), mining__trajectories_per_part=4)
        manifest = importing.run(config)
        assert manifest.rows == {"in": 12, "out": 10, "rejected": 2}
        assert manifest.metrics == {
            "trajectories": 10,
            "searches": 48,
            "results": 480,
            "browses": 20,
            "browses_shown": 20,
            "docids": 341,
            "docids_in_corpus": 341,
            "repeated_trajectory_ids": 0,
            "rejected_by_reason": {"malformed record": 2},
        }
        found = {row.trajectory_id: row for row in artifacts.read_rows(manifest.uri, Trajectory, "trajectories")}
        assert sorted(found) == ["1", "10", "11", "15", "4", "5", "6", "lines@0", f"lines@{len(json.dumps(RUN)) + 6}", "packed"]
        assert [(row.source, row.position) for row in artifacts.read_rejected(manifest.uri)] == [
            (f"{mixed}/broken.json", "line 1 column 17"),
            (f"{mixed}/lines.jsonl", "line 2 column 1"),
        ]
        dialect = source.dialect(config.logs)
        (run_file,) = source.read(source.Slice(f"{mixed}/10.json"), str(mixed), "auto", dialect)
        assert found["10"] == run_file
        assert importing.run(config) == manifest
        with pytest.raises(ArtifactError, match="made from something else .config.logs.search_tools"):
            importing.run(config.replace(logs__search_tools=("find",)))

    def test_an_interrupted_import_makes_only_the_parts_that_are_missing(self, mixed: Path, tmp_path: Path) -> None:
        config = config_for(mixed, tmp_path / "out", mining__trajectories_per_part=4)
        whole = importing.run(config)
        assert len(whole.parts) == 3
        kept = [tmp_path / "out" / part for part in whole.parts]
        before = [path.stat().st_mtime_ns for path in kept]
        (tmp_path / "out" / "manifest.json").unlink()
        artifacts.write_json(
            str(tmp_path / "out" / "started.json"), {"kind": "trajectories", "config": whole.config, "inputs": whole.inputs}
        )
        kept[1].unlink()
        again = importing.run(config)
        assert (again.rows, again.metrics, again.parts) == (whole.rows, whole.metrics, whole.parts)
        after = [path.stat().st_mtime_ns for path in kept]
        assert (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]

    def test_copies_are_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "1.json").write_text(json.dumps(RUN))
        (tmp_path / "1.json.gz").write_bytes(gzip.compress(json.dumps(RUN).encode()))
        manifest = importing.run(config_for(f"{tmp_path}/1.*", tmp_path / "out"))  # a glob, too
        assert manifest.metrics["repeated_trajectory_ids"] == 1
        assert "1 trajectories have the trajectory_id of another one" in caplog.text
        assert "no search and no browse was found" in caplog.text

    def test_a_source_without_a_trajectory_is_no_artifact(self, tmp_path: Path) -> None:
        (tmp_path / "1.json").write_text("{}")
        with pytest.raises(ArtifactError, match=r"holds no trajectory; .*1.json, top level: no known format"):
            importing.run(config_for(tmp_path / "1.json", tmp_path / "out"))
        assert not artifacts.exists(f"{tmp_path}/out/manifest.json")

    @pytest.mark.parametrize(
        ("row", "message"),
        [({"docid": "1", "body": "x"}, "b.jsonl has no column 'text'"), (None, "corpus: .* does not exist")],
    )
    def test_an_unfit_corpus_is_said_before_anything_is_imported(
        self, tmp_path: Path, row: dict[str, str] | None, message: str
    ) -> None:
        """It was noticed when all parts were written, and they were of no use to the import with the right corpus."""
        (tmp_path / "1.json").write_text(json.dumps(RUN))
        if row is not None:
            (tmp_path / "corpus").mkdir()
            (tmp_path / "corpus" / "a.jsonl").write_text('{"docid": "0", "text": "good"}\n')
            (tmp_path / "corpus" / "b.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(ArtifactError, match=message):
            importing.run(config_for(tmp_path / "1.json", tmp_path / "out", corpus=str(tmp_path / "corpus")))
        assert not (tmp_path / "out").exists()

    def test_run_files_come_back_field_for_field(self, lrat_trajectories: Path, tmp_path: Path) -> None:
        folder = lrat_trajectories / "trajectories"
        importing.run(config_for(folder, tmp_path / "artifact"))
        exported = exporting.run(config_for(tmp_path / "artifact", tmp_path / "runs"))
        assert (exported.written, exported.rejected) == (7, 0)
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(path.name for path in folder.iterdir())
        for path in folder.iterdir():
            assert json.loads((tmp_path / "runs" / path.name).read_bytes()) == json.loads(path.read_bytes())


def rejected_rows(exported: exporting.Exported) -> list[Rejected]:
    return list(from_table(artifacts.read_table(exported.rejected_uri), Rejected))


class TestExport:
    def test_any_log_becomes_run_files_below_the_output(self, mixed: Path, tmp_path: Path) -> None:
        exported = exporting.run(config_for(mixed, tmp_path / "runs"))
        assert (exported.written, exported.rejected) == (10, 2)
        assert json.loads((tmp_path / "runs" / "lines@0.json").read_bytes()) == RUN
        assert len(list(rejected_rows(exported))) == 2
        with pytest.raises(ArtifactError, match=r"1.json is there already. Choose another --output, or pass --force"):
            exporting.run(config_for(mixed, tmp_path / "runs"))
        assert exporting.run(config_for(mixed, tmp_path / "runs", force=True)) == exported

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//b", "a\0b", "x" * 236, "a/" + "é" * 121 + "/b"])
    def test_an_id_leads_nowhere_else(self, tmp_path: Path, name: str) -> None:
        log = tmp_path / "a.jsonl"
        log.write_text(json.dumps({**RUN, "trajectory_id": name}) + "\n" + json.dumps({**RUN, "trajectory_id": "a/b"}) + "\n")
        exported = exporting.run(config_for(log, tmp_path / "runs"))
        assert (exported.written, exported.rejected) == (1, 1)
        (row,) = rejected_rows(exported)
        assert row.reason == "no file name" and repr(name) in row.detail
        assert [path.relative_to(tmp_path / "runs").as_posix() for path in tmp_path.rglob("*.json")] == ["a/b.json"]

    def test_the_first_of_two_with_one_id_is_kept(self, tmp_path: Path) -> None:
        log = tmp_path / "a.jsonl"
        lines = [{**RUN, "trajectory_id": "t", "query": query} for query in ("first", "second")]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        exported = exporting.run(config_for(log, tmp_path / "runs"))
        assert exported.rejected == 1
        assert json.loads((tmp_path / "runs" / "t.json").read_bytes())["query"] == "first"
        (row,) = rejected_rows(exported)
        assert isinstance(row, Rejected) and row.reason == "repeated trajectory_id"

    def test_what_it_leaves_beside_the_run_files_is_no_log_and_no_leftover(self, mixed: Path, tmp_path: Path) -> None:
        exported = exporting.run(config_for(mixed, tmp_path / "runs"))
        assert exported.rejected_uri == f"{tmp_path}/runs/.rejected/export.parquet" and len(rejected_rows(exported)) == 2
        again = exporting.run(config_for(tmp_path / "runs", tmp_path / "again"))
        assert (again.written, again.rejected) == (10, 0)
        exported = exporting.run(config_for(tmp_path / "again", tmp_path / "runs", force=True))
        assert exported.rejected == 0 and not artifacts.exists(exported.rejected_uri)
