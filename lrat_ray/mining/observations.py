"""What the analysis counts of one trajectory: steps, transitions, browsed ranks, outcomes, reasoning lengths (LRAT section 2).

Everything is counted by group (agent, release_id), as in the paper's Table 1. What the verdicts stand on is counted over all
groups once more, with draws (tally.py), so that it has intervals. A browse belongs to the search to which `find_browses` gives
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from lrat_ray.mining.tally import Drawn, Tally
from lrat_ray.mining.transitions import NOT_SHOWN
from lrat_ray.schema import Browse, Step, Trajectory

Outcome = Literal["correct", "incorrect", "unknown"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "incorrect", "unknown")
"""Trajectory.correct; unknown where the log does not tell, because nothing is guessed."""

AFTER = ("search", "browse")
"""Actions whose next action is counted."""
NEXT = ("search", "browse", "answer", "other", "end")
"""What may come next; end: the run stops without an answer."""

MOST = 10
"""Runs with this many browses (or evidence documents) and with more are counted together."""

_BINS_PER_OCTAVE = 16


def outcome_of(trajectory: Trajectory) -> Outcome:
    """correct, incorrect, or unknown where the log does not tell."""
    return "unknown" if trajectory.correct is None else "correct" if trajectory.correct else "incorrect"


def group_of(trajectory: Trajectory) -> tuple[str, str]:
    """(agent, release_id), the latter empty where the log does not tell."""
    return trajectory.agent, trajectory.release_id or ""


def count_trajectory(tally: Tally, trajectory: Trajectory, browses: Sequence[Browse], evidence: Collection[str] | None) -> None:
    """Add a trajectory to a tally.

    browses: those that `find_browses` gives for it, with `reasoning_tokens`. evidence: docids annotated for its question, or
    None where there are no annotations (an empty collection counts as none).
    """
    evidence = frozenset(evidence or ()) or None
    drawn = tally.question(trajectory.query_id, "all", *(["annotated"] if evidence else []))
    group, outcome = group_of(trajectory), outcome_of(trajectory)
    tally.add("trajectories", *group, outcome)
    for step in trajectory.steps:
        if step.kind in AFTER:
            tally.add("steps", *group, outcome, step.kind)
    for action, follower in transitions(trajectory.steps):
        tally.add("next", *group, outcome, action, follower)
    _count_opened(tally, drawn, group, outcome, browses, evidence)
    _count_places(tally, drawn, group, trajectory.steps, browses)
    if evidence is not None:
        _count_chances(tally, drawn, group, trajectory.steps, browses, evidence)
    for browse in browses:
        _count_reasoning(tally, drawn, group, outcome, browse, evidence)


def transitions(steps: Iterable[Step]) -> list[tuple[str, str]]:
    """(action, next action) of every search and browse, in order; reasoning is no action. See AFTER and NEXT.

    >>> transitions([Step(turn=0, kind="search"), Step(turn=0, kind="reasoning"), Step(turn=1, kind="answer")])
    [('search', 'answer')]
    """
    actions = [step.kind for step in steps if step.kind != "reasoning"]
    return [pair for pair in zip(actions, [*actions[1:], "end"], strict=True) if pair[0] in AFTER]


def length_bin(tokens: int) -> int:
    """The bin of a reasoning length: exact below 16, then 16 to an octave, so that a length is known to some 6%.

    >>> [length_bin(tokens) for tokens in (0, 15, 16, 31, 32, 33, 34, 64)]
    [0, 15, 16, 31, 32, 32, 33, 48]
    """
    shift = max(0, tokens.bit_length() - _BINS_PER_OCTAVE.bit_length())
    return (tokens >> shift) + _BINS_PER_OCTAVE * shift


def count_judged(tally: Tally, browses: Iterable[Browse]) -> None:
    """Add the reasoning lengths of judged browses to a tally, by the judge's verdict; other browses are counted by status."""
    for browse in browses:
        tally.add("judged", browse.judge_status)
        if browse.judge_status == "judged" and _has_reasoning(browse):
            label = "useful" if browse.relevant else "useless"
            tally.add("judged_length", browse.agent, label, browse.reasoning_tokens)
            drawn = tally.question(browse.query_id)
            tally.add_drawn(drawn, "drawn_judged_length", label, length_bin(browse.reasoning_tokens))


def _count_opened(
    tally: Tally,
    drawn: Drawn,
    group: tuple[str, str],
    outcome: Outcome,
    browses: Sequence[Browse],
    evidence: frozenset[str] | None,
) -> None:
    """How many documents, and how many evidence documents, a run opened: against its outcome."""
    tally.add("browses", *group, min(len(browses), MOST), outcome)
    _count_outcome(tally, drawn, "drawn_browses", "some" if browses else "none", outcome)
    if evidence is not None:
        opened = len(evidence & {browse.docid for browse in browses})
        tally.add("evidence", *group, min(opened, MOST), outcome)
        _count_outcome(tally, drawn, "drawn_evidence", "some" if opened else "none", outcome)


def _count_outcome(tally: Tally, drawn: Drawn, name: str, opened: str, outcome: Outcome) -> None:
    """Count a run, with draws where its outcome is known: no interval rests on the others."""
    if outcome == "unknown":
        tally.add(name, opened, outcome)
    else:
        tally.add_drawn(drawn, name, opened, outcome)


def _count_places(tally: Tally, drawn: Drawn, group: tuple[str, str], steps: Sequence[Step], browses: Sequence[Browse]) -> None:
    """At which rank of how many each browsed document stood, how old the search was, and what stood above and below."""
    ranks: dict[int, list[int]] = defaultdict(list)  # search step -> ranks that were browsed
    for browse in browses:
        tally.add_drawn(drawn, "drawn_shown_by", _shown_by(steps, browse))
        tally.add("shown_by", *group, _shown_by(steps, browse))
        if browse.search_step != NOT_SHOWN:
            candidates = _num_candidates(steps[browse.search_step])
            tally.add("rank", *group, candidates, browse.rank)
            if candidates > 1:  # of one there is no choice
                tally.add_drawn(drawn, "drawn_rank", candidates, browse.rank)
            ranks[browse.search_step].append(browse.rank)
    for search_step, browsed in ranks.items():
        for result in steps[search_step].results:
            if result.rank not in browsed:
                tally.add("unbrowsed", *group, "above" if result.rank < max(browsed) else "below")


def _shown_by(steps: Sequence[Step], browse: Browse) -> str:
    """Which search showed a browsed document: the latest one, an earlier one, or none. Searches of one turn are one."""
    if browse.search_step == NOT_SHOWN:
        return "none"
    latest = next(step for step in reversed(steps[: browse.browse_step]) if step.kind == "search")
    return "latest" if steps[browse.search_step].turn == latest.turn else "earlier"


def _num_candidates(search: Step) -> int:
    return max(result.rank for result in search.results)


def _count_chances(
    tally: Tally,
    drawn: Drawn,
    group: tuple[str, str],
    steps: Sequence[Step],
    browses: Sequence[Browse],
    evidence: frozenset[str],
) -> None:
    """Each time that a search showed an evidence document not opened yet: at which rank, and whether the agent opened it.

    Among evidence, a lower rank does not mean a worse document, so that what is left is the rank's own effect.
    """
    opened_at = {(browse.search_step, browse.docid) for browse in browses}
    first_opened: dict[str, int] = {}
    for browse in browses:
        first_opened.setdefault(browse.docid, browse.browse_step)
    for number, step in enumerate(steps):
        if step.kind != "search":
            continue
        for result in step.results:
            if result.docid in evidence and first_opened.get(result.docid, number) >= number:
                candidates = _num_candidates(step)
                opened = "opened" if (number, result.docid) in opened_at else "left"
                tally.add("chance", *group, candidates, result.rank, opened)
                if (half := _half(result.rank, candidates)) is not None:
                    tally.add_drawn(drawn, "drawn_chance", half, opened)


def _half(rank: int, candidates: int) -> str | None:
    """The half of a candidate set in which a rank lies; None for the middle of an odd number."""
    twice = 2 * rank - 1 - candidates
    return None if twice == 0 else "upper" if twice < 0 else "lower"


def _count_reasoning(
    tally: Tally,
    drawn: Drawn,
    group: tuple[str, str],
    outcome: Outcome,
    browse: Browse,
    evidence: frozenset[str] | None,
) -> None:
    """The length of a post-browse reasoning; a browse that none follows has no length rather than 0."""
    if not _has_reasoning(browse):
        tally.add("no_reasoning", *group)
        return
    label = "unannotated" if evidence is None else "evidence" if browse.docid in evidence else "other"
    tally.add("length", *group, outcome, label, browse.reasoning_tokens)
    if label != "unannotated":
        useful = "useful" if label == "evidence" else "useless"
        tally.add_drawn(drawn, "drawn_evidence_length", useful, length_bin(browse.reasoning_tokens))


def _has_reasoning(browse: Browse) -> bool:
    return bool(browse.reasoning.strip()) or browse.reasoning_tokens > 0
