"""Geometry of the report's charts: where bars, whiskers and lines stand, in per cent of their box. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrat_ray.evaluation.compare import BASE
from lrat_ray.evaluation.wording import SHARES, arm_row, difference_row, interval, signed, title, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An arm's value of a metric. `whisker` is base plus the paired interval of the difference: what it reaches past the line
    of base is what the arm may have gained or lost."""

    arm: str
    label: str
    value: str
    difference: str | None
    width: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """The bars of one metric on a common scale that begins at zero; `base` is where the line of base stands."""

    metric: str
    bars: list[Bar]
    base: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalMark:
    """A difference with its interval on a scale shared by all marks of a figure; `zero` is where no difference stands."""

    text: str
    sign: str
    lo: float
    mid: float
    hi: float
    zero: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Loss over the steps of one training run: `points` of an SVG polyline in a box of 100 x 100, top left is (0, 0)."""

    name: str
    points: str
    first: str
    last: str
    num_steps: int
    top: str


def bar_chart(summary: Mapping[str, Any], metric: str) -> BarChart:
    """A metric of every arm, pooled; arms where it is undefined are left out."""
    rows = [row for arm in arm_names(summary) if (row := arm_row(summary, arm)) and row[metric] is not None]
    gaps = {row["name"]: difference_row(summary, row["name"], BASE, metric) for row in rows}
    base = next((row[metric] for row in rows if row["name"] == BASE), None)
    ends = [row[metric] for row in rows]
    ends += [base + gap["ci95"][1] for gap in gaps.values() if gap and base is not None]
    scale = _round_up(max(ends, default=1.0)) if metric in SHARES else 1.05 * max(ends, default=1.0)

    def bar(row: Mapping[str, Any]) -> Bar:
        gap = gaps[row["name"]]
        return Bar(
            arm=row["name"],
            label=title(row["name"]),
            value=value(metric, row[metric]),
            difference=f"{signed(metric, gap['mean'])} {interval(metric, gap['ci95'])}" if gap else None,
            width=_percent(row[metric], scale),
            whisker=(_percent(base + gap["ci95"][0], scale), _percent(base + gap["ci95"][1], scale)) if gap and base else None,
        )

    return BarChart(metric=metric, bars=[bar(row) for row in rows], base=_percent(base, scale) if base is not None else None)


def arm_names(summary: Mapping[str, Any]) -> list[str]:
    """Every arm once, in the order of the summary."""
    return list(dict.fromkeys(row["name"] for row in summary["arms"]))


def interval_marks(differences: Sequence[Mapping[str, Any] | None]) -> list[IntervalMark | None]:
    """Differences of one metric on one scale, which holds zero and every interval; None stays None."""
    ends = [end for row in differences if row for end in row["ci95"]]
    lo, hi = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (hi - lo) or 1.0
    left, width = lo - margin, hi - lo + 2 * margin

    def mark(row: Mapping[str, Any]) -> IntervalMark:
        low, high = row["ci95"]
        at = [round(100 * (x - left) / width, 2) for x in (low, row["mean"], high, 0.0)]
        return IntervalMark(
            text=f"{signed(row['metric'], row['mean'])} {interval(row['metric'], row['ci95'])}",
            sign="above" if low > 0 else "below" if high < 0 else "unclear",
            lo=at[0],
            mid=at[1],
            hi=at[2],
            zero=at[3],
        )

    return [mark(row) if row else None for row in differences]


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Curve]:
    """The training curve of every encoder that has one, on one scale of loss."""
    drawn = {name: points for name, points in curves.items() if points}
    top = max((point["loss"] for points in drawn.values() for point in points), default=1.0) or 1.0

    def curve(name: str, points: Sequence[Mapping[str, float]]) -> Curve:
        steps = [point["step"] for point in points]
        span = max(steps) - min(steps) or 1
        at = (f"{100 * (p['step'] - min(steps)) / span:.2f},{100 - 100 * p['loss'] / top:.2f}" for p in points)
        first, last = f"{points[0]['loss']:.2f}", f"{points[-1]['loss']:.2f}"
        return Curve(name=title(name), points=" ".join(at), first=first, last=last, num_steps=int(max(steps)), top=f"{top:.1f}")

    return [curve(name, points) for name, points in drawn.items()]


def _percent(number: float, scale: float) -> float:
    return round(100 * min(1.0, max(0.0, number / scale)), 2) if scale else 0.0


def _round_up(share: float) -> float:
    """The next tenth, at most 1."""
    return min(1.0, math.ceil(10 * share + 1e-9) / 10)
