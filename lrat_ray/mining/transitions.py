"""Browses of a trajectory: which document was opened, which search had shown it, and what the agent thought afterwards.

This is the naive mining step of LRAT (section 3.1: a search step followed by a browse), with two differences: a browse
belongs to the most recent search that showed the document, which need not be the latest search; and where the agent opened
several documents before it thought about them, the browses may share that reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from lrat_ray.schema import Browse, CandidateSets, Rejected, Step, Trajectory

NOT_SHOWN = -1
"""`search_step` of a browse whose document no earlier search showed (its rank is 0, its query empty)."""

PostBrowse = Literal["spread", "last", "first-step"]
"""What counts as a browse's reasoning. last: the reasoning steps that directly follow it. spread: where only the last of
several browses is followed by any, all of them have it in common. first-step: the one step that follows (the public miner)."""


@dataclass(slots=True)
class _Opened:
    """A browse while the trajectory is read: what comes after it is not known yet."""

    step: int
    docid: str
    search_step: int
    rank: int
    reasoning: str = ""
    logged_tokens: int = 0
    shared_by: int = 1
    run_position: int = 0
    run_length: int = 1


def find_browses(
    trajectory: Trajectory, source: str, post_browse: PostBrowse = "spread"
) -> tuple[list[Browse], list[Rejected]]:
    """Every browse step as a row, in order, and those that opened nothing; a document opened twice gives two rows.

    source: where the trajectory was read, for rejected rows. `reasoning_tokens` is 0 but for reasoning of which the log gives
    only the length.
    """
    steps = trajectory.steps
    opened: list[_Opened] = []
    rejected: list[Rejected] = []
    shown: dict[str, tuple[int, int]] = {}  # docid -> (most recent search step that showed it, its rank there)
    run: list[_Opened] = []  # since the last search
    waiting: list[_Opened] = []  # those that no reasoning has followed yet
    for number, step in enumerate(steps):
        if step.kind == "browse":
            if step.docid is None or step.error is not None:
                rejected.append(_failed(trajectory, source, number, step))
                waiting = waiting if post_browse == "spread" else []
                continue
            browse = _Opened(number, step.docid, *shown.get(step.docid, (NOT_SHOWN, 0)))
            opened.append(browse)
            run.append(browse)
            waiting.append(browse)
        elif step.kind == "reasoning":
            if waiting:
                _give_reasoning(waiting if post_browse == "spread" else waiting[-1:], steps, number, post_browse)
            waiting = []
        else:
            # Calls of one turn are made together: what is thought after them is about all of them.
            waiting = [browse for browse in waiting if steps[browse.step].turn == step.turn]
            if step.kind == "search":
                shown.update([(result.docid, (number, result.rank)) for result in reversed(step.results)])
                _close_run(run)
    _close_run(run)
    return [_browse(trajectory, browse) for browse in opened], rejected


def candidate_sets(trajectory: Trajectory, browses: int) -> CandidateSets:
    """What the searches of a trajectory with this many browses showed, without any text of documents."""
    searches = [step for step in trajectory.steps if step.kind == "search"]
    return CandidateSets(
        trajectory_id=trajectory.trajectory_id,
        browses=browses,
        correct=trajectory.correct,
        kinds="".join([step.kind[0] for step in trajectory.steps]),
        queries=[step.executed_query or "" for step in searches],
        candidates=[[result.docid for result in step.results] for step in searches],
    )


def search_reasoning(steps: Sequence[Step], search_step: int) -> str | None:
    """What the agent thought before it searched: the reasoning that directly precedes the calls of the search's turn."""
    turn = steps[search_step].turn
    start = search_step
    while start > 0 and steps[start - 1].turn == turn and steps[start - 1].kind != "reasoning":
        start -= 1
    thoughts = list(takewhile(lambda step: step.kind == "reasoning", reversed(steps[:start])))
    return _join(reversed(thoughts)) if thoughts else None


def _browse(trajectory: Trajectory, opened: _Opened) -> Browse:
    was_shown = opened.search_step != NOT_SHOWN
    return Browse(
        trajectory_id=trajectory.trajectory_id,
        query_id=trajectory.query_id,
        agent=trajectory.agent,
        browse_step=opened.step,
        docid=opened.docid,
        search_step=opened.search_step,
        rank=opened.rank,
        query=(trajectory.steps[opened.search_step].executed_query or "") if was_shown else "",
        question=trajectory.question,
        reasoning=opened.reasoning,
        search_reasoning=search_reasoning(trajectory.steps, opened.search_step) if was_shown else None,
        reasoning_tokens=share(opened.logged_tokens, opened.shared_by),
        shared_by=opened.shared_by,
        run_position=opened.run_position,
        run_length=opened.run_length,
    )


def _give_reasoning(receivers: Sequence[_Opened], steps: Sequence[Step], number: int, post_browse: PostBrowse) -> None:
    """Write the reasoning that starts at step `number` into the browses that it is about."""
    thoughts = list(takewhile(lambda step: step.kind == "reasoning", steps[number:]))
    if post_browse == "first-step":
        thoughts = thoughts[:1]
    reasoning = _join(thoughts)
    logged_tokens = 0 if reasoning.strip() else sum(step.tokens or 0 for step in thoughts)
    for browse in receivers:
        browse.reasoning, browse.logged_tokens, browse.shared_by = reasoning, logged_tokens, len(receivers)


def share(tokens: int, browses: int) -> int:
    """Each browse's part of a reasoning length that several have in common, in whole tokens."""
    return round(tokens / browses)


def _close_run(run: list[_Opened]) -> None:
    """Write its place into each browse of a finished run, and begin the next one."""
    for position, browse in enumerate(run):
        browse.run_position, browse.run_length = position, len(run)
    run.clear()


def _failed(trajectory: Trajectory, source: str, number: int, step: Step) -> Rejected:
    position = f"trajectory {trajectory.trajectory_id}, step {number}"
    problem = step.error or "the step names no document"
    detail = f"{source} {position}: the browse opened no document ({problem})"
    return Rejected(source=source, position=position, reason="failed browse", detail=detail)


def _join(reasoning: Iterable[Step]) -> str:
    return "\n".join([step.text or "" for step in reasoning])
