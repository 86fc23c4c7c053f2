"""The judging stage on local Ray with a real HTTP judge: one question for each reasoning, failures, interruption."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config, ConfigError
from lrat_ray.llm import LLMError
from lrat_ray.mining import judge_vllm, pipeline, verdicts
from lrat_ray.mining.judging import judge
from lrat_ray.schema import Browse, Pair
from tests.mining.servers import JudgeEndpoint, judge_endpoint

pytestmark = pytest.mark.usefixtures("ray_local")

PARTS = (("It says 1922.", "Let me search again.", "", "Great find."), ("It says 1922.", "Great find.", "A new lead."))


@pytest.fixture
def endpoint() -> Iterator[JudgeEndpoint]:
    with judge_endpoint() as server:
        yield server


def mined(folder: Path, parts: Sequence[Sequence[str]]) -> str:
    """A browses artifact with these post-browse reasonings, part by part."""
    work = artifacts.begin(str(folder), kind="browses", config={}, inputs={})
    names = [f"part-{number:05}.parquet" for number in range(len(parts))]
    for number, (name, reasonings) in enumerate(zip(names, parts, strict=True)):
        rows = [
            Browse(
                trajectory_id=str(number),
                query_id="q",
                agent="a",
                browse_step=step,
                docid="d",
                search_step=0,
                rank=1,
                query="q",
                question="who?",
                reasoning=reasoning,
            )
            for step, reasoning in enumerate(reasonings)
        ]
        work.write_rows(name, rows, Browse)
    browses = sum(map(len, parts))
    return work.finish(parts=names, rows={"in": browses, "out": browses, "rejected": 0}, protocol={"tokenizer": "t"}).uri


def config_for(output: Path, endpoint: JudgeEndpoint | None = None, **changes: Any) -> Config:
    asked = {"judge__backend": "openai", "judge__model": "m", "llm__base_url": endpoint.url} if endpoint else {}
    return Config().replace(output=str(output), **{**asked, **changes})


def verdicts_of(manifest: Manifest) -> list[tuple[str, str, bool | None]]:
    return [(b.reasoning, b.judge_status, b.relevant) for b in artifacts.read_rows(manifest.uri, Browse, "browses")]


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_each_reasoning_is_judged_once_over_all_parts_and_failures_are_listed(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    manifest = judge(config_for(tmp_path / "judged", endpoint), mined(tmp_path / "mined", PARTS))
    assert sorted(endpoint.asked) == ["A new lead.", "Great find.", "It says 1922.", "Let me search again."]
    assert verdicts_of(manifest) == [
        ("It says 1922.", "judged", True),
        ("Let me search again.", "judged", False),
        ("", "unjudged", None),
        ("Great find.", "failed", None),
        ("It says 1922.", "judged", True),
        ("Great find.", "failed", None),
        ("A new lead.", "judged", True),
    ]
    counts = {"relevant": 3, "irrelevant": 1, "failed": 2, "unjudged": 1}
    assert manifest.metrics == {**counts, "rejected_by_reason": {}}
    assert manifest.rows == {"in": 7, "out": 7, "rejected": 0}
    assert manifest.protocol == {"tokenizer": "t", "judge": {"backend": "openai", "model": "m", "thinking": True}}
    errors = {b.judge_error for b in artifacts.read_rows(manifest.uri, Browse, "browses") if b.judge_status == "failed"}
    assert errors == {"the judge must end with RELEVANT or NOT_RELEVANT, but its answer ends with 'no idea'"}
    assert not (tmp_path / "judged" / "verdicts").exists()


def test_probabilities_reach_the_browses(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    endpoint.knows_choices = True
    manifest = judge(config_for(tmp_path / "judged", endpoint, judge__thinking=False), mined(tmp_path / "mined", PARTS))
    found = {b.reasoning: b.relevance_probability for b in artifacts.read_rows(manifest.uri, Browse, "browses")}
    assert (found["It says 1922."], found["Let me search again."]) == (pytest.approx(0.75), pytest.approx(0.25))
    assert found[""] is None and found["Great find."] is None


def test_a_rerun_asks_for_what_failed_and_for_nothing_else(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    browses = mined(tmp_path / "mined", PARTS)
    config = config_for(tmp_path / "judged", endpoint)
    first = judge(config, browses)
    files = files_of(tmp_path / "judged")
    endpoint.requests.clear()
    assert judge(config, browses) == first  # it failed again: nothing changes, nor what was made from it
    assert endpoint.asked == ["Great find."]
    assert files_of(tmp_path / "judged") == files
    endpoint.requests.clear()
    assert judge(config.replace(judge__retry_failed=False), browses) == first
    assert endpoint.asked == []
    endpoint.rambles = None
    cured = judge(config, browses)
    assert cured.metrics["failed"] == 0
    fresh = judge(config_for(tmp_path / "fresh", endpoint), browses)
    assert (verdicts_of(cured), cured.metrics) == (verdicts_of(fresh), fresh.metrics)
    endpoint.requests.clear()
    assert judge(config.replace(llm__base_url=None), browses) == cured  # nothing is left to ask
    assert endpoint.asked == []


def test_another_threshold_asks_nothing(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    endpoint.rambles = None
    browses = mined(tmp_path / "mined", PARTS)
    first = judge(config_for(tmp_path / "judged", endpoint), browses)
    assert judge(config_for(tmp_path / "judged", endpoint, judge__threshold=0.9), browses) == first
    assert len(endpoint.asked) == 4


def test_the_judge_is_looked_for_before_any_work(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    browses = mined(tmp_path / "mined", PARTS)
    config = config_for(tmp_path / "judged", endpoint, llm__max_retries=0)
    with pytest.raises(LLMError, match="check that the endpoint is running"):
        judge(config.replace(llm__base_url="http://127.0.0.1:9/v1"), browses)
    with pytest.raises(ConfigError, match="llm.base_url is not set"):
        judge(config.replace(llm__base_url=None), browses)
    with pytest.raises(ConfigError, match="judge.model: .* does not offer gpt-9; it offers m, simulated-relevance-judge"):
        judge(config.replace(judge__model="gpt-9"), browses)
    assert not (tmp_path / "judged").exists()


def test_without_vllm_the_backend_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_vllm.importlib.util, "find_spec", lambda name: None)
    browses = mined(tmp_path / "mined", PARTS)
    with pytest.raises(ConfigError, match=r"judge.backend=vllm needs vLLM.*pip install -e \"\.\[gpu\]\""):
        judge(config_for(tmp_path / "judged", judge__backend="vllm"), browses)
    assert not (tmp_path / "judged").exists()


def test_without_a_gpu_the_backend_says_how_to_try_it_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(judge_vllm.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = config_for(tmp_path / "judged", judge__backend="vllm")
    with pytest.raises(ConfigError, match="judge.use_gpu: .*judge.use_gpu=false"):
        judge(config, mined(tmp_path / "mined", PARTS))
    assert judge_vllm.missing(config.replace(judge__use_gpu=False)) is None
    # The nodes of a cluster are none of this machine's business.
    assert judge_vllm.missing(config.replace(ray__address="auto")) is None


def test_what_engines_judged_elsewhere_can_be_used_where_there_are_none(
    tmp_path: Path, endpoint: JudgeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are made anew on a laptop, though some judgements failed on the machine with GPUs."""
    browses = mined(tmp_path / "mined", PARTS)
    first = judge(config_for(tmp_path / "judged", endpoint), browses)
    assert first.metrics["failed"]
    manifest = json.loads((tmp_path / "judged" / "manifest.json").read_text())
    manifest["config"]["judge"]["backend"] = "vllm"
    (tmp_path / "judged" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(judge_vllm.importlib.util, "find_spec", lambda name: None)
    there = judge(config_for(tmp_path / "judged", endpoint, judge__backend="vllm"), browses)
    assert there.metrics == first.metrics


@pytest.mark.parametrize(
    ("backend", "statuses"),
    [("rule", {("judged", True), ("judged", False), ("unjudged", None)}), ("none", {("unjudged", None)})],
)
def test_backends_without_an_llm(tmp_path: Path, backend: str, statuses: set[tuple[str, bool | None]]) -> None:
    browses = mined(tmp_path / "mined", [["This is irrelevant.", ""], ["Fine."]])
    manifest = judge(config_for(tmp_path / "judged", judge__backend=backend), browses)
    assert {row[1:] for row in verdicts_of(manifest)} == statuses
    assert manifest.protocol["judge"] == {"backend": backend, "model": None}


@pytest.mark.slow
def test_a_killed_run_asks_only_for_what_was_not_written_down(tmp_path: Path, endpoint: JudgeEndpoint) -> None:
    import ray

    endpoint.wait_s, endpoint.rambles = 0.3, None
    parts = [[f"Reasoning {number} of part {part}." for number in range(10)] for part in range(2)]
    browses = mined(tmp_path / "mined", parts)
    config = config_for(tmp_path / "judged", endpoint, judge__concurrency=1)
    script = (
        "import sys; from lrat_ray.config import Config; from lrat_ray.mining.judging import judge\n"
        "judge(Config.model_validate_json(sys.argv[1]), sys.argv[2])"
    )
    joined = config.replace(ray__address=ray.get_runtime_context().gcs_address)
    process = subprocess.Popen([sys.executable, "-c", script, joined.model_dump_json(), browses])
    store = tmp_path / "judged" / "verdicts"
    deadline = time.monotonic() + 180
    while len(list(store.glob("*.parquet"))) < 4:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked_before = -1
    while asked_before != len(endpoint.asked):  # Ray ends the actors of a driver that is gone, but not at once
        asked_before = len(endpoint.asked)
        time.sleep(2)
    assert not (tmp_path / "judged" / "manifest.json").exists()
    written = verdicts.read(str(store)).num_rows
    assert 4 <= written < 20
    endpoint.wait_s = 0.0
    resumed = judge(config, browses)
    assert len(endpoint.asked) - asked_before == 20 - written
    whole = judge(config_for(tmp_path / "whole", endpoint), browses)
    assert (verdicts_of(resumed), resumed.metrics) == (verdicts_of(whole), whole.metrics)


def test_a_run_that_ended_between_its_passes_asks_nothing_again(
    tmp_path: Path, endpoint: JudgeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrat_ray.mining import judging

    endpoint.rambles = re.compile("^Great")
    browses = mined(tmp_path / "mined", PARTS)
    config = config_for(tmp_path / "judged", endpoint)
    with monkeypatch.context() as patch:
        patch.setattr(judging, "_judge_all", _stop_after(judging._judge_all))
        with pytest.raises(KeyboardInterrupt):
            judge(config, browses)
    endpoint.requests.clear()
    manifest = judge(config, browses)
    assert endpoint.asked == ["Great find."]
    assert manifest.metrics["relevant"] == 3


def test_failed_browses_give_no_pair_until_they_are_judged(
    lrat_trajectories: Path, tmp_path: Path, endpoint: JudgeEndpoint
) -> None:
    endpoint.rambles = re.compile("")
    config = config_for(tmp_path / "again", endpoint, trajectories=str(lrat_trajectories / "trajectories"))
    nothing = pipeline.run(config)
    assert (nothing.rows["out"], nothing.metrics["rejected_by_reason"]) == (0, {"judge failed": 20})
    endpoint.rambles = None
    whole, fresh = pipeline.run(config), pipeline.run(config.replace(output=str(tmp_path / "fresh")))
    assert (whole.rows, whole.metrics["rejected_by_reason"]) == (fresh.rows, fresh.metrics["rejected_by_reason"])
    pairs, expected = (list(artifacts.read_rows(of.uri, Pair, "pairs")) for of in (whole, fresh))
    assert pairs == expected and pairs


def _stop_after(work: Any) -> Any:
    def stopped(*args: Any) -> None:
        work(*args)
        raise KeyboardInterrupt

    return stopped
