"""Protocol `reference`: the pairs that the public LRAT miner makes, for comparison with published data.

Follows `src/data_builder.py` (`extract_pairs_with_satisfaction_groups`) of github.com/Yuqi-Zhou/LRAT at 274d0ab. Its known
faults are part of the protocol: a browse is paired with the latest query even where an earlier search surfaced it, a document
found useful later is a negative until then, and irrelevant browses become pairs, too (relevant=False, weight 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrat_ray.mining.judge import was_useful, was_useless
from lrat_ray.mining.negatives import Candidates, candidates_by_step
from lrat_ray.mining.pairs import Outcome, judge_failed, make_pair, no_pair
from lrat_ray.schema import Browse, CandidateSets


@dataclass(slots=True)
class _Window:
    """What happened since the last run of browses with a useful one among them: search steps and opened documents, in order."""

    searches: list[int] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)


def reference_pairs(sets: CandidateSets, browses: Sequence[Browse]) -> list[Outcome]:
    """One outcome per browse. Browses come in runs (see `_run_from`) that share a window; a useful one ends the window."""
    shown = candidates_by_step(sets)
    queries = dict(zip(shown, sets.queries, strict=True))
    by_step = {browse.browse_step: browse for browse in browses}
    outcomes: list[Outcome] = []
    window = _Window()
    number = 0
    while number < len(sets.kinds):
        if sets.kinds[number] == "b":
            run, number = _run_from(number, sets.kinds, by_step)
            outcomes += _run_outcomes(shown, queries, run, window)
            window = _Window() if any(was_useful(browse) for browse in run) else window
            continue
        if sets.kinds[number] == "s":
            window.searches.append(number)
        number += 1
    return outcomes


def _run_from(number: int, kinds: str, by_step: dict[int, Browse]) -> tuple[list[Browse], int]:
    """The browses that follow each other from a step on, each with at most one reasoning step between; the step after them."""
    run: list[Browse] = []
    while number < len(kinds) and kinds[number] == "b":
        browse = by_step.get(number)
        number += 1
        if browse is None:  # it opened nothing: the public code then looks at the very next step
            continue
        run.append(browse)
        if number < len(kinds) and kinds[number] == "r":
            number += 1
    return run, number


def _run_outcomes(shown: Candidates, queries: dict[int, str], run: Sequence[Browse], window: _Window) -> list[Outcome]:
    """The outcomes of one run of browses; adds what the run opened to the window."""
    useful = {browse.docid for browse in run if was_useful(browse)}
    window.useless += [browse.docid for browse in run if was_useless(browse)]
    window.opened += [browse.docid for browse in run]
    candidates = [docid for search in reversed(window.searches) for docid in shown[search]]
    unbrowsed = [docid for docid in candidates if docid not in window.opened]
    # Nearest first: of this run, then of the runs before it.
    negatives = [docid for docid in dict.fromkeys([*reversed(window.useless), *unbrowsed]) if docid not in useful]
    outcomes: list[Outcome] = []
    for browse in run:
        if browse.judge_status == "failed":
            outcomes.append(judge_failed(browse))
        elif browse.docid not in candidates:
            outcomes.append(no_pair(browse, "not shown", "which no search since the last useful run of browses had shown"))
        else:
            latest = window.searches[-1]
            # What the agent thought before the latest search; known here where that search showed the document itself.
            thought = browse.search_reasoning if browse.search_step == latest else None
            others = [docid for docid in negatives if docid != browse.docid]
            outcomes.append(make_pair(browse, queries[latest], thought, others))
    return outcomes
