"""Comparison of arms against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.evaluation.compare import summarize, unjudged
from lrat_ray.evaluation.records import EvaluationError, Outcome
from tests.evaluation.made import outcome


def _summary(*rows: Outcome) -> dict[str, Any]:
    return summarize(rows, samples=200, seed=0)


def _arm(
    summary: dict[str, Any], name: str, training_seed: int | str | None = None, agent: str = "pooled", source: str = "pooled"
) -> dict[str, Any]:
    wanted = {"name": name, "training_seed": training_seed, "agent": agent, "source": source}
    (row,) = [row for row in summary["arms"] if all(row[key] == value for key, value in wanted.items())]
    return row


def _difference(
    summary: dict[str, Any], arm: str, metric: str, baseline: str = "base", agent: str = "pooled", source: str = "pooled"
) -> dict[str, Any]:
    wanted = {"arm": arm, "baseline": baseline, "metric": metric, "agent": agent, "source": source}
    (row,) = [row for row in summary["differences"] if all(row[key] == value for key, value in wanted.items())]
    return row


# Two questions; base solves q1 only. LRAT with training seed 1 solves both, with seed 2 only q2.
_BASE = [outcome("base", "q1", steps=6), outcome("base", "q2", success=False, evidence_recall=0.5, steps=8)]
_LRAT = [
    outcome("lrat", "q1", training_seed=1, steps=4),
    outcome("lrat", "q2", training_seed=1, steps=5),
    outcome("lrat", "q1", training_seed=2, success=False, steps=10),
    outcome("lrat", "q2", training_seed=2, steps=7),
]


def test_rows_have_the_published_shape() -> None:
    summary = _summary(*_BASE, *_LRAT)
    measured = ["success_rate", "evidence_recall", "avg_steps", "avg_steps_both_solved", "questions"]
    assert {frozenset(row) for row in summary["arms"]} == {frozenset(["name", "agent", "training_seed", "source", *measured])}
    assert {frozenset(row) for row in summary["differences"]} == {
        frozenset(["arm", "baseline", "agent", "source", "metric", "mean", "ci95"])
    }
    assert {row["agent"] for row in summary["arms"]} == {"pooled", "V"}
    assert {row["source"] for row in summary["arms"]} == {"pooled", "made"}


def test_arms_are_measured_per_training_seed_and_over_them() -> None:
    summary = _summary(*_BASE, *_LRAT)
    base = _arm(summary, "base")
    assert (base["success_rate"], base["evidence_recall"], base["avg_steps"]) == (0.5, 0.75, 7.0)
    assert (base["avg_steps_both_solved"], base["questions"]) == (6.0, 2)
    one, two, pooled = (_arm(summary, "lrat", seed) for seed in (1, 2, "pooled"))
    assert (one["success_rate"], two["success_rate"], pooled["success_rate"]) == (1.0, 0.5, 0.75)
    assert (one["avg_steps"], two["avg_steps"], pooled["avg_steps"]) == (4.5, 8.5, 6.5)
    assert (one["avg_steps_both_solved"], two["avg_steps_both_solved"], pooled["avg_steps_both_solved"]) == (4.0, None, 4.0)


def test_differences_average_training_seeds_within_a_question_first() -> None:
    summary = _summary(*_BASE, *_LRAT)
    success = _difference(summary, "lrat", "success_rate")
    # q1: (1 + 0) / 2 - 1 = -0.5; q2: 1 - 0 = 1. Two questions, so a resample's mean is -0.5, 0.25 or 1.
    assert success["mean"] == pytest.approx(0.25)
    assert success["ci95"] == [-0.5, 1.0]
    assert _difference(summary, "lrat", "evidence_recall")["mean"] == pytest.approx(0.25)
    assert _difference(summary, "lrat", "avg_steps")["mean"] == pytest.approx(((4 + 10) / 2 - 6 + (5 + 7) / 2 - 8) / 2)
    both = _difference(summary, "lrat", "avg_steps_both_solved")
    assert (both["mean"], both["ci95"]) == (-2.0, [-2.0, -2.0])


def test_control_is_a_baseline_of_lrat_with_the_same_training_seed() -> None:
    control = [
        outcome("control", q, training_seed=seed, success=q == "q2", steps=seed) for q in ("q1", "q2") for seed in (1, 2)
    ]
    summary = _summary(*_BASE, *control, *_LRAT)
    assert _difference(summary, "lrat", "success_rate", "control")["mean"] == pytest.approx((0.5 - 0 + 1 - 1) / 2)
    # Both solved q2 with either seed: (5 - 1 + 7 - 2) / 2.
    assert _difference(summary, "lrat", "avg_steps_both_solved", "control")["mean"] == pytest.approx(4.5)
    assert {(row["arm"], row["baseline"]) for row in summary["differences"]} == {
        ("control", "base"),
        ("lrat", "base"),
        ("lrat", "control"),
    }


def test_slices_hold_their_own_runs() -> None:
    rows = [
        outcome(arm, query_id, agent=agent, source=source, success=arm == "bm25" and agent == "W")
        for arm in ("base", "bm25")
        for query_id, source in (("q1", "made"), ("q2", "real"), ("q3", "real"))
        for agent in ("V", "W")
    ]
    summary = _summary(*rows)
    assert _difference(summary, "bm25", "success_rate")["mean"] == pytest.approx(0.5)
    assert _difference(summary, "bm25", "success_rate", agent="W", source="real")["mean"] == 1.0
    assert _difference(summary, "bm25", "success_rate", agent="V")["mean"] == 0.0
    assert (_arm(summary, "bm25", agent="W", source="real")["questions"], _arm(summary, "bm25")["questions"]) == (2, 3)


def test_unknown_success_is_in_no_rate_and_named() -> None:
    rows = [*_BASE, outcome("bm25", "q1", success=None), outcome("bm25", "q2")]
    summary = _summary(*rows)
    assert _arm(summary, "bm25")["success_rate"] == 1.0
    assert _difference(summary, "bm25", "success_rate")["mean"] == 1.0  # q2 alone
    assert unjudged(rows) == [{"arm": "bm25", "training_seed": None, "agent": "V", "query_id": "q1", "seed": 1}]


def test_a_metric_that_is_undefined_is_null_in_arms_and_absent_from_differences() -> None:
    rows = [outcome(arm, success=False, evidence_recall=None) for arm in ("base", "bm25")]
    summary = _summary(*rows)
    assert _arm(summary, "bm25")["evidence_recall"] is None
    assert {row["metric"] for row in summary["differences"]} == {"success_rate", "avg_steps"}


def test_arms_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(EvaluationError, match="'base'.*is missing.*found: lrat"):
        _summary(*_LRAT)
    with pytest.raises(EvaluationError, match="bm25 .*was not asked what base was: 1 runs differ"):
        _summary(*_BASE, outcome("bm25", "q1"))
    with pytest.raises(EvaluationError, match="two outcomes"):
        _summary(*_BASE, _BASE[0])
    control = [outcome("control", q, training_seed=3) for q in ("q1", "q2")]
    with pytest.raises(EvaluationError, match="lrat was trained with seeds .*control with .*'3'"):
        _summary(*_BASE, *control, *_LRAT)
