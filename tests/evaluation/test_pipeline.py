"""Judging over real HTTP on a local Ray: each distinct answer once, failures kept apart, reruns only what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import Config
from lrat_ray.evaluation import pipeline
from lrat_ray.evaluation.records import Verdict
from lrat_ray.llm import LLMError
from tests.evaluation.conftest import AnswerJudge, write_questions, write_trajectories
from tests.evaluation.made import question, trajectory

pytestmark = pytest.mark.usefixtures("ray_local")


def _config(output: Path, base_url: str) -> Config:
    return Config().replace(
        output=str(output), llm__base_url=base_url, llm__max_retries=0, evaluate__answer_judge="judge-model"
    )


@pytest.fixture
def asked(tmp_path: Path) -> tuple[list[str], str]:
    """Two arms with equal answers among them, one run without an answer."""
    questions = write_questions(tmp_path / "questions", [question("q1"), question("q2", answer="Rome")])
    base = [trajectory("q1", "Paris"), trajectory("q1", "Paris ", seed=2), trajectory("q2", None)]
    lrat = [trajectory("q1", "Paris"), trajectory("q2", "Paris")]
    return [write_trajectories(tmp_path / "base", base), write_trajectories(tmp_path / "lrat", lrat)], questions


def test_each_distinct_answer_is_judged_once(tmp_path: Path, asked: tuple[list[str], str], answer_judge: AnswerJudge) -> None:
    manifest = pipeline.judge_answers(_config(tmp_path / "verdicts", answer_judge.base_url), *asked)
    assert list(artifacts.read_rows(manifest.uri, Verdict, "verdicts")) == [
        Verdict(query_id="q1", response="Paris", correct=True, judge_status="judged"),
        Verdict(query_id="q2", response="Paris", correct=False, judge_status="judged"),
    ]
    assert sorted(answer_judge.asked) == [("What is q1?", "Paris"), ("What is q2?", "Paris")]
    assert manifest.metrics == {"trajectories": 5, "judged": 2, "failed": 0}
    assert pipeline.judge_answers(_config(tmp_path / "verdicts", "http://elsewhere/v1"), *asked) == manifest


def test_a_failed_call_is_no_verdict_and_is_asked_again(
    tmp_path: Path, asked: tuple[list[str], str], answer_judge: AnswerJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_ANSWERS_PER_PART", 1)
    answer_judge.broken = {"Paris"}
    config = _config(tmp_path / "verdicts", answer_judge.base_url)
    manifest = pipeline.judge_answers(config, *asked)
    rows = list(artifacts.read_rows(manifest.uri, Verdict, "verdicts"))
    assert [(row.correct, row.judge_status) for row in rows] == [(None, "failed"), (None, "failed")]
    assert "prompt too long" in str(rows[0].judge_error)
    assert manifest.metrics["failed"] == 2

    answer_judge.broken.clear()
    answer_judge.asked.clear()
    part = artifacts.join(manifest.uri, "part-00000.parquet")
    judged = Verdict(query_id="q1", response="Paris", correct=True, judge_status="judged")
    artifacts.Work(manifest.uri, "verdicts", {}, {}).write_rows("part-00000.parquet", [judged], Verdict)
    again = pipeline.judge_answers(config, *asked)
    assert artifacts.exists(part)
    assert answer_judge.asked == [("What is q2?", "Paris")]
    assert [row.correct for row in artifacts.read_rows(again.uri, Verdict, "verdicts")] == [True, False]


def test_an_endpoint_that_does_not_answer_is_an_error_and_no_verdict(tmp_path: Path, asked: tuple[list[str], str]) -> None:
    with pytest.raises(LLMError, match="http://127.0.0.1:9/v1"):
        pipeline.judge_answers(_config(tmp_path / "verdicts", "http://127.0.0.1:9/v1"), *asked)
    assert not artifacts.exists(str(tmp_path / "verdicts" / "manifest.json"))


def test_a_run_of_an_unknown_question_is_refused(tmp_path: Path, asked: tuple[list[str], str]) -> None:
    stray = write_trajectories(tmp_path / "stray", [trajectory("q7")])
    with pytest.raises(ArtifactError, match="'q7' is not in"):
        pipeline.judge_answers(_config(tmp_path / "verdicts", "http://127.0.0.1:9/v1"), [stray], asked[1])
