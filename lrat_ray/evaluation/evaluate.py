"""The evaluation stage: runs of several arms in, outcomes and their comparison out, and the report on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from lrat_ray import artifacts, questions
from lrat_ray.artifacts import ArtifactError, Manifest, join
from lrat_ray.config import Config, ConfigError
from lrat_ray.evaluation.compare import BASE, summarize, unjudged
from lrat_ray.evaluation.example import Change, Example, find_change
from lrat_ray.evaluation.pipeline import judge_answers
from lrat_ray.evaluation.records import NO_RUN, Outcome, Verdict, outcomes
from lrat_ray.evaluation.report import Curves, render_report
from lrat_ray.evaluation.wording import subject
from lrat_ray.schema import Trajectory, from_table

_SUMMARY = "summary.json"


def run(config: Config) -> Manifest:
    """Judge and compare `evaluate.runs` on `questions.eval`; writes an artifact of kind "evaluation" with summary.json.

    Its parts are the outcomes, one part per run; the verdicts lie in verdicts/. Where a judge call failed the success is
    unknown, the summary's protocol names the run, and a rerun asks the judge again. Raises ConfigError, ArtifactError or
    EvaluationError for runs that are missing or that were not asked the same.
    """
    output = config.require("output", "an evaluation needs a directory")
    asked = config.require("questions.eval", "arms are compared on the questions that they were asked")
    runs = config.evaluate.runs
    if not runs:
        raise ConfigError("evaluate.runs is empty: list the arms to compare, each with its arm and trajectories")
    inputs: dict[str, str | None] = {"questions.eval": asked}
    inputs.update({_input_name(run.arm, run.training_seed): run.trajectories for run in runs})
    settings = ("answer_judge", "bootstrap_samples", "seed")
    recorded = config.only(*(f"evaluate.{key}" for key in settings), "agent.names", "rollout.seeds")
    work = artifacts.begin(output, kind="evaluation", config=recorded, inputs=inputs, force=config.force)
    if work.manifest and not work.manifest.metrics["unjudged"]:
        return work.manifest
    asked = questions.ensure(asked, _questions_at(output))
    judging = config.replace(output=join(output, "verdicts"), force=False)
    verdicts = judge_answers(judging, [run.trajectories for run in runs], asked)
    rows = _outcomes(config, asked, verdicts)
    parts = {f"part-{i:05d}.parquet": rows_of_run for i, rows_of_run in enumerate(rows)}
    for name, rows_of_run in parts.items():
        work.write_rows(name, rows_of_run, Outcome)
    every = [outcome for rows_of_run in parts.values() for outcome in rows_of_run]
    summary = summarize(every, samples=config.evaluate.bootstrap_samples, seed=config.evaluate.seed)
    protocol = _protocol(config, every)
    work.write_json(_SUMMARY, {**summary, "protocol": protocol})
    return work.finish(
        parts=list(parts),
        rows={"in": len(every), "out": len(every), "rejected": 0},
        metrics={"unjudged": len(protocol["unjudged"]), "no_run": sum(outcome.status == NO_RUN for outcome in every)},
        protocol=protocol,
    )


def report(evaluation: str, output: str, *, summary: Mapping[str, Any] | None = None, curves: Curves | None = None) -> None:
    """Write the report on an evaluation artifact as one HTML file.

    summary: instead of the artifact's own, one that also holds timings_s and peak_memory_mb. curves: {encoder: [{"step",
    "loss"}, ...]} of the trained arms. Raises ArtifactError if `evaluation` is no such artifact.
    """
    manifest = artifacts.read_manifest(evaluation, "evaluation")
    if summary is None:
        summary = artifacts.read_json(join(evaluation, _SUMMARY))
    change = find_change(artifacts.read_rows(evaluation, Outcome, "evaluation"), baseline=BASE, arm=subject(summary))
    html = render_report(summary, curves=curves or {}, change=change, example=_example(manifest, change))
    with artifacts.atomic_write(output) as file:
        file.write(html.encode())


def _questions_at(output: str) -> str:
    """Where the questions are written when questions.eval is no artifact yet."""
    return join(output, "questions")


def _input_name(arm: str, training_seed: int | None) -> str:
    return f"trajectories.{arm}" if training_seed is None else f"trajectories.{arm}.{training_seed}"


def _outcomes(config: Config, asked: str, verdicts: Manifest) -> Iterator[list[Outcome]]:
    """The outcomes of each of evaluate.runs."""
    by_id = {question.query_id: question for question in questions.read(asked)}
    judged = {(v.query_id, v.response): v for v in artifacts.read_rows(verdicts.uri, Verdict, "verdicts")}
    for run in config.evaluate.runs:
        yield list(
            outcomes(
                arm=run.arm,
                training_seed=run.training_seed,
                agents=config.agent.names,
                seeds=config.rollout.seeds,
                questions=by_id,
                trajectories=artifacts.read_rows(run.trajectories, Trajectory, "trajectories"),
                verdicts=judged,
            )
        )


def _protocol(config: Config, every: Sequence[Outcome]) -> dict[str, Any]:
    """What was compared and how: everything that another run must share before its numbers may stand beside these."""
    models = dict.fromkeys([*config.agent.names, config.evaluate.answer_judge])
    rollouts = {
        _input_name(run.arm, run.training_seed): artifacts.read_manifest(run.trajectories, "trajectories")
        for run in config.evaluate.runs
    }
    return {
        "agents": list(config.agent.names),
        "rollout_seeds": list(config.rollout.seeds),
        "answer_judge": config.evaluate.answer_judge,
        "simulated": [name for name in models if name.startswith("simulated")],
        "intervals": {
            "method": "paired bootstrap, percentile 95%, questions resampled",
            "samples": config.evaluate.bootstrap_samples,
            "seed": config.evaluate.seed,
        },
        "unjudged": unjudged(every),
        "statuses": _statuses(every),
        "rollouts": {name: {"config_hash": m.config_hash, **m.protocol} for name, m in rollouts.items()},
    }


def _statuses(every: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """How the runs of each arm ended; all but completed ones are failures, whatever the cause."""
    counts: dict[str, Counter[str]] = {}
    for outcome in every:
        counts.setdefault(outcome.arm, Counter())[outcome.status] += 1
    return {arm: dict(counter) for arm, counter in counts.items()}


def _example(manifest: Manifest, change: Change) -> Example | None:
    """The question and the two trajectories that the change is shown by."""
    if change.shown is None:
        return None
    before, after = change.shown
    asked = questions.ensure(manifest.inputs["questions.eval"]["uri"], _questions_at(manifest.uri))
    (question,) = (question for question in questions.read(asked) if question.query_id == before.query_id)
    return Example(question=question, before=_trajectory(manifest, before), after=_trajectory(manifest, after))


def _trajectory(manifest: Manifest, outcome: Outcome) -> Trajectory:
    """The trajectory of an outcome, without building the others."""
    uri = manifest.inputs[_input_name(outcome.arm, outcome.training_seed)]["uri"]
    wanted = (
        (pc.field("query_id") == outcome.query_id) & (pc.field("agent") == outcome.agent) & (pc.field("seed") == outcome.seed)
    )
    for part in artifacts.read_manifest(uri, "trajectories").part_uris():
        for trajectory in from_table(artifacts.read_table(part).filter(wanted), Trajectory):
            return trajectory
    raise ArtifactError(f"{uri} no longer holds the run of question {outcome.query_id!r}; evaluate again")
