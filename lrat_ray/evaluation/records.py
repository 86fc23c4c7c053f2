"""What one run came to: a row for every question asked, whether or not a run of it was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lrat_ray.metrics import evidence_recall, num_steps
from lrat_ray.schema import JudgeStatus, Question, Trajectory

NO_RUN = "no run"
"""Status of a question that was asked but of which no trajectory exists."""

NO_SOURCE = "unnamed"
"""Source of questions that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer judge on one response to one question, which it judges once, whichever arms and seeds gave it.

    `correct` is None iff `judge_status` is "failed"; then `judge_error` says why.
    """

    query_id: str
    response: str
    correct: bool | None
    judge_status: JudgeStatus
    judge_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One question asked of one agent, with one retriever (`arm` and the training seed of its encoder) and rollout seed.

    `success` is None when the judge failed, `evidence_recall` (share) when the question has no annotations, `steps` (tool
    calls) when there is no run. `status` is the trajectory's, or `NO_RUN`.
    """

    arm: str
    training_seed: int | None
    agent: str
    source: str
    query_id: str
    seed: int
    success: bool | None
    evidence_recall: float | None
    steps: int | None
    status: str


class EvaluationError(ValueError):
    """Runs that cannot be scored or compared; the message names them and the fix."""


def final_response(final_answer: str | None) -> str | None:
    """What is judged of a run: its answer without surrounding space; None when it gave none."""
    return (final_answer or "").strip() or None


def outcomes(
    *,
    arm: str,
    training_seed: int | None,
    agents: Sequence[str],
    seeds: Sequence[int],
    questions: Mapping[str, Question],
    trajectories: Iterable[Trajectory],
    verdicts: Mapping[tuple[str, str], Verdict],
) -> Iterator[Outcome]:
    """An outcome for every agent, question and rollout seed asked.

    questions: by query_id. trajectories: read once, in any order. verdicts: by (query_id, response). A run without an answer
    has failed, without a verdict; a question without a run has failed with recall 0. Raises EvaluationError for a run of
    something that was not asked, for two runs of the same, and for an answer without a verdict.
    """
    measured: dict[tuple[str, str, int], tuple[bool | None, float | None, int | None, str]] = {}
    asked = [(agent, query_id, seed) for agent in agents for query_id in questions for seed in seeds]
    expected = set(asked)
    for run in trajectories:
        key = (run.agent, run.query_id, run.seed)
        if key not in expected:
            raise EvaluationError(
                f"arm {arm}: trajectory {run.trajectory_id} has agent {run.agent!r}, question {run.query_id!r}, rollout seed "
                f"{run.seed}, which was not asked. Set questions.eval, agent.names and rollout.seeds as in the rollout"
            )
        if key in measured:
            raise EvaluationError(f"arm {arm}: two trajectories of one agent, question and rollout seed {key}")
        recall = evidence_recall(run, questions[run.query_id].evidence_docids)
        measured[key] = (_success(run, verdicts), recall, num_steps(run), run.status)
    for agent, query_id, seed in asked:
        question = questions[query_id]
        no_run = (False, 0.0 if question.evidence_docids else None, None, NO_RUN)
        success, recall, steps, status = measured.get((agent, query_id, seed), no_run)
        yield Outcome(
            arm=arm,
            training_seed=training_seed,
            agent=agent,
            source=question.source or NO_SOURCE,
            query_id=query_id,
            seed=seed,
            success=success,
            evidence_recall=recall,
            steps=steps,
            status=status,
        )


def _success(run: Trajectory, verdicts: Mapping[tuple[str, str], Verdict]) -> bool | None:
    response = final_response(run.final_answer)
    if response is None:
        return False
    verdict = verdicts.get((run.query_id, response))
    if verdict is None:
        raise EvaluationError(f"trajectory {run.trajectory_id}: its answer has no verdict; judge these trajectories again")
    return verdict.correct
