"""The headline says what the interval allows, and nothing stronger."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.evaluation.wording import headline, interval, signed, subject, value


def _summary(lo: float, hi: float) -> dict[str, Any]:
    pooled = {"agent": "pooled", "source": "pooled"}
    success = {**pooled, "metric": "success_rate"}
    return {
        "arms": [
            {**pooled, "name": "base", "training_seed": None, "success_rate": 0.481},
            {**pooled, "name": "lrat", "training_seed": 1, "success_rate": 0.9},
            {**pooled, "name": "lrat", "training_seed": "pooled", "success_rate": 0.542},
        ],
        "differences": [
            {**success, "arm": "lrat", "baseline": "base", "mean": 0.061, "ci95": [lo, hi]},
            {**success, "arm": "lrat", "baseline": "control", "mean": -0.004, "ci95": [-0.02, 0.012]},
        ],
    }


def test_the_result_is_one_sentence_of_numbers() -> None:
    assert headline(_summary(0.033, 0.089)).result == (
        "LRAT answers 54.2% of questions, base 48.1% (difference +6.1 points, 95% interval [+3.3, +8.9])"
    )


@pytest.mark.parametrize(
    ("lo", "hi", "reading"),
    [
        (0.033, 0.089, "above zero: on these questions LRAT did better than base"),
        (-0.01, 0.089, "includes zero: this run does not show that LRAT and base differ"),
        (0.0, 0.089, "includes zero"),
        (-0.09, -0.01, "below zero: on these questions LRAT did worse than base"),
    ],
)
def test_the_reading_follows_the_interval(lo: float, hi: float, reading: str) -> None:
    assert reading in headline(_summary(lo, hi)).reading


def test_control_is_stated_beside_it() -> None:
    control = headline(_summary(0.033, 0.089)).control
    assert control is not None
    assert "difference −0.4 points, 95% interval [−2.0, +1.2]. The interval includes zero" in control


def test_without_control_or_base_nothing_is_claimed() -> None:
    summary = _summary(0.033, 0.089)
    summary["differences"] = []
    assert headline(summary).reading == "There is nothing to compare it with."
    assert headline(summary).control is None


def test_numbers() -> None:
    assert (value("success_rate", 0.5), value("avg_steps", 6.615), value("evidence_recall", None)) == ("50.0%", "6.62", "–")
    assert (signed("evidence_recall", -0.0123), signed("avg_steps", 0.0)) == ("−1.2", "+0.00")
    assert interval("avg_steps", (-0.5, 0.25)) == "[−0.50, +0.25]"


def test_the_subject_is_lrat_or_the_last_arm() -> None:
    assert subject(_summary(0, 1)) == "lrat"
    assert subject({"arms": [{"name": "base"}, {"name": "bm25"}]}) == "bm25"
