"""`lrat analyze` end to end on local Ray: the real run files, made runs with outcomes and evidence, bad input, the page."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lrat_ray import artifacts, cli
from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import Config
from lrat_ray.mining import analyze, pipeline
from lrat_ray.mining.analysis_page import render_page
from lrat_ray.schema import Question, Trajectory, to_table
from tests.mining.made_runs import made_questions, made_runs

pytestmark = pytest.mark.usefixtures("ray_local")

_ATTACK = "<script>document.title='owned'</script>"


def config_for(trajectories: Path | str, output: Path, **changes: Any) -> Config:
    return Config().replace(trajectories=str(trajectories), output=str(output), **changes)


def analysis_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "analysis.json").read_text())


def pooled(analysis: dict[str, Any], table: str) -> list[dict[str, Any]]:
    return [row for row in analysis[table] if row["agent"] == row["release_id"] == "pooled"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trajectories artifact of 120 made runs in three parts, and questions.parquet beside it."""
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("made")
    runs = made_runs(60, agents=("agent-4B", "agent-30B"))
    work = artifacts.begin(str(folder / "runs"), kind="trajectories", config={}, inputs={})
    names = [f"part-{number:05}.parquet" for number in range(3)]
    for number, name in enumerate(names):
        work.write_rows(name, runs[40 * number : 40 * (number + 1)], Trajectory)
    work.finish(parts=names, rows={"in": 120, "out": 120, "rejected": 0})
    pq.write_table(to_table(made_questions(60), Question), folder / "questions.parquet")
    return folder


def test_the_real_run_files_have_the_numbers_of_a_plain_count(lrat_trajectories: Path, tmp_path: Path) -> None:
    folder = lrat_trajectories / "trajectories"
    manifest = analyze.run(config_for(folder, tmp_path / "out"))
    found = analysis_of(tmp_path / "out")
    calls: Counter[str] = Counter()
    following: Counter[tuple[str, str]] = Counter()
    ranks: Counter[int] = Counter()
    shown_by: Counter[str] = Counter()
    for path in sorted(folder.glob("*.json")):
        lists: list[list[str]] = []
        kinds = []
        for entry in json.loads(path.read_text())["result"]:
            if entry["type"] == "tool_call" and entry["tool_name"] == "search":
                kinds.append("search")
                lists.append(re.findall(r"^DocID:(\S+)$", entry["output"], re.MULTILINE))
            elif entry["type"] == "tool_call":
                kinds.append("browse")
                arguments = entry["arguments"]
                docid = str((arguments if isinstance(arguments, dict) else json.loads(arguments))["docid"])
                showing = [number for number, docids in enumerate(lists) if docid in docids]
                shown_by["latest" if showing[-1] == len(lists) - 1 else "earlier"] += 1
                ranks[lists[showing[-1]].index(docid) + 1] += 1
            elif entry["type"] == "output_text":
                kinds.append("answer")
        calls.update(kinds)
        following.update(itertools.pairwise(kinds))
    assert ranks == {1: 9, 2: 7, 3: 2, 8: 2}
    (row,) = pooled(found, "table_1")
    assert (row["outcome"], row["trajectories"]) == ("unknown", 7)
    assert (row["avg_search"], row["avg_browse"]) == (calls["search"] / 7, calls["browse"] / 7) == (48 / 7, 20 / 7)
    assert {r["rank"]: r["browses"] for r in pooled(found, "browse_ranks") if r["browses"]} == ranks
    (shown,) = pooled(found, "shown_by")
    assert (shown["latest"], shown["earlier"], shown["none"]) == (shown_by["latest"], shown_by["earlier"], 0) == (17, 3, 0)
    for row in pooled(found, "transitions"):
        counts = {name: row[name] * row["number"] for name in ("search", "browse", "answer")}
        assert counts == pytest.approx({name: following[row["after"], name] for name in counts})
    (lengths,) = pooled(found, "reasoning_lengths")
    # The tokenizer is MiniLM's; the ten trajectories that these are seven of have the same median.
    assert (lengths["browses"], lengths["median_tokens"]) == (20, 177)
    by_name = {row["name"]: row for row in found["assumptions"]}
    assert by_name["even_ranks"]["verdict"] == "does not hold"
    # Ranks of ten, from 0: 9 x 0, 7 x 1, 2 x 2 and 2 x 7 ninths over 20 browses.
    assert by_name["even_ranks"]["estimate"] == pytest.approx(25 / 9 / 20)
    assert by_name["even_ranks"]["p_value"] < 0.001
    assert {name for name, row in by_name.items() if row["verdict"] != "not measurable here"} == {"even_ranks"}
    assert manifest.rows == {"in": 7, "out": 7, "rejected": 0}
    assert manifest.metrics["questions"] == 7
    assert analyze.run(config_for(folder, tmp_path / "out")) == manifest


def test_outcomes_and_evidence_and_any_number_of_parts(made: Path, tmp_path: Path) -> None:
    config = config_for(made / "runs", tmp_path / "one", questions__eval=str(made / "questions.parquet"))
    manifest = analyze.run(config)
    found = analysis_of(tmp_path / "one")
    runs = made_runs(60, agents=("agent-4B", "agent-30B"))
    assert manifest.rows == {"in": 120, "out": 120, "rejected": 0}
    assert {(row["agent"], row["release_id"]) for row in found["table_1"]} == {
        ("pooled", "pooled"),
        *((agent, release) for agent in ("agent-4B", "agent-30B") for release in ("bm25", "dense")),
    }
    expected: Counter[tuple[int, bool | None]] = Counter()
    for run in runs:
        opened = {step.docid for step in run.steps if step.kind == "browse"}
        evidence = {f"d{run.query_id[1:]}-{number}" for number in (0, 1)}
        expected[len(opened & evidence), run.correct] += 1
    for row in pooled(found, "success_by_evidence"):
        assert row["correct"] == expected[row["evidence"], True]
        assert row["trajectories"] == expected[row["evidence"], True] + expected[row["evidence"], False]
        assert row["ci95"][0] <= row["success_rate"] <= row["ci95"][1]
    assert analysis_verdict(found, "opening_evidence") == "holds"
    again = analyze.run(config.replace(output=str(tmp_path / "again"), mining__trajectories_per_part=16))
    assert len(again.parts) >= len(manifest.parts)
    assert analysis_of(tmp_path / "again") == found


def analysis_verdict(analysis: dict[str, Any], name: str) -> str:
    (row,) = (row for row in analysis["assumptions"] if row["name"] == name)
    return str(row["verdict"])


def test_verdicts_of_a_judge_stand_in_for_evidence(lrat_trajectories: Path, tmp_path: Path) -> None:
    folder = lrat_trajectories / "trajectories"
    pipeline.run(config_for(folder, tmp_path / "pairs", judge__backend="rule"))
    analyze.run(config_for(folder, tmp_path / "out", analyze__browses=str(tmp_path / "pairs" / "judged")))
    found = analysis_of(tmp_path / "out")
    rows = {row["judged"]: row for row in found["judged_lengths"] if row["agent"] == "pooled"}
    assert {name: row["browses"] for name, row in rows.items()} == {"relevant": 19, "not relevant": 1}
    (length,) = (row for row in found["assumptions"] if row["name"] == "reasoning_length")
    assert length["observations"] == 20
    assert found["protocol"]["browses"]["judged"] == 20
    with pytest.raises(ArtifactError, match="kind 'pairs', but one of kind 'browses'"):
        analyze.run(config_for(folder, tmp_path / "wrong", analyze__browses=str(tmp_path / "pairs")))


def test_unreadable_logs_are_listed_and_the_others_counted(lrat_trajectories: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for path in (lrat_trajectories / "trajectories").glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    (folder / "6.json").write_text('{"query_id": "6", "result": [')
    manifest = analyze.run(config_for(folder, tmp_path / "out"))
    assert manifest.rows == {"in": 7, "out": 6, "rejected": 1}
    (rejected,) = artifacts.read_rejected(manifest.uri)
    assert Path(rejected.source).name == "6.json"


def test_an_interrupted_analysis_continues_with_the_parts_that_are_missing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(made / "runs", tmp_path / "cut", mining__trajectories_per_part=16)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(analyze, "_total", interrupted)
        with pytest.raises(KeyboardInterrupt):
            analyze.run(config)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("part-*.parquet")}
    missing = min(there)
    missing.unlink()
    resumed = analyze.run(config)
    kept = {path: path.stat().st_mtime_ns for path in there if path != missing}
    assert kept == {path: time for path, time in there.items() if path != missing}
    whole = analyze.run(config.replace(output=str(tmp_path / "whole")))
    assert (resumed.rows, resumed.metrics) == (whole.rows, whole.metrics)
    assert analysis_of(tmp_path / "cut") == analysis_of(tmp_path / "whole")


def test_bad_input_is_an_error_that_says_why(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trajectories: .*nowhere does not exist"):
        analyze.run(config_for(tmp_path / "nowhere", tmp_path / "out"))
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "1.json").write_text('{"query_id": "1"}')
    with pytest.raises(ArtifactError, match="holds no trajectory"):
        analyze.run(config_for(folder, tmp_path / "out2"))
    other = tmp_path / "other.jsonl"
    row = {"query_id": "q1", "question": "Question 1?", "answer": "yes", "evidence_docids": ["elsewhere"]}
    other.write_text(json.dumps(row) + "\n")
    questions = {"questions__eval": str(made / "questions.parquet"), "questions__train": str(other)}
    with pytest.raises(ArtifactError, match="question 'q1' of .*other.jsonl has other evidence"):
        analyze.run(config_for(made / "runs", tmp_path / "out3", **questions))


def test_the_command_prints_verdicts_paths_and_what_comes_next(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--trajectories", str(made / "runs"), "--questions", str(made / "questions.parquet")]
    assert cli.run(["analyze", *flags, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "does not hold: even_ranks. Mean relative rank" in printed
    assert "[" in printed.split("opening_evidence")[1]  # brackets of an interval are not taken for markup
    assert f"page:     {tmp_path}/out/analysis.html" in printed
    assert f"next: lrat mine --trajectories {made}/runs --output PAIRS" in printed
    assert cli.run(["analyze", *flags, "--output", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["verdicts"]["even_ranks"] == "does not hold"


@pytest.fixture(scope="module")
def analysis(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("page") / "out"
    analyze.run(config_for(made / "runs", output, questions__eval=str(made / "questions.parquet")))
    return analysis_of(output)


def test_the_page_has_every_figure_with_its_numbers_and_asks_nobody_for_anything(analysis: dict[str, Any]) -> None:
    page = render_page(analysis)
    for part in ("Table 1", "what agents do next", "success against what was opened", "documents stood", "Figure 6"):
        assert part in page
    assert all(row["finding"].split(".")[0].replace("'", "&#39;") in page for row in analysis["assumptions"])
    assert not re.search(r"<(script|img|iframe|form)|url\(|https?://", page)
    assert page.count("<svg") == page.count('role="img" aria-label=')
    empty = {name: [] if isinstance(rows, list) and name != "assumptions" else rows for name, rows in analysis.items()}
    assert "There is nothing to draw." in render_page(empty)


def test_names_in_logs_are_escaped(analysis: dict[str, Any]) -> None:
    rows = [{**row, "agent": _ATTACK} if row["agent"] != "pooled" else row for row in analysis["table_1"]]
    page = render_page({**analysis, "table_1": rows})
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.browser
def test_a_browser_shows_the_page_without_requests_or_errors(analysis: dict[str, Any], tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: no chromium, chromium-browser or google-chrome on the path")
    file = tmp_path / "analysis.html"
    file.write_text(render_page(analysis), encoding="utf-8")
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--no-first-run"]
    wanted = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom", file.as_uri()]
    done = subprocess.run([chromium, *offline, *wanted], capture_output=True, text=True, timeout=120, check=True)
    assert "What the method assumes, and whether it holds here" in done.stdout
    assert "CONSOLE" not in done.stderr
