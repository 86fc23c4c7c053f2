"""A comparison in plain words: the sentence that a summary supports, and no stronger one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrat_ray.evaluation.compare import BASE, POOLED

SHARES = ("success_rate", "evidence_recall")
"""Metrics that are shares and are written in per cent; the others are numbers of steps."""

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Headline:
    """What the report opens with: the result, what its interval allows to say, and the same against control (if compared)."""

    result: str
    reading: str
    control: str | None


def subject(summary: Mapping[str, Any]) -> str:
    """The arm that a report is about: lrat, else the last arm that was run; base when it is alone."""
    names = [row["name"] for row in summary["arms"]]
    return "lrat" if "lrat" in names else names[-1]


def title(arm: str) -> str:
    """An arm's name as prose writes it."""
    return arm.replace("lrat", "LRAT").replace("bm25", "BM25")


def arm_row(summary: Mapping[str, Any], arm: str, agent: str = POOLED, source: str = POOLED) -> dict[str, Any] | None:
    """An arm's row of a slice: over all training seeds where it was trained."""
    rows = [r for r in summary["arms"] if (r["name"], r["agent"], r["source"]) == (arm, agent, source)]
    return next((row for row in rows if row["training_seed"] in (None, POOLED)), None)


def difference_row(
    summary: Mapping[str, Any], arm: str, baseline: str, metric: str, agent: str = POOLED, source: str = POOLED
) -> dict[str, Any] | None:
    """The paired difference of a metric in a slice; None when the two were not compared, or it is undefined."""
    wanted = {"arm": arm, "baseline": baseline, "metric": metric, "agent": agent, "source": source}
    return next((row for row in summary["differences"] if all(row[key] == value for key, value in wanted.items())), None)


def value(metric: str, number: float | None) -> str:
    """A metric of an arm: "54.2%" or "6.62"."""
    if number is None:
        return "\N{EN DASH}"
    return f"{100 * number:.1f}%" if metric in SHARES else f"{number:.2f}"


def signed(metric: str, number: float) -> str:
    """A difference, in percentage points or steps: "+6.1" or "-0.22" with a real minus sign."""
    text = f"{100 * number:+.1f}" if metric in SHARES else f"{number:+.2f}"
    return text.replace("-", MINUS)


def interval(metric: str, ci95: tuple[float, float]) -> str:
    """An interval of differences: "[+3.3, +8.9]"."""
    return f"[{signed(metric, ci95[0])}, {signed(metric, ci95[1])}]"


def headline(summary: Mapping[str, Any]) -> Headline:
    """The result on success, pooled over agents and sources, with wording that its 95% interval allows."""
    arm = subject(summary)
    ours, base = arm_row(summary, arm), arm_row(summary, BASE)
    gap = difference_row(summary, arm, BASE, "success_rate")
    if ours is None or base is None or gap is None:
        alone = f"{title(arm)} answers {value('success_rate', ours['success_rate'] if ours else None)} of questions"
        return Headline(alone, "There is nothing to compare it with.", None)
    result = (
        f"{title(arm)} answers {value('success_rate', ours['success_rate'])} of questions, "
        f"{title(BASE)} {value('success_rate', base['success_rate'])} ({_gap(gap)})"
    )
    against_control = difference_row(summary, arm, "control", "success_rate")
    seeds = {row["training_seed"] for row in summary["arms"] if row["name"] == arm and isinstance(row["training_seed"], int)}
    caveat = " One training seed: the interval does not hold how trainings differ." if len(seeds) == 1 else ""
    return Headline(result, _reading(gap, BASE) + caveat, _control(arm, against_control) if against_control else None)


def _gap(row: Mapping[str, Any]) -> str:
    points = signed("success_rate", row["mean"])
    return f"difference {points} points, 95% interval {interval('success_rate', row['ci95'])}"


def _reading(row: Mapping[str, Any], baseline: str) -> str:
    arm, (lo, hi) = title(row["arm"]), row["ci95"]
    if lo > 0:
        return f"The interval lies above zero: on these questions {arm} did better than {baseline}."
    if hi < 0:
        return f"The interval lies below zero: on these questions {arm} did worse than {baseline}."
    return f"The interval includes zero: this run does not show that {arm} and {baseline} differ."


def _control(arm: str, row: Mapping[str, Any]) -> str:
    return (
        f"Against control, the same encoder tuned for as many steps without agent data: {_gap(row)}. {_reading(row, 'control')}"
    )
