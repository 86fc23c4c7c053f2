"""Table 1 and Figures 4 and 6 of the paper from a tally: rows of numbers, no drawing and no judgement (LRAT section 2).

Rows name the agent and release_id that they are about; POOLED stands for all of them, "" for a release the log does not name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

from lrat_ray.mining.estimates import mean, quantile, wilson
from lrat_ray.mining.observations import AFTER, MOST, NEXT, OUTCOMES
from lrat_ray.mining.tally import Key, Tally

POOLED = "pooled"
LABELS = ("evidence", "other", "unannotated")
"""What a browsed document is: annotated as evidence, not so, or of a question without annotations."""

Group: TypeAlias = tuple[str, str]
Row: TypeAlias = dict[str, Any]

_ALL: Group = (POOLED, POOLED)


def analyse(tally: Tally) -> dict[str, Any]:
    """Every table and figure, by name; each a list of rows, empty where nothing of the kind was counted."""
    return {
        "table_1": table_1(tally),
        "transitions": transition_shares(tally),
        "success_by_evidence": success_by(tally, "evidence"),
        "success_by_browses": success_by(tally, "browses"),
        "browse_ranks": browse_ranks(tally),
        "evidence_ranks": evidence_ranks(tally),
        "shown_by": shown_by(tally),
        "unbrowsed": unbrowsed(tally),
        "reasoning_lengths": reasoning_lengths(tally),
        "judged_lengths": judged_lengths(tally),
    }


def table_1(tally: Tally) -> list[Row]:
    """Number of trajectories and mean steps by group and outcome (Table 1). Steps are searches and browses, failed ones too."""
    steps = _by_group(tally, "steps")
    rows = []
    for group, counts in _by_group(tally, "trajectories").items():
        for outcome in OUTCOMES:
            if number := counts[(outcome,)]:
                search, browse = (steps.get(group, Counter())[(outcome, kind)] / number for kind in AFTER)
                row = {"outcome": outcome, "trajectories": number}
                rows.append({**_named(group), **row, "avg_search": search, "avg_browse": browse, "avg_steps": search + browse})
    return rows


def transition_shares(tally: Tally) -> list[Row]:
    """What agents do next after a search and after a browse, by outcome (Figure 4): shares of `NEXT` that add up to 1."""
    rows = []
    for group, counts in _by_group(tally, "next").items():
        for outcome in OUTCOMES:
            for action in AFTER:
                found = {follower: counts[(outcome, action, follower)] for follower in NEXT}
                if number := sum(found.values()):
                    shares = {follower: count / number for follower, count in found.items()}
                    rows.append({**_named(group), "outcome": outcome, "after": action, "number": number, **shares})
    return rows


def success_by(tally: Tally, what: str) -> list[Row]:
    """Success rate against the number of browses, or of evidence documents opened, with Wilson intervals (Figure 4).

    what: "browses" or "evidence". Only trajectories of known outcome count; MOST and more make one row, marked `or_more`.
    """
    rows = []
    for group, counts in _by_group(tally, what).items():
        for number in range(MOST + 1):
            correct, incorrect = counts[(number, "correct")], counts[(number, "incorrect")]
            if known := correct + incorrect:
                rate = wilson(correct, known)
                row = {what: number, "or_more": number == MOST, "trajectories": known, "correct": correct}
                rows.append({**_named(group), **row, "success_rate": rate.mean, "ci95": [rate.lo, rate.hi]})
    return rows


def browse_ranks(tally: Tally) -> list[Row]:
    """How many browses fell on each rank, and how many would if all candidates were opened alike (Figure 4)."""
    rows = []
    for group, counts in _by_group(tally, "rank").items():
        sizes, ranks = _over(counts, 0), _over(counts, 1)
        total = counts.total()
        for rank in range(1, max(sizes) + 1):
            expected = sum(number / size for size, number in sizes.items() if rank <= size)
            row = {"rank": rank, "browses": ranks[rank], "share": ranks[rank] / total, "even_share": expected / total}
            rows.append({**_named(group), **row})
    return rows


def evidence_ranks(tally: Tally) -> list[Row]:
    """How often a search showed unopened evidence at each rank, and how often the agent then opened it."""
    rows = []
    for group, counts in _by_group(tally, "chance").items():
        opened: Counter[int] = Counter()
        shown: Counter[int] = Counter()
        for key, count in counts.items():
            _, rank, what = key
            shown[int(rank)] += count
            opened[int(rank)] += count if what == "opened" else 0
        for rank in sorted(shown):
            rate = wilson(opened[rank], shown[rank])
            row = {"rank": rank, "shown": shown[rank], "opened": opened[rank]}
            rows.append({**_named(group), **row, "open_rate": rate.mean, "ci95": [rate.lo, rate.hi]})
    return rows


def shown_by(tally: Tally) -> list[Row]:
    """How many browsed documents the latest search had shown, an earlier one, or none."""
    return [
        {**_named(group), "browses": counts.total(), **{what: counts[(what,)] for what in ("latest", "earlier", "none")}}
        for group, counts in _by_group(tally, "shown_by").items()
    ]


def unbrowsed(tally: Tally) -> list[Row]:
    """Unbrowsed candidates of searches with a browse: how many stand above the last browsed one, and how many below it."""
    return [
        {**_named(group), "above": counts[("above",)], "below": counts[("below",)]}
        for group, counts in _by_group(tally, "unbrowsed").items()
    ]


def reasoning_lengths(tally: Tally) -> list[Row]:
    """Post-browse reasoning length in tokens by outcome and LABELS: number, mean, quantiles (Figure 6)."""
    return [
        {**_named(group), "outcome": outcome, "document": label, **_lengths(lengths)}
        for group, counts in _by_group(tally, "length").items()
        for outcome in OUTCOMES
        for label in LABELS
        if (lengths := _under(counts, (outcome, label)))
    ]


def judged_lengths(tally: Tally) -> list[Row]:
    """Post-browse reasoning length in tokens by the judge's verdict."""
    pooled: dict[Key, Counter[Key]] = defaultdict(Counter)
    for (agent, label, tokens), count in tally.select("judged_length"):
        pooled[(POOLED, label)][(tokens,)] += count
        pooled[(agent, label)][(tokens,)] += count
    return [
        {"agent": agent, "judged": "relevant" if label == "useful" else "not relevant", **_lengths(_under(counts, ()))}
        for (agent, label), counts in pooled.items()
    ]


def _lengths(lengths: Mapping[int, int]) -> Row:
    places = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
    row = {"browses": sum(lengths.values()), "mean_tokens": mean(lengths)}
    return {**row, **{f"{name}_tokens": quantile(lengths, q) for name, q in places.items()}}


def _by_group(tally: Tally, name: str) -> dict[Group, Counter[Key]]:
    """Group -> counts of what follows the group in the keys called `name`; all groups together come first."""
    groups: dict[Group, Counter[Key]] = {_ALL: Counter()}
    for (agent, release, *rest), count in tally.select(name):
        for group in (_ALL, (str(agent), str(release))):
            groups.setdefault(group, Counter())[tuple(rest)] += count
    return groups if groups[_ALL] else {}


def _named(group: Group) -> Row:
    return {"agent": group[0], "release_id": group[1]}


def _over(counts: Mapping[Key, int], place: int) -> Counter[int]:
    """Counts by one place of their keys."""
    found: Counter[int] = Counter()
    for key, count in counts.items():
        found[int(key[place])] += count
    return found


def _under(counts: Mapping[Key, int], prefix: Key) -> dict[int, int]:
    """Value -> count of the keys that are `prefix` and a value."""
    return {int(key[-1]): count for key, count in counts.items() if key[:-1] == prefix}
