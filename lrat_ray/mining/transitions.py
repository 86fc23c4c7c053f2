"""Browses of a trajectory: which document was opened, which search had shown it, and what the agent thought afterwards.

This is the naive mining step of LRAT (section 3.1: a search step followed by a browse), with one difference: a browse
belongs to the most recent search that showed the document, which need not be the latest search.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from lrat_ray.schema import Browse, Rejected, SearchResult, Step, Trajectory

NOT_SHOWN = -1
"""`search_step` of a browse whose document no earlier search showed (its rank is 0, its query empty)."""


def find_browses(
    trajectory: Trajectory, source: str, *, max_reasoning_steps: int | None = None
) -> tuple[list[Browse], list[Rejected]]:
    """Every browse step as a row, in order, and those that opened nothing; a document opened twice gives two rows.

    source: where the trajectory was read, for rejected rows; max_reasoning_steps: how many reasoning steps after a browse make
    its post-browse reasoning (None: all that follow directly).
    """
    browses: list[Browse] = []
    rejected: list[Rejected] = []
    for number, step in enumerate(trajectory.steps):
        if step.kind != "browse":
            continue
        if step.docid is None or step.error is not None:
            position = f"trajectory {trajectory.trajectory_id}, step {number}"
            problem = step.error or "the step names no document"
            detail = f"{source} {position}: the browse opened no document ({problem})"
            rejected.append(Rejected(source=source, position=position, reason="failed browse", detail=detail))
        else:
            browses.append(_browse(trajectory, number, step.docid, max_reasoning_steps))
    return browses, rejected


def search_reasoning(steps: Sequence[Step], search_step: int) -> str | None:
    """What the agent thought before it searched: the reasoning that directly precedes the calls of the search's turn."""
    turn = steps[search_step].turn
    start = search_step
    while start > 0 and steps[start - 1].turn == turn and steps[start - 1].kind != "reasoning":
        start -= 1
    thoughts = list(takewhile(lambda step: step.kind == "reasoning", reversed(steps[:start])))
    return _join(reversed(thoughts)) if thoughts else None


def _browse(trajectory: Trajectory, number: int, docid: str, max_reasoning_steps: int | None) -> Browse:
    steps = trajectory.steps
    following = list(takewhile(lambda step: step.kind == "reasoning", steps[number + 1 :]))
    search_step, result = _most_recent_showing(steps[:number], docid)
    was_shown = result is not None
    return Browse(
        trajectory_id=trajectory.trajectory_id,
        query_id=trajectory.query_id,
        agent=trajectory.agent,
        browse_step=number,
        docid=docid,
        search_step=search_step,
        rank=result.rank if result else 0,
        query=(steps[search_step].executed_query or "") if was_shown else "",
        question=trajectory.question,
        reasoning=_join(following[:max_reasoning_steps]),
        search_reasoning=search_reasoning(steps, search_step) if was_shown else None,
    )


def _most_recent_showing(steps: Sequence[Step], docid: str) -> tuple[int, SearchResult | None]:
    for number in range(len(steps) - 1, -1, -1):
        for result in steps[number].results:
            if result.docid == docid:
                return number, result
    return NOT_SHOWN, None


def _join(reasoning: Iterable[Step]) -> str:
    return "\n".join(step.text or "" for step in reasoning)
