"""Reading trajectories from any container; what cannot be read is listed, not fatal, and cutting a file changes nothing."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.schema import Rejected, Trajectory, to_table
from lrat_ray.sections import Logs
from lrat_ray.trajectories import json_entries, sharing, source
from lrat_ray.trajectories.source import Slice, shares

RUN = {"query_id": "1", "query": "who?", "result": [{"type": "output_text", "output": "she"}]}
LINE = json.dumps(RUN).encode() + b"\n"
ROWS = [Trajectory(trajectory_id=str(i), query_id="1", question="q", agent="a", status="s", steps=[]) for i in range(3)]
MESSAGES = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "she"}]


def read_all(root: Path | str, per_share: int = 2, format_name: str = "auto") -> list[Trajectory | Rejected]:
    dialect = source.dialect(Logs())
    pieces = [piece for share in shares(str(root), per_share, format_name=format_name) for piece in share]
    return [item for piece in pieces for item in source.read(piece, str(root), format_name, dialect)]


def ids(root: Path | str, per_share: int = 2) -> list[str]:
    return [item.trajectory_id if isinstance(item, Trajectory) else item.detail for item in read_all(root, per_share)]


def rejected(root: Path | str, per_share: int = 2) -> list[tuple[str, str]]:
    return [(item.position, item.reason) for item in read_all(root, per_share) if isinstance(item, Rejected)]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class TestListing:
    def test_run_files_are_read_in_order_and_named_by_their_path(self, tmp_path: Path) -> None:
        for name in ("b.json", "seed2/a.json", "a.json"):
            write(tmp_path / name, LINE)
        assert [len(share) for share in shares(str(tmp_path), 2)] == [2, 1]
        assert ids(tmp_path) == ["a", "b", "seed2/a"]
        assert ids(tmp_path / "b.json") == ["b"]

    def test_what_is_no_log_is_passed_over_and_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("README.md", "readme.json", ".hidden.json", ".git/x.json", "LICENSE", "1.json"):
            write(tmp_path / name, LINE)
        with caplog.at_level("INFO", logger="lrat_ray"):
            assert ids(tmp_path) == ["1"]
        assert "passed over LICENSE and 2 other files that are no logs" in caplog.text

    def test_a_glob_names_files_below_the_folder_before_its_first_wildcard(self, tmp_path: Path) -> None:
        for name in ("logs/a/run-1.json", "logs/b/run-2.json", "logs/b/other.json", "logs/b/trace.log"):
            write(tmp_path / name, LINE)
        assert ids(f"{tmp_path}/logs/*/run-*.json") == ["a/run-1", "b/run-2"]
        assert ids(f"{tmp_path}/logs/b*") == ["b/other", "b/run-2"]  # a folder gives its logs
        assert ids(f"{tmp_path}/logs/b/*.log") == ["trace.log"]  # a file that is named is read, whatever its name

    def test_any_file_system(self) -> None:
        for name in ("a.json", "deep/b.jsonl"):
            with fsspec.open(f"memory://listing/{name}", "wb") as file:
                file.write(LINE * 2 if name.endswith("l") else LINE)
        assert ids("memory://listing") == ["a", "deep/b@0", f"deep/b@{len(LINE)}"]
        assert ids("memory://listing/deep/*.jsonl") == ["b@0", f"b@{len(LINE)}"]
        assert ids("memory://listing/a.json") == ["a"]

    def test_nothing_to_read_is_said_before_any_work(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="nowhere does not exist"):
            shares(str(tmp_path / "nowhere"), 1)
        with pytest.raises(
            ArtifactError, match=r"no log lies in the directory .*; looked for .json, .jsonl, .ndjson, .parquet"
        ):
            shares(str(tmp_path), 1)
        with pytest.raises(ArtifactError, match=r"no file matches .*\*.json"):
            shares(f"{tmp_path}/*.json", 1)
        artifacts.begin(str(tmp_path / "pairs"), kind="pairs", config={}, inputs={}).finish(parts=[], rows={})
        with pytest.raises(ArtifactError, match="kind 'pairs', but one of kind 'trajectories'"):
            shares(str(tmp_path / "pairs"), 1)

    @pytest.mark.parametrize(
        "content", [b'{"files": ["1.json"]}', b"no JSON", b"\xff", b'{"kind": "x", "parts": [], "other": 1}']
    )
    def test_a_manifest_that_is_not_ours_is_one_more_file(self, tmp_path: Path, content: bytes) -> None:
        write(tmp_path / "1.json", LINE)
        write(tmp_path / "manifest.json", content)
        assert [item.reason if isinstance(item, Rejected) else "" for item in read_all(tmp_path)] == ["", "malformed record"]

    def test_many_small_files_are_shared_out_unopened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(30):
            write(tmp_path / f"{number:02}.json", LINE)
            write(tmp_path / f"{number:02}.json.gz", gzip.compress(LINE))
        monkeypatch.setattr(sharing, "open_file", None)
        assert [len(share) for share in shares(str(tmp_path), 25)] == [25, 25, 10]


class TestArtifacts:
    def test_an_artifact_is_read_part_by_part(self, tmp_path: Path) -> None:
        work = artifacts.begin(str(tmp_path), kind="trajectories", config={}, inputs={})
        work.write_rows("part-00000.parquet", ROWS[:2], Trajectory)
        work.write_rows("part-00001.parquet", ROWS[2:], Trajectory)
        with pytest.raises(ArtifactError, match="unfinished"):
            shares(str(tmp_path), 10)
        work.finish(parts=["part-00000.parquet", "part-00001.parquet"], rows={"in": 3, "out": 3, "rejected": 0})
        assert [len(share) for share in shares(str(tmp_path), 10)] == [1, 1]
        assert read_all(tmp_path) == ROWS

    def test_a_part_by_itself_and_a_part_that_is_gone(self, tmp_path: Path) -> None:
        work = artifacts.begin(str(tmp_path), kind="trajectories", config={}, inputs={})
        work.write_rows("part-00000.parquet", ROWS, Trajectory)
        assert read_all(tmp_path / "part-00000.parquet", per_share=1) == ROWS
        with pytest.raises(ArtifactError, match="part-00001.parquet cannot be read"):
            list(source.read(Slice(f"{tmp_path}/part-00001.parquet"), str(tmp_path), "auto", source.dialect(Logs())))


def _parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
}


class TestContainers:
    @pytest.mark.parametrize("packed", PACKED)
    @pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
    @pytest.mark.parametrize(
        ("content", "keys"),
        [
            (LINE * 3, ["@0", f"@{len(LINE)}", f"@{2 * len(LINE)}"]),
            (b"\xef\xbb\xbf" + LINE + b"\r\n\n" + LINE.strip(), ["@0", f"@{len(LINE) + 6}"]),
            (json.dumps(RUN, indent=1).encode(), [""]),
            (json.dumps([RUN, RUN], indent=1).encode(), ["@0", "@1"]),
            (b"[" + LINE + b"," + LINE + b"]", ["@0", "@1"]),
            (json.dumps(MESSAGES, indent=1).encode(), [""]),
            ((json.dumps(MESSAGES).encode() + b"\n") * 2, ["@0", f"@{len(json.dumps(MESSAGES)) + 1}"]),
        ],
        ids=["lines", "bom-and-blank-lines", "document", "list", "list-of-lines", "messages", "lines-of-messages"],
    )
    def test_content_says_what_a_file_holds(
        self, tmp_path: Path, name: str, packed: str, content: bytes, keys: list[str]
    ) -> None:
        path = write(tmp_path / f"{name}{packed}", PACKED[packed](content))
        assert ids(tmp_path) == [f"a{key}" for key in keys]
        assert ids(path.rename(tmp_path / "log")) == [f"log{key}" for key in keys]  # without any extension

    def test_one_line_is_a_document_or_the_first_of_a_file_of_lines(self, tmp_path: Path) -> None:
        write(tmp_path / "a.json", LINE)
        write(tmp_path / "b.jsonl", LINE)
        assert ids(tmp_path) == ["a", "b@0"]

    @pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
    def test_a_broken_first_line_does_not_cost_the_others(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / name, LINE[:20] + b"\n" + LINE + LINE)
        first, *others = read_all(tmp_path, 100)
        assert isinstance(first, Rejected) and (first.position, first.reason) == ("line 1 column 19", "malformed record")
        assert [isinstance(other, Trajectory) for other in others] == [True, True]

    @pytest.mark.parametrize("text", [True, False])
    def test_parquet_rows_of_another_log(self, tmp_path: Path, text: bool) -> None:
        rows = [{"id": i, "when": None, "messages": json.dumps(MESSAGES) if text else MESSAGES} for i in range(5)]
        write(tmp_path / "a.parquet", _parquet(rows, row_group_size=2))
        assert shares(str(tmp_path), 2) == [
            [Slice(f"{tmp_path}/a.parquet", start, stop)] for start, stop in ((0, 2), (2, 4), (4, 5))
        ]
        assert len(shares(str(tmp_path), 3)) == 2
        for per_share in (1, 3, 100):
            assert ids(tmp_path, per_share) == [f"a@{i}" for i in range(5)]
        assert [t.final_answer for t in read_all(tmp_path) if isinstance(t, Trajectory)] == ["she"] * 5

    def test_a_record_names_itself(self, tmp_path: Path) -> None:
        named = json.dumps({**RUN, "trajectory_id": "mine"}).encode() + b"\n"
        unnamed = json.dumps({**RUN, "trajectory_id": ""}).encode() + b"\n"
        write(tmp_path / "a.jsonl", named + unnamed)
        write(tmp_path / "b.parquet", _parquet([{"trajectory_id": "ours", "messages": MESSAGES}]))
        assert ids(tmp_path) == ["mine", f"a@{len(named)}", "ours"]

    def test_rows_of_which_several_make_a_trajectory_stay_together(self, tmp_path: Path) -> None:
        events = [
            {"trajectory_id": name, "type": kind, "text": f"{name}?"}
            for kind in ("question", "answer")
            for name in ("x", "y", "z")
        ]
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in [*events[:3], {"type": "answer"}, *events[3:]])
        write(tmp_path / "a.jsonl", b"not JSON\n" + lines)
        write(tmp_path / "b.parquet", _parquet(events, row_group_size=1))
        write(tmp_path / "c.json", json.dumps(events).encode())
        assert [len(share) for share in shares(str(tmp_path), 1)] == [1, 1, 1]
        found = [item.trajectory_id if isinstance(item, Trajectory) else item.position for item in read_all(tmp_path, 1)]
        assert found == ["line 5", "x", "y", "z", "line 1 column 1", "x", "y", "z", "x", "y", "z"]

    def test_rows_that_give_no_trajectory_are_rejected_by_its_name(self, tmp_path: Path) -> None:
        events = [{"trajectory_id": "x", "type": "answer", "text": "she"}, {"trajectory_id": "y", "type": "answer"}]
        write(tmp_path / "a.jsonl", b"".join(json.dumps(event).encode() + b"\n" for event in events))
        assert rejected(tmp_path) == [("trajectory y, events[0].text", "malformed record")]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
    def test_a_file_of_rows_that_memory_should_not_hold_is_too_large(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events = [{"trajectory_id": f"t{i}", "type": "answer", "text": "she"} for i in range(100)]
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        write(tmp_path / name, _parquet(events) if name.endswith("parquet") else PACKED[name[7:]](lines))
        assert len(ids(tmp_path)) == 100
        monkeypatch.setattr(source, "MAX_ROWS_BYTES", 500)
        (item,) = read_all(tmp_path)
        assert isinstance(item, Rejected) and (item.position, item.reason) == ("", "too large")
        assert "split the log by trajectory" in item.detail

    def test_the_same_trajectories_whatever_the_container(self, lrat_trajectories: Path, tmp_path: Path) -> None:
        folder = lrat_trajectories / "trajectories"
        expected = {item.query_id: item for item in read_all(folder) if isinstance(item, Trajectory)}
        runs = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
        lines = b"".join(json.dumps(run).encode() + b"\n" for run in runs)
        columns = [
            {name: json.dumps(value) if name in ("metadata", "result") else value for name, value in run.items()}
            for run in runs
        ]
        for name, content in {
            "a.jsonl": lines,
            "b.jsonl.gz": gzip.compress(lines),
            "c.json.zst": zstandard.compress(lines),
            "d.json": json.dumps(runs, ensure_ascii=False).encode(),
            "e.parquet": _parquet(columns),
        }.items():
            path = write(tmp_path / name, content)
            for per_share in (1, 100):
                found = read_all(path, per_share)
                assert len(found) == 7
                for item in found:
                    assert isinstance(item, Trajectory), item
                    same = replace(item, trajectory_id=expected[item.query_id].trajectory_id)
                    # A file keeps the order of its fields; Parquet has the order of its columns.
                    assert replace(same, metadata=None) == replace(expected[item.query_id], metadata=None)
                    assert json.loads(same.metadata or "") == json.loads(expected[item.query_id].metadata or "")


class TestCutting:
    @given(st.lists(st.integers(0, 40), max_size=12), st.lists(st.integers(0, 500), max_size=6), st.booleans())
    def test_any_cut_yields_every_line_once(self, lengths: list[int], cuts: list[int], ends: bool) -> None:
        """A line of length 0 is blank: it is passed over wherever the cut is."""
        lines = [json.dumps("x" * (length - 2)) if length > 1 else "7" * length for length in lengths]
        raw = "\n".join(lines).encode() + (b"\n" if ends and lines else b"")
        offsets = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
        expected = [(str(offset), json.loads(line)) for offset, line in zip(offsets, lines, strict=True) if line]
        bounds = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
        found = [
            (entry.key, entry.value)
            for start, stop in itertools.pairwise(bounds)
            for entry in json_entries.entries(io.BytesIO(raw), "a.jsonl", start, stop)
        ]
        assert found == expected

    def test_a_large_file_of_lines_is_shared_by_many_tasks(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", LINE * 10)
        write(tmp_path / "b.jsonl", LINE * 3)
        pieces = shares(str(tmp_path), 2)
        assert [len(share) for share in pieces] == [1] * 7
        assert pieces[1] == [Slice(f"{tmp_path}/a.jsonl", 2 * len(LINE), 4 * len(LINE))]
        everything = ids(tmp_path, 1000)
        assert len(shares(str(tmp_path), 1000)) == 1
        assert everything == [f"a@{i * len(LINE)}" for i in range(10)] + [f"b@{i * len(LINE)}" for i in range(3)]
        for per_share in (1, 2, 3, 7):
            assert ids(tmp_path, per_share) == everything

    def test_lines_in_ranges_of_a_remote_file(self) -> None:
        with fsspec.open("memory://cut/a.jsonl", "wb") as file:
            file.write(LINE * 9)
        assert len(shares("memory://cut", 4)) == 3
        assert ids("memory://cut", 4) == [f"a@{i * len(LINE)}" for i in range(9)]

    def test_compressed_files_are_one_slice_weighed_by_their_size(self, tmp_path: Path) -> None:
        write(tmp_path / "a.jsonl", LINE)
        for number in range(4):
            write(tmp_path / f"b{number}.jsonl.gz", gzip.compress(LINE * 3))
        assert [len(share) for share in shares(str(tmp_path), 8)] == [3, 2]

    def test_a_200_mb_file_is_read_a_line_at_a_time(self, tmp_path: Path) -> None:
        line = json.dumps({**RUN, "pad": "x" * 1_000_000}).encode() + b"\n"
        with (tmp_path / "big.json").open("wb") as file:  # not named .jsonl
            for _ in range(200):
                file.write(line)
        pieces = [piece for share in shares(str(tmp_path), 256) for piece in share]
        assert len(pieces) == -(-200 * len(line) // (16 << 20))
        tracemalloc.start()
        found = [t for piece in pieces for t in source.read(piece, str(tmp_path), "auto", source.dialect(Logs(), texts=False))]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [t.trajectory_id for t in found if isinstance(t, Trajectory)] == [f"big@{i * len(line)}" for i in range(200)]
        assert peak < 16_000_000

    @pytest.mark.parametrize("packed", PACKED)
    def test_what_is_too_large_is_said_and_the_rest_read(
        self, tmp_path: Path, packed: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_entries, "MAX_BYTES", 1 << 10)
        huge = json.dumps({**RUN, "pad": "x" * 5000}).encode() + b"\n"
        write(tmp_path / f"a.json{packed}", PACKED[packed](huge))
        write(tmp_path / f"b.json{packed}", PACKED[packed](json.dumps([RUN] * 20, indent=1).encode()))
        write(tmp_path / f"c.jsonl{packed}", PACKED[packed](LINE + huge + LINE))
        write(tmp_path / f"d.jsonl{packed}", PACKED[packed](huge + LINE))
        positions = ["", "", "line 2", "line 1"]
        assert rejected(tmp_path, 10_000) == [(position, "too large") for position in positions]
        assert len(read_all(tmp_path)) == 7
        first = read_all(tmp_path)[0]
        assert isinstance(first, Rejected) and "write one trajectory on each line (JSONL)" in first.detail


class TestRejected:
    @pytest.mark.parametrize(
        ("content", "position", "problem"),
        [
            (b'{"query_id": "1", "result": [', "line 1 column 30", "breaks off"),
            (b'{"query_id": "1", "result": [{"out', "line 1 column 31", "Unterminated string"),
            (b"", "line 1 column 1", "the file is empty"),
            (b" \n\n", "line 1 column 1", "the file is empty"),
            (b'{"query_id": 1,\n "result": oops}', "line 2 column 12", "not JSON"),
            (b'{"query_id": "\xff"}', "byte 14", "not UTF-8"),
            (b'{"query_id": "1"}', "top level", "no known format (keys: query_id)"),
            (b'{"query_id": "1", "result": 7}', "result", "expected a list, found int '7'"),
            (b'"text"', "top level", "expected an object, found str"),
            (b"[]", "top level", "an empty list"),
            (b'["a", "b"]', "top level", "a list"),
            (b'[{"a": 1}]', "[0], top level", "no known format (keys: a)"),
            (b"[" * 100_000, "", "nested too deeply"),
            (b'{"query_id": ' + b"9" * 5000 + b"}", "", "not JSON (Exceeds the limit"),
        ],
    )
    def test_a_malformed_file_is_rejected_with_file_position_and_reason(
        self, tmp_path: Path, content: bytes, position: str, problem: str
    ) -> None:
        write(tmp_path / "good.json", LINE)
        bad = write(tmp_path / "bad.json", content)
        found, good = read_all(tmp_path)
        assert isinstance(good, Trajectory)
        assert isinstance(found, Rejected)
        assert (found.source, found.position, found.reason) == (str(bad), position, "malformed record")
        assert problem in found.detail and str(bad) in found.detail

    def test_a_malformed_line_says_its_number_and_in_a_part_of_a_file_its_first_byte(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", LINE + b'{"query_id": oops}\n' + b'"\xff"\n' + b"{}\n" + LINE)
        assert rejected(path) == [
            (f"line at byte {len(LINE)} column 14", "malformed record"),
            (f"line at byte {len(LINE) + 19}, byte 1", "malformed record"),
            (f"line at byte {len(LINE) + 23}, top level", "malformed record"),
        ]
        whole = [item for item in source.read(Slice(str(path)), str(path), "auto", source.dialect(Logs()))]
        assert [item.position for item in whole if isinstance(item, Rejected)] == [
            "line 2 column 14",
            "line 3, byte 1",
            "line 4, top level",
        ]

    @pytest.mark.parametrize("packed", [".gz", ".zst"])
    def test_a_compressed_file_that_breaks_off_gives_what_is_whole(self, tmp_path: Path, packed: str) -> None:
        raw = PACKED[packed](LINE) + PACKED[packed](LINE)
        write(tmp_path / f"a.jsonl{packed}", raw[:-3])
        *_, last = read_all(tmp_path)
        assert isinstance(last, Rejected) and (last.position, last.reason) == ("the end", "malformed record")
        assert "breaks off" in last.detail

    def test_what_is_no_parquet_file(self, tmp_path: Path) -> None:
        write(tmp_path / "a.parquet", b"PAR1 no footer")
        write(tmp_path / "b.parquet", b"")
        write(tmp_path / "c.parquet", _parquet([{"source": "s", "position": "1"}]))
        assert rejected(tmp_path) == [
            ("the footer", "malformed record"),
            ("the footer", "malformed record"),
            ("row 0, top level", "malformed record"),
        ]

    def test_our_schema_in_a_damaged_file_or_with_other_steps(self, tmp_path: Path) -> None:
        """A footer that is whole promises rows; a page that is not is said, and so are steps that are none of ours."""
        good = {"trajectory_id": "t", "query_id": "q", "question": "?", "agent": "a", "status": "s"}
        write(tmp_path / "a.parquet", _parquet([{**good, "steps": '[{"turn": 0}]'}]))
        write(tmp_path / "b.parquet", _parquet([{**good, "steps": [{"text": "no turn, no kind"}]}]))
        raw = bytearray(_parquet([{**good, "steps": [{"turn": 0, "kind": "answer"}]}], compression="zstd"))
        raw[8:60] = bytes(52)
        write(tmp_path / "c.parquet", bytes(raw))
        positions = ["row 0, top level", "row 0", "row 0"]
        assert rejected(tmp_path) == [(position, "malformed record") for position in positions]

    def test_a_row_whose_text_is_not_utf_8_does_not_cost_the_others(self, tmp_path: Path) -> None:
        texts = pa.array([b"1", b"\xff", b"3"]).view(pa.string())
        messages = json.dumps(MESSAGES)
        table = pa.table({"query_id": texts, "messages": [messages] * 3})
        pq.write_table(table, tmp_path / "a.parquet")
        ours = to_table(ROWS, Trajectory)
        ours = ours.set_column(ours.schema.get_field_index("question"), "question", texts)
        pq.write_table(ours, tmp_path / "b.parquet")
        assert rejected(tmp_path) == [("row 1", "malformed record"), ("row 1", "malformed record")]
        assert [t.query_id for t in read_all(tmp_path / "a.parquet") if isinstance(t, Trajectory)] == ["1", "3"]
        assert [t.question for t in read_all(tmp_path / "b.parquet") if isinstance(t, Trajectory)] == ["1", "3"]

    @pytest.mark.parametrize("name", ["1.json", "1.jsonl"])
    def test_half_an_escaped_character_does_not_cost_the_trajectory(self, tmp_path: Path, name: str) -> None:
        """A tool cut a snippet inside an emoji: valid JSON, but no text that Arrow can store."""
        path = write(tmp_path / name, b'{"query_id": "1", "query": "\\ud83d, \\ud83d\\ude00", "score": NaN, "result": []}\n')
        (trajectory,) = read_all(path)
        assert isinstance(trajectory, Trajectory)
        assert trajectory.question == "\N{REPLACEMENT CHARACTER}, \N{GRINNING FACE}"

    def test_a_format_that_was_asked_for_is_the_only_one_tried(self, tmp_path: Path) -> None:
        write(tmp_path / "1.json", json.dumps(MESSAGES).encode())
        (item,) = read_all(tmp_path, format_name="run-file")
        assert isinstance(item, Rejected)
        (item,) = read_all(tmp_path, format_name="chat")
        assert isinstance(item, Trajectory)
