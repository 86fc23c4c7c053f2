"""Compare arms: what each achieved, and paired differences with 95% intervals clustered by question.

Two arms are compared run by run, on the same agent, question and rollout seed (common random numbers), and on the same
training seed where both were trained. Runs of one question are one cluster: they are resampled together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lrat_ray.evaluation.records import EvaluationError, Outcome
from lrat_ray.metrics import mean, paired_bootstrap

BASE = "base"
"""The untuned encoder, with which every other arm is compared."""

BASELINES: Mapping[str, Sequence[str]] = {"lrat": ("control",), "hybrid-lrat": ("hybrid-base",)}
"""Baselines besides base: what the arm must beat for its gain to come from agent data, or from the tuned half of a hybrid."""

POOLED = "pooled"
"""Value of agent, source or training_seed in a row over all of them."""

TrainingSeed: TypeAlias = int | None
RunKey: TypeAlias = tuple[str, str, int]  # (agent, query_id, rollout seed): what is the same in every arm
Runs: TypeAlias = dict[RunKey, Outcome]
Arm: TypeAlias = dict[TrainingSeed, Runs]


def _steps_both_solved(ours: Outcome, theirs: Outcome) -> int | None:
    return ours.steps if ours.success and theirs.success else None


METRICS: Mapping[str, Callable[[Outcome, Outcome], float | None]] = {
    "success_rate": lambda ours, theirs: ours.success,
    "evidence_recall": lambda ours, theirs: ours.evidence_recall,
    "avg_steps": lambda ours, theirs: ours.steps,
    "avg_steps_both_solved": _steps_both_solved,
}
"""What a metric averages: the first run's value beside a run of the same question by another arm; None where undefined."""


def summarize(
    outcomes: Iterable[Outcome],
    *,
    baselines: Mapping[str, Sequence[str]] = BASELINES,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """The "arms" and "differences" of summary.json, arms in the order of their first outcome.

    arms: one row per arm, training seed ("pooled": mean over the seeds of a trained arm), agent and source (each, and
    "pooled"); success_rate and evidence_recall are shares, avg_steps_both_solved is over the runs that this arm and base both
    solved, questions counts the questions asked. differences: arm minus baseline, mean over the training seeds of each run
    first, then `samples` resamples of questions. A metric that is undefined everywhere is null in arms and absent from
    differences. Raises EvaluationError when base is missing, when arms were not asked the same, or when two arms that are
    compared were trained with different seeds.
    """
    arms = _by_arm(outcomes)
    base = arms[BASE][None]
    pairs = [(name, other) for name in arms for other in (BASE, *baselines.get(name, ())) if other in arms and other != name]
    for name, other in pairs:
        _check_training_seeds(name, arms[name], other, arms[other])
    slices = list(_slices(base))
    return {
        "arms": [row for name, arm in arms.items() for key in slices for row in _arm_rows(name, arm, base, *key)],
        "differences": [
            {"arm": name, "baseline": other, "agent": agent, "source": source, "metric": metric, **interval}
            for name, other in pairs
            for agent, source, runs in slices
            for metric in METRICS
            if (interval := _difference(metric, arms[name], arms[other], runs, samples, seed))
        ],
    }


def unjudged(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """The runs whose answer the judge failed on: in no success rate, named in the summary's protocol."""
    return [
        {"arm": o.arm, "training_seed": o.training_seed, "agent": o.agent, "query_id": o.query_id, "seed": o.seed}
        for o in outcomes
        if o.success is None
    ]


def _by_arm(outcomes: Iterable[Outcome]) -> dict[str, Arm]:
    """Outcomes by arm, training seed and run, every arm checked to have been asked exactly what base was."""
    arms: dict[str, Arm] = {}
    for outcome in outcomes:
        runs = arms.setdefault(outcome.arm, {}).setdefault(outcome.training_seed, {})
        key = (outcome.agent, outcome.query_id, outcome.seed)
        if key in runs:
            raise EvaluationError(f"arm {outcome.arm}: two outcomes of agent, question and rollout seed {key}")
        runs[key] = outcome
    if None not in arms.get(BASE, {}):
        found = ", ".join(arms) or "no outcomes"
        raise EvaluationError(f"arm {BASE!r}, with which every arm is compared, is missing (untrained); found: {found}")
    asked = arms[BASE][None].keys()
    for name, arm in arms.items():
        for training_seed, runs in arm.items():
            if different := asked ^ runs.keys():
                raise EvaluationError(
                    f"arm {name} (training seed {training_seed}) was not asked what {BASE} was: {len(different)} runs differ, "
                    f"for example {min(different)}. Roll out every arm on the same questions, agents and seeds"
                )
    return arms


def _check_training_seeds(name: str, arm: Arm, other: str, baseline: Arm) -> None:
    if None not in arm and None not in baseline and arm.keys() != baseline.keys():
        raise EvaluationError(
            f"{name} was trained with seeds {sorted(map(str, arm))}, {other} with {sorted(map(str, baseline))}: "
            f"they can only be paired when the seeds are the same"
        )


def _slices(base: Runs) -> Iterator[tuple[str, str, list[RunKey]]]:
    """(agent, source, its runs): everything pooled first, then each agent and source."""
    agents = dict.fromkeys(outcome.agent for outcome in base.values())
    sources = dict.fromkeys(outcome.source for outcome in base.values())
    for agent in (POOLED, *agents):
        for source in (POOLED, *sources):
            runs = [key for key, o in base.items() if agent in (POOLED, o.agent) and source in (POOLED, o.source)]
            if runs:
                yield agent, source, runs


def _arm_rows(name: str, arm: Arm, base: Runs, agent: str, source: str, keys: list[RunKey]) -> Iterator[dict[str, Any]]:
    """The rows of one arm in one slice: one per training seed, after their mean when it was trained."""
    measured: dict[int | str | None, dict[str, float | None]] = {
        training_seed: {metric: mean(value(runs[key], base[key]) for key in keys) for metric, value in METRICS.items()}
        for training_seed, runs in arm.items()
    }
    if None not in arm:
        measured = {POOLED: {metric: mean(row[metric] for row in measured.values()) for metric in METRICS}, **measured}
    questions = len({query_id for _, query_id, _ in keys})
    for training_seed, values in measured.items():
        yield {"name": name, "agent": agent, "training_seed": training_seed, "source": source, **values, "questions": questions}


def _difference(metric: str, arm: Arm, baseline: Arm, keys: list[RunKey], samples: int, seed: int) -> dict[str, Any] | None:
    """{"mean", "ci95"} of arm minus baseline over these runs; None when no pair of runs defines it."""
    seeds = [(t, t if t in baseline else None) for t in arm] if None not in arm else [(None, u) for u in baseline]
    values, clusters = [], []
    for key in keys:
        over_seeds = mean(_gap(metric, arm[t][key], baseline[u][key]) for t, u in seeds)
        if over_seeds is not None:
            values.append(over_seeds)
            clusters.append(key[1])
    if not values:
        return None
    interval = paired_bootstrap(values, clusters, samples=samples, seed=seed)
    return {"mean": interval.mean, "ci95": [interval.lo, interval.hi]}


def _gap(metric: str, ours: Outcome, theirs: Outcome) -> float | None:
    a, b = METRICS[metric](ours, theirs), METRICS[metric](theirs, ours)
    return None if a is None or b is None else a - b
