"""Protocols `paper` and `window`: a useful browse is the positive of the query that showed it; negatives were passed over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lrat_ray.mining.judge import was_useful, was_useless
from lrat_ray.mining.pairs import Outcome, judge_failed, make_pair, no_pair
from lrat_ray.mining.transitions import NOT_SHOWN
from lrat_ray.schema import Browse, CandidateSets

Candidates = dict[int, list[str]]
"""Docids shown by each search step of a trajectory, by rank."""


def paper_pairs(
    sets: CandidateSets, browses: Sequence[Browse], *, strict: bool, useful_elsewhere: Collection[str] = ()
) -> list[Outcome]:
    """One outcome per browse: a pair for each useful one, whose negatives are LRAT's N_t = D_t without what was browsed of it.

    D_t is the candidate set of the search that showed the document (section 3.1). strict: also without every document that
    the trajectory found useful at any time, and those of `useful_elsewhere`.
    """
    shown = candidates_by_step(sets)
    never = {browse.docid for browse in browses if browse.judge_status == "failed"}  # it may have been useful
    if strict:
        never |= {browse.docid for browse in browses if was_useful(browse)}.union(useful_elsewhere)
    opened: dict[int, set[str]] = {}
    for browse in browses:
        opened.setdefault(browse.search_step, set()).add(browse.docid)

    def negatives(browse: Browse) -> list[str]:
        left_out = never | opened[browse.search_step]
        return [docid for docid in dict.fromkeys(shown[browse.search_step]) if docid not in left_out]

    return [
        _refusal(browse) or make_pair(browse, browse.query, browse.search_reasoning, negatives(browse)) for browse in browses
    ]


def window_pairs(
    sets: CandidateSets, browses: Sequence[Browse], *, strict: bool, useful_elsewhere: Collection[str] = ()
) -> list[Outcome]:
    """One outcome per browse: a pair for each useful one (see `window_negatives`), a reason for each other."""
    shown = candidates_by_step(sets)

    def negatives(browse: Browse) -> list[str]:
        found = window_negatives(shown, browses, browse, strict=strict)
        return [docid for docid in found if docid not in useful_elsewhere] if strict and useful_elsewhere else found

    return [
        _refusal(browse) or make_pair(browse, browse.query, browse.search_reasoning, negatives(browse)) for browse in browses
    ]


def window_negatives(shown: Candidates, browses: Sequence[Browse], browse: Browse, *, strict: bool) -> list[str]:
    """The negatives of one useful browse: candidates shown since the last useful browse before it, hardest first.

    The window holds every search between the two browses, and the search that showed the document (so that the unbrowsed part
    of its own candidate set, LRAT's N_t, is always there). Candidates that were never opened come first, then those that were
    opened and judged irrelevant; within each, the most recent search first, by rank. A document found useful is never a
    negative. strict: what the agent did after this browse counts too; otherwise only what it had done until then.
    """
    known = [other for other in browses if strict or other.browse_step <= browse.browse_step]
    opened = {other.docid for other in known}
    useful = {other.docid for other in known if was_useful(other)}
    useless = {other.docid for other in known if was_useless(other)} - useful
    candidates = _window(shown, browses, browse)
    return [d for d in candidates if d not in opened] + [d for d in candidates if d in useless]


def candidates_by_step(sets: CandidateSets) -> Candidates:
    """The candidates of each search step, by the step's number in the trajectory."""
    steps = [number for number, kind in enumerate(sets.kinds) if kind == "s"]
    return dict(zip(steps, sets.candidates, strict=True))


def _window(shown: Candidates, browses: Sequence[Browse], browse: Browse) -> list[str]:
    """Docids shown in the window of a browse, each once: most recent search first, by rank."""
    earlier = [b.browse_step for b in browses if b.browse_step < browse.browse_step and was_useful(b)]
    opens_after = max(earlier, default=-1)
    window = [step for step in shown if opens_after < step < browse.browse_step or step == browse.search_step]
    return list(dict.fromkeys([docid for step in reversed(window) for docid in shown[step]]))


def _outcomes(browses: Sequence[Browse], negatives: Callable[[Browse], list[str]]) -> list[Outcome]:
    return [_refusal(b) or make_pair(b, b.query, b.search_reasoning, negatives(b)) for b in browses]


def _refusal(browse: Browse) -> Outcome | None:
    """Why a browse gives no pair by these protocols; None when it does."""
    if browse.judge_status == "failed":
        return judge_failed(browse)
    if was_useless(browse):
        return no_pair(browse, "judged irrelevant", "and its post-browse reasoning dismisses it")
    if browse.search_step == NOT_SHOWN:
        return no_pair(browse, "not shown", "which no earlier search of the trajectory had shown, so that it answers no query")
    if not browse.query.strip():
        return no_pair(browse, "no query", f"which search step {browse.search_step} had shown without recording a query")
    return None
