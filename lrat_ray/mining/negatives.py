"""Protocol `window`: a useful browse is the positive of the query that showed it; what the agent passed over are negatives."""

from __future__ import annotations

from collections.abc import Sequence

from lrat_ray.mining.judge import was_useful, was_useless
from lrat_ray.mining.pairs import Outcome, judge_failed, make_pair, no_pair
from lrat_ray.mining.transitions import NOT_SHOWN
from lrat_ray.schema import Browse, Trajectory


def window_pairs(trajectory: Trajectory, browses: Sequence[Browse], *, strict: bool) -> list[Outcome]:
    """One outcome per browse: a pair for each useful one (see `window_negatives`), a reason for each other."""
    return [_outcome(trajectory, browses, browse, strict) for browse in browses]


def window_negatives(trajectory: Trajectory, browses: Sequence[Browse], browse: Browse, *, strict: bool) -> list[str]:
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
    candidates = _candidates(trajectory, browses, browse)
    return [d for d in candidates if d not in opened] + [d for d in candidates if d in useless]


def _candidates(trajectory: Trajectory, browses: Sequence[Browse], browse: Browse) -> list[str]:
    """Docids shown in the window of a browse, each once: most recent search first, by rank."""
    earlier = [b.browse_step for b in browses if was_useful(b) and b.browse_step < browse.browse_step]
    opens_after = max(earlier, default=-1)
    window = sorted({browse.search_step, *range(opens_after + 1, browse.browse_step)}, reverse=True)
    shown = [result.docid for number in window for result in trajectory.steps[number].results]
    return list(dict.fromkeys(shown))


def _outcome(trajectory: Trajectory, browses: Sequence[Browse], browse: Browse, strict: bool) -> Outcome:
    if browse.judge_status == "failed":
        return judge_failed(browse)
    if was_useless(browse):
        return no_pair(browse, "judged irrelevant", "and its post-browse reasoning dismisses it")
    if browse.search_step == NOT_SHOWN:
        return no_pair(browse, "not shown", "which no earlier search of the trajectory had shown, so that it answers no query")
    if not browse.query.strip():
        return no_pair(browse, "no query", f"which search step {browse.search_step} had shown without recording a query")
    negatives = window_negatives(trajectory, browses, browse, strict=strict)
    return make_pair(browse, browse.query, browse.search_reasoning, negatives)
