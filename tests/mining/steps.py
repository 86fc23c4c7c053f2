"""Small trajectories for the tests of this folder, one line per step."""

from __future__ import annotations

from dataclasses import replace

from lrat_ray.mining.judge import Verdict, with_verdict
from lrat_ray.mining.transitions import candidate_sets, find_browses
from lrat_ray.schema import Browse, CandidateSets, SearchResult, Step, Trajectory


def think(text: str) -> Step:
    return Step(turn=0, kind="reasoning", text=text)


def search(query: str | None, *docids: str) -> Step:
    results = [SearchResult(docid=docid, rank=rank) for rank, docid in enumerate(docids, start=1)]
    return Step(turn=0, kind="search", executed_query=query, results=results)


def browse(docid: str | None) -> Step:
    return Step(turn=0, kind="browse", docid=docid)


def trajectory(*steps: Step) -> Trajectory:
    """A trajectory in which every call is an LLM turn of its own."""
    turn = 0
    numbered = []
    for step in steps:
        numbered.append(replace(step, turn=turn))
        turn += step.kind != "reasoning"
    return Trajectory(trajectory_id="t", query_id="q", question="who?", agent="a", status="completed", steps=numbered)


def judged(of: Trajectory, *verdicts: Verdict | None) -> list[Browse]:
    """The browses of a trajectory with their verdicts, in order."""
    browses, _ = find_browses(of, "test")
    return [with_verdict(row, verdict) for row, verdict in zip(browses, verdicts, strict=True)]


def sets(of: Trajectory) -> CandidateSets:
    """What its searches showed."""
    return candidate_sets(of, len(find_browses(of, "test")[0]))
