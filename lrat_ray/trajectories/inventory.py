"""What is in trajectories, counted, and what to change where the counts say that a log was misunderstood."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from lrat_ray.schema import Trajectory

_OTHER = "other_tool_calls."
_TOO_FEW = 0.5
_SEARCHES = re.compile(r"search|retriev|query|find|google|bing", re.IGNORECASE)
_BROWSES = re.compile(r"open|visit|fetch|brows|page|url|document|read|click|scrape|crawl|get", re.IGNORECASE)


def inventory(trajectory: Trajectory) -> Counter[str]:
    """Counts of one trajectory: searches, results, browses, `browses_shown`, and calls of tools that are neither, by name.

    A browse counts as shown when an earlier search of the trajectory had its document among the results: only such a browse
    becomes a training pair.
    """
    counts = Counter(trajectories=1, searches=0, results=0, browses=0, browses_shown=0)
    shown: set[str] = set()
    for step in trajectory.steps:
        if step.kind == "search":
            shown.update([result.docid for result in step.results])
            counts["searches"] += 1
            counts["results"] += len(step.results)
        elif step.kind == "browse":
            counts["browses"] += 1
            counts["browses_shown"] += step.docid in shown
        elif step.kind == "other":
            counts[f"{_OTHER}{step.tool_name}"] += 1
    return counts


def docids(trajectories: Iterable[Trajectory]) -> set[str]:
    """Every docid that was shown or opened."""
    found: set[str] = set()
    for trajectory in trajectories:
        for step in trajectory.steps:
            found.update([result.docid for result in step.results])
            if step.docid is not None:
                found.add(step.docid)
    return found


def other_tools(counts: Mapping[str, int]) -> dict[str, int]:
    """Tool -> calls, of the tools that neither search nor browse; the most called first."""
    tools = {name.removeprefix(_OTHER): number for name, number in counts.items() if name.startswith(_OTHER)}
    return dict(sorted(tools.items(), key=lambda item: (-item[1], item[0])))


def hints(counts: Mapping[str, int], docids: int = 0, docids_in_corpus: int = 0) -> list[str]:
    """What looks wrong, each with the flag that repairs it. docids: how many there are, where they were looked up."""
    others = other_tools(counts)
    seen = ", ".join(f"{name} ({number})" for name, number in others.items()) or "none"
    found: list[str] = []
    if not counts["searches"] or not counts["browses"]:
        missing = " and no ".join(kind for kind in ("search", "browse") if not counts[_plural(kind)])
        found.append(f"no {missing} was found. Other tools that were called: {seen}{_mapping(counts, others)}")
    if counts["searches"] and not counts["results"]:
        found.append(
            "the searches show no results. Say what their output calls them: --fields results=organic,docid=link,title=name"
        )
    elif counts["searches"] and counts["browses_shown"] < _TOO_FEW * counts["browses"]:
        found.append(
            "most opened documents were shown by no search, so they give no training pairs. Where searches and browses name a "
            "document differently, say which field identifies it (--fields docid=url) or map the names to docids (--aliases)"
        )
    if docids_in_corpus < _TOO_FEW * docids:
        found.append(
            "most docids are not in the corpus. Give the corpus that the agents searched, or map the docids (--aliases)"
        )
    return found


def _plural(kind: str) -> str:
    return "searches" if kind == "search" else "browses"


def _mapping(counts: Mapping[str, int], others: Iterable[str]) -> str:
    """The flag that maps tools by what their names say."""
    wanted: list[str] = []
    for name in others:
        if not counts["searches"] and _SEARCHES.search(name):
            wanted.append(f"search={name}")
        elif not counts["browses"] and _BROWSES.search(name):
            wanted.append(f"browse={name}")
    return f". Say which search and which open a document: --tools {','.join(wanted)}" if wanted else ""
