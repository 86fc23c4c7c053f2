"""Protocol `reference`: the pairs that the public LRAT miner makes, for comparison with published data.

Follows `src/data_builder.py` (`extract_pairs_with_satisfaction_groups`) of github.com/Yuqi-Zhou/LRAT at 274d0ab. Its known
faults are part of the protocol: a browse is paired with the latest query even where an earlier search surfaced it, a document
found useful later is a negative until then, and irrelevant browses become pairs, too (relevant=False, weight 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrat_ray.mining.judge import was_useful, was_useless
from lrat_ray.mining.pairs import Outcome, judge_failed, make_pair, no_pair
from lrat_ray.mining.transitions import search_reasoning
from lrat_ray.schema import Browse, Step, Trajectory


@dataclass(slots=True)
class _Window:
    """What happened since the last run of browses with a useful one among them: search steps and opened documents, in order."""

    searches: list[int] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)


def reference_pairs(trajectory: Trajectory, browses: Sequence[Browse]) -> list[Outcome]:
    """One outcome per browse. Browses come in runs (see `_run_from`) that share a window; a useful one ends the window."""
    steps = trajectory.steps
    by_step = {browse.browse_step: browse for browse in browses}
    outcomes: list[Outcome] = []
    window = _Window()
    number = 0
    while number < len(steps):
        if steps[number].kind == "browse":
            run, number = _run_from(number, steps, by_step)
            outcomes += _run_outcomes(steps, run, window)
            window = _Window() if any(was_useful(browse) for browse in run) else window
            continue
        if steps[number].kind == "search":
            window.searches.append(number)
        number += 1
    return outcomes


def _run_from(number: int, steps: Sequence[Step], by_step: dict[int, Browse]) -> tuple[list[Browse], int]:
    """The browses that follow each other from a step on, each with at most one reasoning step between; the step after them."""
    run: list[Browse] = []
    while number < len(steps) and steps[number].kind == "browse":
        browse = by_step.get(number)
        number += 1
        if browse is None:  # it opened nothing: the public code then looks at the very next step
            continue
        run.append(browse)
        if number < len(steps) and steps[number].kind == "reasoning":
            number += 1
    return run, number


def _run_outcomes(steps: Sequence[Step], run: Sequence[Browse], window: _Window) -> list[Outcome]:
    """The outcomes of one run of browses; adds what the run opened to the window."""
    useful = {browse.docid for browse in run if was_useful(browse)}
    window.useless += [browse.docid for browse in run if was_useless(browse)]
    window.opened += [browse.docid for browse in run]
    shown = [result.docid for search in reversed(window.searches) for result in steps[search].results]
    unbrowsed = [docid for docid in shown if docid not in window.opened]
    # Nearest first: of this run, then of the runs before it.
    negatives = [docid for docid in dict.fromkeys([*reversed(window.useless), *unbrowsed]) if docid not in useful]
    outcomes: list[Outcome] = []
    for browse in run:
        if browse.judge_status == "failed":
            outcomes.append(judge_failed(browse))
        elif browse.docid not in shown:
            outcomes.append(no_pair(browse, "not shown", "which no search since the last useful run of browses had shown"))
        else:
            latest = window.searches[-1]
            query = steps[latest].executed_query or ""
            others = [docid for docid in negatives if docid != browse.docid]
            outcomes.append(make_pair(browse, query, search_reasoning(steps, latest), others))
    return outcomes
