"""What a verdict on an assumption of the method is, and when one may be given.

A verdict needs an interval that is clear of a margin, not a small p-value: with many browses every difference is significant,
with few none is. An assumption "holds" or "does not hold" where the whole 95% interval (Poisson bootstrap, questions drawn)
lies on one side; where it leaves both open, the assumption is not measurable here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from lrat_ray.metrics import Interval

Verdict = Literal["holds", "does not hold", "not measurable here"]
VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "not measurable here")

FEWEST_QUESTIONS = 5
"""Intervals that are clustered by question say nothing about fewer."""
FEW_QUESTIONS = 30
"""Below this a percentile interval is too narrow, and the finding says so."""

_MORE = "Pass more trajectories."


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was passed beside the trajectories."""

    questions: bool = False
    browses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One assumption: what is claimed, what was found, whether it holds, and what to do about it.

    `statistic` says what `estimate` and `ci95` measure; `effect_size` looks at the same in another way, and `p_value` belongs
    to a test. They are None where nothing could be measured; then `finding` says why, and `advice` what to pass.
    """

    name: str
    claim: str
    verdict: Verdict
    finding: str
    advice: str
    paper: str
    statistic: str
    estimate: float | None = None
    ci95: tuple[float, float] | None = None
    p_value: float | None = None
    effect_size: dict[str, float] | None = None
    observations: int = 0
    questions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An assumption before it is judged: what is claimed, what the paper says of it, and what there is to judge it by."""

    name: str
    claim: str
    paper: str
    statistic: str
    observations: int
    questions: int

    def measured(
        self,
        verdict: Verdict,
        interval: Interval,
        finding: str,
        advice: str,
        *,
        p_value: float | None = None,
        effect_size: dict[str, float] | None = None,
    ) -> Assumption:
        """The assumption with a verdict on it."""
        if verdict == "not measurable here":
            finding += " The interval leaves both answers open."
        if self.questions < FEW_QUESTIONS:
            finding += f" Only {self.questions} questions: the interval is too narrow, take this as a hint."
        return Assumption(
            **self._fields(),
            verdict=verdict,
            finding=finding,
            advice=advice,
            estimate=interval.mean,
            ci95=(interval.lo, interval.hi),
            p_value=p_value,
            effect_size=effect_size,
        )

    def unmeasured(self, why: str, fix: str) -> Assumption:
        """The assumption where nothing could be measured: why, and what to pass."""
        return Assumption(**self._fields(), verdict="not measurable here", finding=why, advice=fix)

    def too_few_questions(self) -> Assumption:
        """The assumption where there are fewer than FEWEST_QUESTIONS, or draws leave the statistic undefined."""
        return self.unmeasured(
            f"{self.questions} question{'s are' if self.questions != 1 else ' is'} too few for an interval.",
            f"Pass trajectories of more questions (at least {FEWEST_QUESTIONS}, better {FEW_QUESTIONS}).",
        )

    def without_evidence(self, given: Given) -> Assumption:
        """The assumption where no trajectory's question has annotated evidence."""
        if given.questions:
            return self.unmeasured(
                "The questions that were passed annotate evidence for none of these trajectories.",
                "Their query_id must be that of the trajectories, and evidence_docids must not be empty.",
            )
        return self.unmeasured(
            "Nothing says which documents are evidence.", "Pass --questions with query_id and evidence_docids."
        )

    def _fields(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def advice_for(verdict: Verdict, *, holds: str, fails: str) -> str:
    """What to do about a verdict."""
    return {"holds": holds, "does not hold": fails, "not measurable here": _MORE}[verdict]


def within(interval: Interval, low: float, high: float) -> Verdict:
    """holds where the interval lies in [low, high], does not hold where it lies wholly outside."""
    if low <= interval.lo and interval.hi <= high:
        return "holds"
    return "does not hold" if interval.hi < low or interval.lo > high else "not measurable here"


def above(interval: Interval, *, least: float, enough: float) -> Verdict:
    """holds where the interval lies above `least`, does not hold where it lies below `enough`, the least that matters."""
    if interval.hi < enough:
        return "does not hold"
    return "holds" if interval.lo > least else "not measurable here"


def number(interval: Interval) -> str:
    """0.10 [0.02, 0.22]"""
    return f"{interval.mean:.2f} [{interval.lo:.2f}, {interval.hi:.2f}]"


def percent(interval: Interval) -> str:
    """85% [60%, 100%]"""
    return f"{interval.mean:.0%} [{interval.lo:.0%}, {interval.hi:.0%}]"


def points(interval: Interval) -> str:
    """+12 points [+3, +20]"""
    mean, lo, hi = (f"{100 * value:+.0f}" for value in interval)
    return f"{mean} points [{lo}, {hi}]"
