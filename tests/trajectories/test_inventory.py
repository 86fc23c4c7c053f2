"""Counts that were made by hand, and the hint that each wrong one gives."""

from __future__ import annotations

from collections import Counter

import pytest

from lrat_ray.schema import SearchResult, Step, Trajectory
from lrat_ray.trajectories.inventory import docids, hints, inventory, other_tools

STEPS = [
    Step(turn=0, kind="browse", docid="1"),  # before any search
    Step(turn=1, kind="search", results=[SearchResult(docid="1", rank=1), SearchResult(docid="2", rank=2)]),
    Step(turn=2, kind="browse", docid="2"),
    Step(turn=3, kind="browse", docid="3"),
    Step(turn=4, kind="other", tool_name="python"),
    Step(turn=5, kind="search"),
    Step(turn=6, kind="browse", docid="1"),
    Step(turn=7, kind="answer", text="!"),
]
TRAJECTORY = Trajectory(trajectory_id="t", query_id="q", question="?", agent="a", status="completed", steps=STEPS)


def counts(**changes: int) -> Counter[str]:
    return Counter({"trajectories": 1, "searches": 2, "results": 2, "browses": 4, "browses_shown": 2} | changes)


def test_what_is_in_a_trajectory() -> None:
    assert inventory(TRAJECTORY) == counts(**{"other_tool_calls.python": 1})
    assert docids([TRAJECTORY]) == {"1", "2", "3"}


def test_other_tools_come_by_their_number() -> None:
    assert list(
        other_tools({"searches": 9, "other_tool_calls.b": 2, "other_tool_calls.a": 2, "other_tool_calls.c": 3})
    ) == list("cab")


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        (
            counts(searches=0, results=0, browses_shown=0, **{"other_tool_calls.web_search": 7, "other_tool_calls.python": 2}),
            "no search was found. Other tools that were called: web_search (7), python (2). Say which search and which open a "
            "document: --tools search=web_search",
        ),
        (
            counts(
                searches=0,
                results=0,
                browses=0,
                browses_shown=0,
                **{"other_tool_calls.s_query": 1, "other_tool_calls.open_url": 1},
            ),
            "no search and no browse was found. Other tools that were called: open_url (1), s_query (1). Say which search and "
            "which open a document: --tools browse=open_url,search=s_query",
        ),
        (counts(browses=0, browses_shown=0), "no browse was found. Other tools that were called: none"),
        (counts(results=0, browses_shown=0), "--fields results="),
        (counts(browses_shown=1), "--aliases"),
    ],
)
def test_what_looks_wrong_names_its_flag(found: Counter[str], hint: str) -> None:
    (said,) = hints(found)
    assert hint in said


def test_what_looks_right_gives_no_hint() -> None:
    assert hints(counts(), 4, 2) == []
    assert "not in the corpus" in hints(counts(), 4, 1)[0]
