"""Mining end to end on local Ray: real run files, a real HTTP judge, bad input, interruption."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.config import Config, ConfigError
from lrat_ray.mining import pipeline, weighing
from lrat_ray.mining.intensity import Intensity
from lrat_ray.mining.weighing import weigh
from lrat_ray.schema import Browse, Pair, Trajectory
from lrat_ray.trajectories import source

pytestmark = pytest.mark.usefixtures("ray_local")


def config_for(trajectories: Path | str, output: Path, **changes: Any) -> Config:
    return Config().replace(trajectories=str(trajectories), output=str(output), **changes)


def pairs_of(manifest: Manifest) -> list[Pair]:
    return list(artifacts.read_rows(manifest.uri, Pair, "pairs"))


def verdicts_of(output: Path) -> list[Browse]:
    """The browses that the pairs at `output` were made of."""
    return browses_of(output / "judged" if (output / "judged").exists() else output / "mined")


def browses_of(uri: str | Path) -> list[Browse]:
    return list(artifacts.read_rows(str(uri), Browse, "browses"))


@pytest.fixture
def run_files(lrat_trajectories: Path, tmp_path: Path) -> Path:
    """A writable copy of the seven real run files."""
    copy = tmp_path / "runs"
    copy.mkdir()
    for path in (lrat_trajectories / "trajectories").glob("*.json"):
        shutil.copyfile(path, copy / path.name)
    return copy


@pytest.mark.parametrize(("backend", "judge"), [("none", "all_relevant"), ("rule", "rule")])
def test_the_reference_protocol_yields_the_public_miners_pairs(
    lrat_trajectories: Path, tmp_path: Path, backend: str, judge: str
) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path, mining__protocol="reference", judge__backend=backend)
    pairs = pairs_of(pipeline.run(config))
    reasoning = {(b.trajectory_id, b.browse_step): b.reasoning for b in verdicts_of(tmp_path)}
    mined = [
        {
            "judge": judge,
            "trajectory": f"{pair.trajectory_id}.json",
            "query": pair.query,
            "positive_docid": pair.positive_docid,
            "negative_docids": pair.negative_docids,
            "relevant": pair.relevant,
            "reasoning_words": len(reasoning[pair.trajectory_id, pair.browse_step].split()),
        }
        for pair in pairs
    ]
    published = json.loads((lrat_trajectories / "reference-pairs.json").read_text())
    assert mined == [row for row in published if row["judge"] == judge]
    weights = [pair.weight for pair in pairs if pair.relevant]
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    assert all(pair.weight == 0 for pair in pairs if not pair.relevant)


def test_window_pairs_of_the_real_files_and_an_account_of_every_browse(lrat_trajectories: Path, tmp_path: Path) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path, judge__backend="rule")
    manifest = pipeline.run(config)
    assert manifest.rows == {"in": 20, "out": 19, "rejected": 1}
    assert manifest.metrics["rejected_by_reason"] == {"judged irrelevant": 1}
    pairs = pairs_of(manifest)
    assert sum(pair.weight for pair in pairs) / len(pairs) == pytest.approx(1.0)
    assert not any(set(pair.negative_docids) & {p.positive_docid for p in pairs} for pair in pairs)
    (rejected,) = artifacts.read_rejected(manifest.uri)
    judged = browses_of(tmp_path / "judged")
    assert judged[int(rejected.position.removeprefix("row "))].relevant is False
    # The tokenizer is MiniLM's; "[CLS]" and "[SEP]" are not counted, and no length is cut at the model's 512.
    assert [b.reasoning_tokens for b in judged if b.trajectory_id == "10"] == [30, 1017, 464, 760]
    assert pipeline.run(config) == manifest


def test_parts_change_nothing_but_the_files(lrat_trajectories: Path, tmp_path: Path) -> None:
    trajectories = lrat_trajectories / "trajectories"
    one = pipeline.run(config_for(trajectories, tmp_path / "one"))
    seven = pipeline.run(config_for(trajectories, tmp_path / "seven", mining__trajectories_per_part=1))
    assert (len(one.parts), len(seven.parts)) == (1, 7)
    assert pairs_of(one) == pairs_of(seven)
    assert (one.rows, one.metrics) == (seven.rows, seven.metrics)


def test_a_trajectories_artifact_gives_the_pairs_of_its_run_files(lrat_trajectories: Path, tmp_path: Path) -> None:
    root = str(lrat_trajectories / "trajectories")
    slices = [piece for share in source.shares(root, 10) for piece in share]
    dialect = source.dialect(Config().logs)
    rows = [row for piece in slices for row in source.read(piece, root, "auto", dialect)]
    work = artifacts.begin(str(tmp_path / "rollout"), kind="trajectories", config={}, inputs={})
    work.write_rows("part-00000.parquet", rows[:3], Trajectory)
    work.write_rows("part-00001.parquet", rows[3:], Trajectory)
    work.finish(parts=["part-00000.parquet", "part-00001.parquet"], rows={"in": 7, "out": 7, "rejected": 0})
    from_artifact = pipeline.run(config_for(tmp_path / "rollout", tmp_path / "a"))
    assert pairs_of(from_artifact) == pairs_of(pipeline.run(config_for(root, tmp_path / "b")))


def test_malformed_run_files_are_listed_and_the_others_are_mined(run_files: Path, tmp_path: Path) -> None:
    whole = (run_files / "4.json").read_bytes()
    (run_files / "2.json").write_bytes(whole[: len(whole) // 2])
    (run_files / "3.json").write_text('{"query_id": "3"}')
    (run_files / "8.json").write_bytes(b'{"query_id": "\xe9"}')
    manifest = pipeline.run(config_for(run_files, tmp_path / "out"))
    assert manifest.rows == {"in": 23, "out": 20, "rejected": 3}
    for stage in ("out", "out/mined"):
        rejected = list(artifacts.read_rejected(str(tmp_path / stage)))
        assert [Path(row.source).name for row in rejected] == ["2.json", "3.json", "8.json"]
        assert [row.position for row in rejected][1:] == ["top level", "byte 14"]
        assert re.fullmatch(r"line \d+ column \d+", rejected[0].position)


def test_a_source_without_trajectories_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trajectories: .*nowhere does not exist"):
        pipeline.run(config_for(tmp_path / "nowhere", tmp_path / "out"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtifactError, match="no log lies in the directory .*empty; looked for .json"):
        pipeline.run(config_for(empty, tmp_path / "out2"))
    (empty / "1.json").write_text("[]")
    with pytest.raises(ArtifactError, match="holds no trajectory; .*1.json, top level: an empty list"):
        pipeline.run(config_for(empty, tmp_path / "out3"))
    with pytest.raises(ConfigError, match="llm.base_url is not set"):
        pipeline.run(config_for(empty, tmp_path / "out4", judge__backend="openai"))
    browse = {"type": "tool_call", "tool_name": "visit", "arguments": {"docid": 1}}
    (empty / "1.json").write_text(json.dumps({"query_id": "1", "result": [browse]}))
    with pytest.raises(ArtifactError, match="no_such_package is not installed"):
        pipeline.run(config_for(empty, tmp_path / "out5", train__base_model="package:no_such_package/model"))


def test_docids_are_checked_against_the_corpus(lrat_trajectories: Path, tmp_path: Path) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "whole")
    pairs = pairs_of(pipeline.run(config))
    known = {docid for pair in pairs for docid in [pair.positive_docid, *pair.negative_docids]} - {"9358159", "2690620"}
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"docid": docid, "text": "t"}) + "\n" for docid in sorted(known)))
    config = config.replace(output=str(tmp_path / "checked"), corpus=str(corpus))
    manifest = pipeline.run(config)
    # Both unknown documents stand in the one pair of trajectory 1: its positive and a negative. Nothing else shows them.
    assert pairs_of(manifest) == [replace(p, weight=q.weight) for p, q in zip(pairs[1:], pairs_of(manifest), strict=True)]
    assert manifest.metrics["rejected_by_reason"] == {"not in corpus": 1}
    (rejected,) = artifacts.read_rejected(manifest.uri)
    assert rejected.detail.endswith(
        f"part-00000.parquet row 0, trajectory 1: browse step 3 opened docid '9358159', which is not in corpus {corpus}. "
        "Mine with the corpus these trajectories were collected on (config key: corpus)"
    )
    corpus.write_text("".join(json.dumps({"docid": d, "text": "t"}) + "\n" for d in sorted(known | {"9358159"})))
    manifest = weigh(config, *[str(tmp_path / "checked" / "mined")] * 2)
    assert manifest.metrics["negatives_not_in_corpus"] == 1
    assert pairs_of(manifest)[0].negative_docids == pairs[0].negative_docids[1:]


def test_verdicts_on_other_browses_are_refused(run_files: Path, tmp_path: Path) -> None:
    config = config_for(run_files, tmp_path / "mined")
    mined = pipeline.mine(config)
    (run_files / "1.json").unlink()
    others = pipeline.mine(config.replace(output=str(tmp_path / "others")))
    with pytest.raises(ArtifactError, match="trajectory 1 has other browses. Judge the browses of"):
        weigh(config.replace(output=str(tmp_path / "pairs")), mined.uri, others.uri)
    cut = pipeline.mine(config.replace(output=str(tmp_path / "cut"), mining__trajectories_per_part=1))
    with pytest.raises(ArtifactError, match="1 parts there, 6 here"):
        weigh(config.replace(output=str(tmp_path / "pairs2")), mined.uri, cut.uri)


def test_every_protocol_accounts_for_every_browse_of_the_real_files(lrat_trajectories: Path, tmp_path: Path) -> None:
    """The same verdicts, another protocol: the pairs are made anew in the same output, and nothing is judged again."""
    config = config_for(lrat_trajectories / "trajectories", tmp_path, judge__backend="rule")
    positives: dict[str, list[tuple[str, str]]] = {}
    negatives: dict[str, int] = {}
    judged_at = 0
    for protocol in ("paper", "window"):
        manifest = pipeline.run(config.replace(mining__protocol=protocol))
        before, judged_at = judged_at, (tmp_path / "judged" / "manifest.json").stat().st_mtime_ns
        assert before in (0, judged_at)  # judged once
        assert manifest.rows == {"in": 20, "out": 19, "rejected": 1}
        assert manifest.protocol["protocol"] == protocol
        pairs = pairs_of(manifest)
        positives[protocol] = [(pair.pair_id, pair.positive_docid) for pair in pairs]
        negatives[protocol] = sum(len(pair.negative_docids) for pair in pairs)
        assert np.mean([pair.weight for pair in pairs]) == pytest.approx(1.0)
    assert positives["paper"] == positives["window"]
    assert negatives["paper"] < negatives["window"]
    with pytest.raises(ArtifactError, match="post_browse: 'spread' there, 'first-step' now"):
        pipeline.run(config.replace(mining__protocol="reference"))  # it reads other reasoning, which was not judged


def test_the_cap_leaves_no_question_more_pairs_and_lists_the_others(lrat_trajectories: Path, tmp_path: Path) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path, mining__max_pairs_per_question=2)
    manifest = pipeline.run(config)
    pairs = pairs_of(manifest)
    per_question = Counter(b.query_id for b in verdicts_of(tmp_path))
    assert Counter(pair.query_id for pair in pairs) == {q: min(2, n) for q, n in per_question.items()}
    assert np.mean([pair.weight for pair in pairs]) == pytest.approx(1.0)
    assert manifest.rows == {"in": 20, "out": len(pairs), "rejected": 20 - len(pairs)}
    rejected = list(artifacts.read_rejected(manifest.uri))
    assert {row.reason for row in rejected} == {"over the cap"}
    assert "has enough pairs (mining.max_pairs_per_question=2)" in rejected[0].detail
    kept, dropped = {pair.pair_id for pair in pairs}, {row.position.removeprefix("pair ") for row in rejected}
    assert kept | dropped == {f"{b.trajectory_id}/{b.browse_step}" for b in verdicts_of(tmp_path)}


def test_negatives_can_be_checked_against_every_trajectory_of_the_question(run_files: Path, tmp_path: Path) -> None:
    """Two runs of a question: what one found useful is no negative of the other."""
    run = json.loads((run_files / "6.json").read_text())
    for path in run_files.glob("*.json"):
        path.unlink()
    for name, opened in (("seed1", "a"), ("seed2", "b")):
        call = {"type": "tool_call", "tool_name": "search", "arguments": {"query": "q"}, "output": "DocID:a\nDocID:b\nDocID:c"}
        visit = {"type": "tool_call", "tool_name": "visit", "arguments": {"docid": opened}, "output": "text"}
        thought = {"type": "reasoning", "output": "that helps"}
        (run_files / f"{name}.json").write_text(json.dumps({**run, "result": [call, visit, thought]}))
    config = config_for(run_files, tmp_path / "out", mining__trajectories_per_part=1)
    assert [pair.negative_docids for pair in pairs_of(pipeline.run(config))] == [["b", "c"], ["a", "c"]]
    wide = config.replace(mining__question_wide=True)
    assert [pair.negative_docids for pair in pairs_of(pipeline.run(wide))] == [["c"], ["c"]]


def test_only_correct_trajectories_are_mined_where_the_log_tells(run_files: Path, tmp_path: Path) -> None:
    config = config_for(run_files, tmp_path / "unknown", mining__trajectories="correct")
    with pytest.raises(ArtifactError, match="none of the 7 trajectories is known to be correct. Give each a boolean"):
        pipeline.run(config)
    for path in run_files.glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "correct": path.stem in ("10", "4")}))
    everything = pipeline.run(config.replace(output=str(tmp_path / "correct"), mining__trajectories="all"))
    mined_at = (tmp_path / "correct" / "mined" / "manifest.json").stat().st_mtime_ns
    manifest = pipeline.run(config.replace(output=str(tmp_path / "correct")))
    assert (tmp_path / "correct" / "mined" / "manifest.json").stat().st_mtime_ns == mined_at
    of_right_outcome = {pair.trajectory_id for pair in pairs_of(manifest)}
    assert of_right_outcome == {"10", "4"}
    others = pipeline.run(config.replace(output=str(tmp_path / "incorrect"), mining__trajectories="incorrect"))
    assert everything.rows["in"] == manifest.rows["in"] == others.rows["in"] == 20
    assert manifest.rows["out"] + others.rows["out"] == 20
    assert manifest.metrics["rejected_by_reason"] == {"other outcome": others.rows["out"]}


def test_the_judges_retention_of_evidence_is_reported(lrat_trajectories: Path, tmp_path: Path) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "out", judge__backend="rule")
    pipeline.run(config)
    judged = verdicts_of(tmp_path / "out")
    dismissed = next(browse for browse in judged if not browse.relevant)
    questions = tmp_path / "questions.jsonl"
    row = {"query_id": dismissed.query_id, "question": "?", "answer": "!", "evidence_docids": [dismissed.docid]}
    questions.write_text(json.dumps(row) + "\n")
    metrics = pipeline.run(config.replace(questions__train=str(questions))).metrics
    others = sum(browse.query_id == dismissed.query_id for browse in judged) - 1
    assert (metrics["evidence_retention"], metrics["evidence_browses_judged"]) == (0.0, 1)
    assert (metrics["non_evidence_retention"], metrics["non_evidence_browses_judged"]) == (1.0, others)


def test_weights_can_be_switched_off(lrat_trajectories: Path, tmp_path: Path) -> None:
    config = config_for(
        lrat_trajectories / "trajectories",
        tmp_path,
        mining__weights=False,
        mining__protocol="reference",
        judge__backend="rule",
    )
    assert Counter((pair.relevant, pair.weight) for pair in pairs_of(pipeline.run(config))) == {
        (True, 1.0): 18,
        (False, 0.0): 1,
    }


@pytest.fixture
def many_runs(run_files: Path) -> Path:
    """84 run files: enough to be interrupted in."""
    for path in list(run_files.glob("*.json")):
        for copy in range(11):
            shutil.copyfile(path, run_files / f"{path.stem}-{copy}.json")
    return run_files


def test_a_killed_run_continues_with_the_parts_that_are_missing(many_runs: Path, tmp_path: Path) -> None:
    import ray

    config = config_for(many_runs, tmp_path / "killed", mining__trajectories_per_part=2, judge__backend="rule")
    joined = config.replace(ray__address=ray.get_runtime_context().gcs_address)
    script = (
        "import sys; from lrat_ray.config import Config; from lrat_ray.mining import pipeline\n"
        "pipeline.run(Config.model_validate_json(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, joined.model_dump_json()])
    mined = tmp_path / "killed" / "mined"
    deadline = time.monotonic() + 120
    while len(list(mined.glob("part-*.parquet"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there: dict[Path, int] = {}
    while there != (now := {path: path.stat().st_mtime_ns for path in mined.glob("part-*.parquet")}):
        there = now  # Ray ends the tasks of a driver that is gone, but not at once
        time.sleep(1)
    assert not (mined / "manifest.json").exists() and len(there) < 42

    resumed = pipeline.run(config)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    uninterrupted = pipeline.run(config.replace(output=str(tmp_path / "whole")))
    assert browses_of(mined) == browses_of(tmp_path / "whole" / "mined")
    assert pairs_of(resumed) == pairs_of(uninterrupted)
    assert (resumed.rows, resumed.metrics) == (uninterrupted.rows, uninterrupted.metrics)


def test_a_worker_that_dies_changes_nothing(many_runs: Path, tmp_path: Path) -> None:
    """One worker process is killed in each of several tasks; Ray runs those again."""
    config = config_for(many_runs, tmp_path / "killed", mining__trajectories_per_part=8)
    killed: list[int] = []
    finished = threading.Event()

    def kill() -> None:
        while not finished.is_set() and len(killed) < 3:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.pid not in killed and "ray::Map(task)" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        break
            finished.wait(0.3)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        manifest = pipeline.run(config)
    finally:
        finished.set()
        killer.join()
    assert killed
    whole = pipeline.run(config.replace(output=str(tmp_path / "whole")))
    assert pairs_of(manifest) == pairs_of(whole)
    assert (manifest.rows, manifest.metrics) == (whole.rows, whole.metrics)


def test_weighing_continues_after_an_interruption_between_its_passes(
    lrat_trajectories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "cut", mining__trajectories_per_part=2)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Intensity, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(config)
    with pytest.raises(ArtifactError, match="unfinished"):
        artifacts.read_manifest(str(tmp_path / "cut"), "pairs")
    resumed = pipeline.run(config)
    whole = pipeline.run(config.replace(output=str(tmp_path / "whole")))
    assert pairs_of(resumed) == pairs_of(whole)
    assert not (tmp_path / "cut" / "unweighted").exists()


def test_force_starts_over_and_other_trajectories_without_it_are_refused(run_files: Path, tmp_path: Path) -> None:
    config = config_for(run_files, tmp_path / "out")
    first = pipeline.run(config)
    (run_files / "1.json").unlink()
    with pytest.raises(ArtifactError, match="--force"):  # other trajectories: the browses there are not theirs
        pipeline.run(config)
    again = pipeline.run(config.replace(force=True))
    assert (first.rows["in"], again.rows["in"]) == (20, 19)


@pytest.mark.parametrize("stops_at", ["the manifest is removed", "parts are removed", "the manifest is written"])
def test_a_run_that_ends_while_pairs_are_made_anew_leaves_work_that_is_continued(
    stops_at: str, lrat_trajectories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "out", mining__max_pairs_per_question=1)
    first = pipeline.run(config)
    mine = tmp_path / "out" / "kept.parquet"
    mine.write_bytes(b"the user's own")
    other = config.replace(mining__protocol="window")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stops_at == "the manifest is removed":
            patch.setattr(artifacts, "remove", interrupted)
        elif stops_at == "parts are removed":
            patch.setattr(weighing, "url_to_fs", interrupted)
        else:
            patch.setattr(weighing, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(other)
    again = pipeline.run(config)
    assert (again.rows, again.metrics) == (first.rows, first.metrics)
    assert len(pairs_of(again)) == 7
    assert len(list(artifacts.read_rejected(again.uri))) == 13
    changed = pipeline.run(other)
    assert (len(pairs_of(changed)), len(list(artifacts.read_rejected(changed.uri)))) == (7, 13)
    assert mine.read_bytes() == b"the user's own"


def test_force_deletes_nothing_but_our_own_work(run_files: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    pipeline.run(config_for(run_files, tmp_path / "out", force=True))
    assert kept.read_text() == "mine"
    questions = tmp_path / "out" / "questions.jsonl"
    questions.write_text("{}")
    with pytest.raises(ArtifactError, match="questions.train: .* lies inside the output"):
        pipeline.run(config_for(run_files, tmp_path / "out", force=True, questions__train=str(questions)))
    assert questions.exists()
