"""One question before and after: two runs of the same agent, question and seed that ended differently."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from lrat_ray.evaluation.records import NO_RUN, Outcome
from lrat_ray.schema import Question, Trajectory

RunPair: TypeAlias = tuple[Outcome, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How many runs changed outcome between two arms, and the one to show: base failed, the other solved; None if none did."""

    arm: str
    gained: int
    lost: int
    shown: RunPair | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The question of the pair that a change is shown by, and its two trajectories."""

    question: Question
    before: Trajectory
    after: Trajectory


def find_change(outcomes: Iterable[Outcome], *, baseline: str, arm: str) -> Change:
    """Count the runs that `arm` gained and lost against `baseline`, and pick one that it gained.

    Looked at are the runs of the arm's first training seed. Picked is, of those gained with a run on both sides, the one with
    the largest gain in evidence recall, then the fewest steps, then the first by question, agent and seed: a rule, no choice.
    """
    rows = list(outcomes)
    before = {_run(outcome): outcome for outcome in rows if outcome.arm == baseline}
    seeds = [outcome.training_seed for outcome in rows if outcome.arm == arm and outcome.training_seed is not None]
    first_seed = min(seeds, default=None)
    after = {_run(outcome): outcome for outcome in rows if outcome.arm == arm and outcome.training_seed == first_seed}
    pairs = [(before[run], after[run]) for run in sorted(before.keys() & after.keys())]
    gained = [(b, a) for b, a in pairs if b.success is False and a.success]
    lost = [(b, a) for b, a in pairs if b.success and a.success is False]
    with_runs = [pair for pair in gained if all(outcome.status != NO_RUN for outcome in pair)]
    shown = max(with_runs, key=lambda pair: (_recall_gain(pair), -_steps(pair)), default=None)
    return Change(arm=arm, gained=len(gained), lost=len(lost), shown=shown)


def _run(outcome: Outcome) -> tuple[str, str, int]:
    return outcome.query_id, outcome.agent, outcome.seed


def _recall_gain(pair: RunPair) -> float:
    before, after = pair
    return (after.evidence_recall or 0.0) - (before.evidence_recall or 0.0)


def _steps(pair: RunPair) -> int:
    return sum(outcome.steps or 0 for outcome in pair)
