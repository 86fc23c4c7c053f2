"""Chart geometry against positions worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.evaluation.charts import bar_chart, interval_marks, loss_curves


def _summary() -> dict[str, Any]:
    pooled = {"agent": "pooled", "source": "pooled", "training_seed": None}
    gap = {"arm": "lrat", "baseline": "base", "metric": "success_rate", "mean": 0.1, "ci95": [-0.1, 0.3]}
    return {
        "arms": [{**pooled, "name": "base", "success_rate": 0.4}, {**pooled, "name": "lrat", "success_rate": 0.5}],
        "differences": [{**pooled, **gap}],
    }


def test_bars_share_a_scale_from_zero_and_whiskers_stand_on_base() -> None:
    chart = bar_chart(_summary(), "success_rate")
    # The longest end is base + 0.3 = 0.7, so the scale ends at the next tenth, 0.8.
    assert chart.base == 50.0
    assert [(bar.label, bar.width, bar.whisker) for bar in chart.bars] == [
        ("base", 50.0, None),
        ("LRAT", 62.5, (pytest.approx(37.5), pytest.approx(87.5))),
    ]


def test_interval_marks_share_one_scale_that_holds_zero() -> None:
    rows = [
        {"metric": "success_rate", "mean": 0.5, "ci95": [0.25, 1.0]},
        None,
        {"metric": "success_rate", "mean": -0.5, "ci95": [-1.0, 0.0]},
    ]
    first, missing, last = interval_marks(rows)
    assert missing is None
    assert first is not None
    assert last is not None
    assert (first.zero, last.zero, first.sign, last.sign) == (50.0, 50.0, "above", "unclear")
    assert first.hi - 50 == pytest.approx(50 - last.lo)
    assert first.mid - 50 == pytest.approx((first.hi - 50) / 2, abs=0.01)


def test_an_interval_of_no_width_at_zero_is_drawn_in_the_middle() -> None:
    (mark,) = interval_marks([{"metric": "avg_steps", "mean": 0.0, "ci95": [0.0, 0.0]}])
    assert mark is not None
    assert (mark.lo, mark.mid, mark.hi, mark.zero) == (50.0, 50.0, 50.0, 50.0)


def test_curves_run_from_the_first_step_to_the_last_below_the_highest_loss() -> None:
    curves = {"lrat-1": [{"step": 10, "loss": 4.0}, {"step": 20, "loss": 1.0}, {"step": 30, "loss": 2.0}], "none": []}
    (curve,) = loss_curves(curves)
    assert (curve.name, curve.points, curve.num_steps) == ("LRAT-1", "0.00,0.00 50.00,75.00 100.00,50.00", 30)
