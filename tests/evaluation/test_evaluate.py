"""The stage from runs to summary and report."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrat_ray import artifacts
from lrat_ray.config import Config, ConfigError
from lrat_ray.evaluation import evaluate
from lrat_ray.evaluation.records import Outcome
from tests.evaluation.conftest import AnswerJudge, write_questions, write_trajectories
from tests.evaluation.made import question, trajectory


@pytest.fixture
def config(tmp_path: Path, answer_judge: AnswerJudge, ray_local: None) -> Config:
    """q1 and q2 asked of base and of LRAT with two training seeds; base has no run of q2."""
    lrat = [trajectory("q1", "Paris", ("d1", "d2")), trajectory("q2", "Paris", ("d1", "d2"))]
    arms = {"base": [trajectory("q1", "Rome")], "lrat-1": lrat, "lrat-2": [trajectory("q1", "Rome"), lrat[1]]}
    runs = [
        {"arm": name[:4], "trajectories": write_trajectories(tmp_path / name, rows), "training_seed": seed}
        for (name, rows), seed in zip(arms.items(), (None, 1, 2), strict=True)
    ]
    return Config().replace(
        output=str(tmp_path / "evaluation"),
        questions__eval=write_questions(tmp_path / "questions", [question("q1"), question("q2")]),
        agent__names=("V",),
        evaluate__runs=runs,
        evaluate__answer_judge="judge-model",
        evaluate__bootstrap_samples=100,
        llm__base_url=answer_judge.base_url,
        llm__max_retries=0,
    )


def test_runs_become_outcomes_a_summary_and_a_report(config: Config, tmp_path: Path) -> None:
    manifest = evaluate.run(config)
    rows = list(artifacts.read_rows(manifest.uri, Outcome, "evaluation"))
    assert [(o.arm, o.training_seed, o.query_id, o.success) for o in rows] == [
        ("base", None, "q1", False),
        ("base", None, "q2", False),
        ("lrat", 1, "q1", True),
        ("lrat", 1, "q2", True),
        ("lrat", 2, "q1", False),
        ("lrat", 2, "q2", True),
    ]
    summary = artifacts.read_json(artifacts.join(manifest.uri, "summary.json"))
    (gain,) = [
        row["mean"]
        for row in summary["differences"]
        if (row["metric"], row["agent"], row["source"]) == ("success_rate", "pooled", "pooled")
    ]
    assert gain == 0.75
    assert summary["protocol"]["statuses"] == {"base": {"completed": 1, "no run": 1}, "lrat": {"completed": 4}}
    assert summary["protocol"]["rollouts"]["trajectories.lrat.2"]["release_id"] == "lrat-2"
    assert manifest.metrics == {"unjudged": 0, "no_run": 1}
    assert evaluate.run(config) == manifest

    evaluate.report(manifest.uri, str(tmp_path / "report.html"), curves={"lrat-1": [{"step": 1, "loss": 2.0}]})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "LRAT answers 75.0% of questions, base 0.0%" in page
    assert "What is q1?" in page


def test_an_answer_that_could_not_be_judged_is_named_and_asked_again(config: Config, answer_judge: AnswerJudge) -> None:
    answer_judge.broken = {"Rome"}
    evaluate.run(config)
    summary = artifacts.read_json(f"{config.output}/summary.json")
    assert [(o["arm"], o["training_seed"], o["query_id"]) for o in summary["protocol"]["unjudged"]] == [
        ("base", None, "q1"),
        ("lrat", 2, "q1"),
    ]
    answer_judge.broken.clear()
    answer_judge.asked.clear()
    assert evaluate.run(config).metrics["unjudged"] == 0
    assert answer_judge.asked == [("What is q1?", "Rome")]


def test_questions_may_be_a_plain_file(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "questions" / "part-00000.parquet"
    manifest = evaluate.run(config.replace(questions__eval=str(file)))
    evaluate.report(manifest.uri, str(tmp_path / "report.html"))
    assert "What is q1?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_without_runs_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="evaluate.runs is empty"):
        evaluate.run(config.replace(evaluate__runs=()))
