"""Outcomes: one for every question asked, and nothing guessed."""

from __future__ import annotations

import pytest

from lrat_ray.evaluation.records import NO_RUN, EvaluationError, Outcome, Verdict, outcomes
from lrat_ray.schema import JudgeStatus, Trajectory
from tests.evaluation.made import outcome, question, trajectory

_QUESTIONS = {"q1": question("q1"), "q2": question("q2", evidence_docids=[], source=None)}


def _verdict(query_id: str, response: str, correct: bool | None) -> Verdict:
    status: JudgeStatus = "judged" if correct is not None else "failed"
    return Verdict(query_id=query_id, response=response, correct=correct, judge_status=status)


def _outcomes(runs: list[Trajectory], *verdicts: Verdict) -> list[Outcome]:
    return list(
        outcomes(
            arm="base",
            training_seed=None,
            agents=["V"],
            seeds=[1],
            questions=_QUESTIONS,
            trajectories=runs,
            verdicts={(v.query_id, v.response): v for v in verdicts},
        )
    )


def test_a_run_becomes_its_outcome() -> None:
    runs = [trajectory("q2", " Rome "), trajectory("q1", "Paris")]
    rows = _outcomes(runs, _verdict("q1", "Paris", True), _verdict("q2", "Rome", False))
    assert rows == [
        outcome(query_id="q1", success=True, evidence_recall=0.5, steps=2),
        outcome(query_id="q2", success=False, evidence_recall=None, steps=2, source="unnamed"),
    ]


def test_a_question_without_a_run_failed_and_found_nothing() -> None:
    rows = _outcomes([])
    assert [(o.success, o.evidence_recall, o.steps, o.status) for o in rows] == [
        (False, 0.0, None, NO_RUN),
        (False, None, None, NO_RUN),
    ]


def test_a_run_without_an_answer_failed_without_a_verdict() -> None:
    rows = _outcomes([trajectory("q1", answer, status="max_steps") for answer in (None,)])
    assert (rows[0].success, rows[0].status) == (False, "max_steps")


def test_a_failed_judge_call_leaves_the_success_unknown() -> None:
    assert _outcomes([trajectory("q1")], _verdict("q1", "Paris", None))[0].success is None


def test_runs_that_do_not_fit_are_refused() -> None:
    paris = _verdict("q1", "Paris", True)
    with pytest.raises(EvaluationError, match="'other'.*was not asked"):
        _outcomes([trajectory("q1", agent="other")], paris)
    with pytest.raises(EvaluationError, match="two trajectories"):
        _outcomes([trajectory("q1"), trajectory("q1")], paris)
    with pytest.raises(EvaluationError, match="q1-run: its answer has no verdict"):
        _outcomes([trajectory("q1")])
