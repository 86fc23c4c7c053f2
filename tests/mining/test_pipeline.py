"""Mining end to end on local Ray: real run files, a real HTTP judge, bad input, interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.config import Config, ConfigError
from lrat_ray.llm import LLMError
from lrat_ray.mining import pipeline
from lrat_ray.mining.intensity import Intensity
from lrat_ray.schema import Browse, Pair, Trajectory
from lrat_ray.trajectories import source

pytestmark = pytest.mark.usefixtures("ray_local")


def config_for(trajectories: Path | str, output: Path, **changes: Any) -> Config:
    return Config().replace(trajectories=str(trajectories), output=str(output), **changes)


def pairs_of(manifest: Manifest) -> list[Pair]:
    return list(artifacts.read_rows(manifest.uri, Pair, "pairs"))


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
    reasoning = {(b.trajectory_id, b.browse_step): b.reasoning for b in browses_of(tmp_path / "judged")}
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
    seven = pipeline.run(config_for(trajectories, tmp_path / "seven", mining__rows_per_part=1))
    assert (len(one.parts), len(seven.parts)) == (1, 7)
    assert pairs_of(one) == pairs_of(seven)
    assert (one.rows, one.metrics) == (seven.rows, seven.metrics)


def test_a_trajectories_artifact_gives_the_pairs_of_its_run_files(lrat_trajectories: Path, tmp_path: Path) -> None:
    root = str(lrat_trajectories / "trajectories")
    (files,) = source.chunks(root, 10)
    tools = {"search_tools": ("search",), "browse_tools": ("get_document", "visit")}
    rows = [row for file in files for row in source.read(file, root, **tools)]
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
        assert [row.position for row in rejected][1:] == ["result", "byte 14"]
        assert re.fullmatch(r"line \d+ column \d+", rejected[0].position)


def test_a_source_without_trajectories_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trajectories: .*nowhere does not exist"):
        pipeline.run(config_for(tmp_path / "nowhere", tmp_path / "out"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtifactError, match="neither a directory with run files"):
        pipeline.run(config_for(empty, tmp_path / "out2"))
    (empty / "1.json").write_text("[]")
    with pytest.raises(ArtifactError, match="holds no trajectory; .*1.json, top level: expected an object, found list"):
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
    manifest = pipeline.weigh(config.replace(force=True), str(config.trajectories), str(tmp_path / "whole" / "judged"))
    assert manifest.metrics["negatives_not_in_corpus"] == 1
    assert pairs_of(manifest)[0].negative_docids == pairs[0].negative_docids[1:]


def test_browses_of_other_trajectories_are_refused(run_files: Path, tmp_path: Path) -> None:
    config = config_for(run_files, tmp_path / "mined")
    mined = pipeline.mine(config)
    (run_files / "1.json").unlink()
    with pytest.raises(ArtifactError, match="were not mined from"):
        pipeline.weigh(config.replace(output=str(tmp_path / "pairs")), str(run_files), mined.uri)
    with pytest.raises(ArtifactError, match="1 parts of browses, 6 of trajectories"):
        other = config.replace(output=str(tmp_path / "pairs2"), mining__rows_per_part=1)
        pipeline.weigh(other, str(run_files), mined.uri)


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


class JudgeEndpoint(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint: dismisses what says "search again", rambles where `rambles` is, keeps what it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.asked: list[str] = []
        self.rambles: re.Pattern[str] | None = re.compile("^Great")
        self.wait_s = 0.0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Chat(BaseHTTPRequestHandler):
    server: JudgeEndpoint

    def do_POST(self) -> None:
        reasoning = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        self.server.asked.append(reasoning)
        time.sleep(self.server.wait_s)
        word = "NOT_RELEVANT" if "search again" in reasoning else "RELEVANT"
        content = "no idea" if self.server.rambles and self.server.rambles.search(reasoning) else word
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        self._send(body)

    def do_GET(self) -> None:
        names = ("m", "simulated-relevance-judge")
        self._send({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    def _send(self, body: dict[str, Any]) -> None:
        answer = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[JudgeEndpoint]:
    with JudgeEndpoint() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_endpoint_judges_and_its_failures_are_listed_not_guessed(
    lrat_trajectories: Path, tmp_path: Path, endpoint: JudgeEndpoint
) -> None:
    config = config_for(
        lrat_trajectories / "trajectories", tmp_path, judge__backend="openai", judge__model="m", llm__base_url=endpoint.url
    )
    manifest = pipeline.run(config)
    judged = browses_of(tmp_path / "judged")
    expected = [
        "failed" if b.reasoning.startswith("Great") else "irrelevant" if "search again" in b.reasoning else "relevant"
        for b in judged
    ]
    assert sorted(endpoint.asked) == sorted(b.reasoning for b in judged)
    assert artifacts.read_manifest(str(tmp_path / "judged")).metrics == {
        **{name: expected.count(name) for name in ("relevant", "irrelevant", "failed")},
        "unjudged": 0,
        "rejected_by_reason": {},
    }
    assert {"failed", "irrelevant", "relevant"} == set(expected)
    rejected = Counter({"judge failed": expected.count("failed"), "judged irrelevant": expected.count("irrelevant")})
    assert manifest.metrics["rejected_by_reason"] == rejected
    assert manifest.rows["in"] == manifest.rows["out"] + sum(rejected.values())
    assert {b.judge_error for b in judged if b.judge_status == "failed"} == {
        "the judge must end with RELEVANT or NOT_RELEVANT, but its answer ends with 'no idea'"
    }


def test_failed_judgements_are_asked_again_and_the_pairs_made_anew(
    lrat_trajectories: Path, tmp_path: Path, endpoint: JudgeEndpoint
) -> None:
    changes = {"judge__backend": "openai", "judge__model": "m", "mining__rows_per_part": 2, "llm__base_url": endpoint.url}
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "again", **changes)
    endpoint.rambles = re.compile("")
    nothing = pipeline.run(config)
    assert (nothing.rows["out"], nothing.metrics["rejected_by_reason"]) == (0, {"judge failed": 20})
    endpoint.rambles = re.compile("^Great")
    some = pipeline.run(config)
    failed = [b.reasoning for b in browses_of(tmp_path / "again" / "judged") if b.judge_status == "failed"]
    assert failed and some.rows["out"] > 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*.json")}
    endpoint.asked.clear()
    assert pipeline.run(config) == some  # they failed again: no manifest changes, nor what hangs on it
    assert sorted(endpoint.asked) == sorted(failed)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    endpoint.rambles = None
    whole = pipeline.run(config)
    fresh = pipeline.run(config.replace(output=str(tmp_path / "fresh")))
    assert pairs_of(whole) == pairs_of(fresh)
    assert (whole.rows, whole.metrics) == (fresh.rows, fresh.metrics)
    assert browses_of(tmp_path / "again" / "judged") == browses_of(tmp_path / "fresh" / "judged")
    endpoint.asked.clear()
    assert pipeline.run(config.replace(llm__base_url=None)) == whole  # nothing is left to ask
    assert endpoint.asked == []
    os.utime(tmp_path / "again" / "judged" / "manifest.json")
    with pytest.raises(ArtifactError, match="strict_negatives"):  # other settings still ask for --force
        pipeline.run(config.replace(mining__strict_negatives=not config.mining.strict_negatives))


def test_the_judge_is_looked_for_before_any_work(lrat_trajectories: Path, tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "out", judge__backend="openai", llm__max_retries=0)
    with pytest.raises(LLMError, match="check that the endpoint is running"):
        pipeline.run(config.replace(llm__base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(ConfigError, match="judge.model: .* does not offer gpt-9; it offers m, simulated-relevance-judge"):
        pipeline.run(config.replace(llm__base_url=endpoint.url, judge__model="gpt-9"))
    assert not (tmp_path / "out").exists()


def test_a_killed_run_continues_with_the_parts_that_are_missing(
    lrat_trajectories: Path, tmp_path: Path, endpoint: JudgeEndpoint
) -> None:
    import ray

    changes = {"judge__backend": "openai", "judge__model": "m", "judge__concurrency": 1, "llm__base_url": endpoint.url}
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "killed", mining__rows_per_part=2, **changes)
    endpoint.wait_s = 0.3
    endpoint.rambles = None  # failures are asked again: only what is missing is counted here
    script = (
        "import sys; from lrat_ray.config import Config; from lrat_ray.mining import pipeline\n"
        "pipeline.run(Config.model_validate_json(sys.argv[1]))"
    )
    joined = config.replace(ray__address=ray.get_runtime_context().gcs_address)
    process = subprocess.Popen([sys.executable, "-c", script, joined.model_dump_json()])
    judged = tmp_path / "killed" / "judged"
    deadline = time.monotonic() + 60
    while len(list(judged.glob("part-*.parquet"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked_before = -1
    while asked_before != len(endpoint.asked):  # Ray ends the tasks of a driver that is gone, but not at once
        asked_before = len(endpoint.asked)
        time.sleep(1)
    assert not (judged / "manifest.json").exists()
    there = {path: path.stat().st_mtime_ns for path in judged.glob("part-*.parquet")}
    endpoint.wait_s = 0.0

    resumed = pipeline.run(config)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    asked_again = len(endpoint.asked) - asked_before
    assert asked_again == 20 - sum(len(artifacts.read_table(str(path))) for path in there)
    uninterrupted = pipeline.run(config.replace(output=str(tmp_path / "whole")))
    assert browses_of(judged) == browses_of(tmp_path / "whole" / "judged")
    assert pairs_of(resumed) == pairs_of(uninterrupted)
    assert (resumed.rows, resumed.metrics) == (uninterrupted.rows, uninterrupted.metrics)


def test_weighing_continues_after_an_interruption_between_its_passes(
    lrat_trajectories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(lrat_trajectories / "trajectories", tmp_path / "cut", mining__rows_per_part=2)

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


def test_force_starts_over_and_another_setting_without_it_is_refused(run_files: Path, tmp_path: Path) -> None:
    config = config_for(run_files, tmp_path / "out")
    first = pipeline.run(config)
    (run_files / "1.json").unlink()
    with pytest.raises(ArtifactError, match="--force"):
        pipeline.run(config)
    again = pipeline.run(config.replace(force=True))
    assert (first.rows["in"], again.rows["in"]) == (20, 19)


def test_force_deletes_nothing_but_our_own_work(run_files: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    pipeline.run(config_for(run_files, tmp_path / "out", force=True))
    assert kept.read_text() == "mine"
