"""Our own event log as steps, one record per trajectory or one event per line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lrat_ray.schema import SearchResult, Trajectory
from lrat_ray.trajectories import events, formats
from lrat_ray.trajectories.dialect import Dialect, LogError


def parse(*found: Any, **record: Any) -> Trajectory:
    return events.parse({"events": list(found), **record}, "t", Dialect())


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


SEARCH = {"type": "search", "query": "q", "results": ["1"]}
BROWSE = {"type": "browse", "docid": "1"}


def test_a_run_is_told_by_its_events() -> None:
    results = ["1", 2, {"docid": "3", "title": "T", "snippet": "s", "score": 0.5}]
    trajectory = parse(
        {"type": "question", "text": "who?", "query_id": 7, "agent": "V", "seed": 2},
        {"type": "reasoning", "text": "r"},
        {"type": "search", "query": ["q", "p"], "results": results, "latency_s": 0.25, "call_id": "a", "release_id": "e5"},
        {"type": "browse", "docid": 3, "output": "text"},
        {"type": "reasoning", "tokens": 40},
        {"type": "tool", "tool_name": "python", "arguments": {"code": "1"}, "output": "1"},
        {"type": "answer", "text": "x", "correct": True},
    )
    assert told(trajectory) == [
        (0, "reasoning", "r"),
        (0, "search", "q"),
        (1, "browse", "3"),
        (2, "reasoning", None),
        (2, "other", None),
        (3, "answer", "x"),
    ]
    search, browse, thought, tool = trajectory.steps[1:5]
    assert (search.queries, search.latency_s, search.call_id, search.tool_name) == (["q", "p"], 0.25, "a", "search")
    assert search.results == [
        SearchResult(docid="1", rank=1),
        SearchResult(docid="2", rank=2),
        SearchResult(docid="3", rank=3, score=0.5, title="T", snippet="s"),
    ]
    assert (browse.output, browse.tool_name, thought.tokens, tool.tool_name) == ("text", "get_document", 40, "python")
    assert (trajectory.query_id, trajectory.question, trajectory.agent, trajectory.seed) == ("7", "who?", "V", 2)
    assert (trajectory.release_id, trajectory.correct, trajectory.status) == ("e5", True, "completed")


def test_turns_are_numbered_by_the_log_or_end_with_a_call() -> None:
    marked = [{**event, "turn": turn} for event, turn in ((SEARCH, 0), (BROWSE, 0), (BROWSE, 3))]
    assert [step.turn for step in parse(*marked, {"type": "answer", "text": "x"}).steps] == [0, 0, 3, 4]
    assert [step.turn for step in parse(SEARCH, BROWSE, BROWSE).steps] == [0, 1, 2]
    assert [step.turn for step in parse({**SEARCH, "turn": -1}, {**SEARCH, "turn": 2**63 - 1}).steps] == [0, 1]


def test_a_call_that_failed_says_why() -> None:
    steps = parse({"type": "search", "query": "q", "error": "timeout"}, {**BROWSE, "error": "not found"}).steps
    assert [(s.results, s.docid, s.error) for s in steps] == [([], None, "timeout"), ([], "1", "not found")]


def test_any_event_may_speak_of_the_run_and_the_last_one_counts() -> None:
    trajectory = parse(
        {**SEARCH, "question": "who?", "query_id": "7", "status": "running"},
        {"type": "end", "status": "max_steps", "correct": False},
        agent="V",
    )
    assert (trajectory.question, trajectory.query_id, trajectory.agent) == ("who?", "7", "V")
    assert (trajectory.status, trajectory.correct, trajectory.final_answer) == ("max_steps", False, None)
    assert parse({"type": "question", "question": "who?"}).question == "who?"


def test_aliases_and_named_tools_hold_here_too() -> None:
    dialect = Dialect(aliases={"http://a": "1"}, search_tools=frozenset({"find"}))
    record = {"events": [{**SEARCH, "results": ["http://a"]}, {**BROWSE, "docid": "http://a"}]}
    search, browse = events.parse(record, "t", dialect).steps
    assert (search.kind, [r.docid for r in search.results], browse.docid) == ("search", ["1"], "1")


@pytest.mark.parametrize(
    ("event", "position", "problem"),
    [
        (3, "events[0]", "expected an object"),
        ({}, "events[0].type", "expected one of question, reasoning, search, browse, tool, answer, end; found ''"),
        ({"type": "serach"}, "events[0].type", "found 'serach'"),
        ({"type": "question"}, "events[0].text", "expected a string, found nothing"),
        ({"type": "reasoning"}, "events[0].text", "a reasoning event needs text, or tokens"),
        ({"type": "reasoning", "tokens": "40"}, "events[0].text", "a reasoning event needs text, or tokens"),
        ({"type": "search", "results": []}, "events[0].query", "a search event needs query"),
        ({"type": "search", "query": "q"}, "events[0].results", "expected a list, found nothing"),
        ({"type": "search", "query": "q", "results": [{"x": 1}]}, "events[0].results[0].docid", "the result has no docid"),
        ({"type": "search", "query": "q", "results": [None]}, "events[0].results[0].docid", "the result has no docid"),
        ({"type": "browse"}, "events[0].docid", "a browse event needs docid"),
        ({"type": "browse", "docid": [1]}, "events[0].docid", "expected a string or a number"),
        ({"type": "answer"}, "events[0].text", "expected a string, found nothing"),
    ],
)
def test_an_event_without_what_its_type_needs_is_refused(event: Any, position: str, problem: str) -> None:
    with pytest.raises(LogError) as error:
        parse(event)
    assert error.value.position == position
    assert problem in error.value.problem


def test_the_lines_of_several_trajectories_may_mix() -> None:
    rows = [
        ("line 1", {"trajectory_id": "b", **SEARCH}),
        ("line 2", {"trajectory_id": 5, **SEARCH}),
        ("line 3", {"type": "search"}),
        ("line 4", ["search"]),
        ("line 5", {"trajectory_id": "b", **BROWSE}),
    ]
    problems = "keys: type", "list"
    groups = list(formats.group("events", rows))
    assert [key for key, _ in groups] == ["line 3", "line 4", "b", "5"]
    for (key, error), found in zip(groups, problems, strict=False):
        assert isinstance(error, LogError)
        assert (error.position, error.problem) == (key, f"expected an event with a trajectory_id, found {found}")
    records = [record for _, record in groups[2:] if isinstance(record, dict)]
    assert [[step.kind for step in formats.parse(r, "t", "events", Dialect()).steps] for r in records] == [
        ["search", "browse"],
        ["search"],
    ]
    assert records[0]["trajectory_id"] == "b"


def test_events_may_be_json_text_as_in_a_column() -> None:
    assert told(parse(SEARCH)) == told(events.parse({"events": json.dumps([SEARCH])}, "t", Dialect()))
    assert events.matches({"events": json.dumps([SEARCH])})
    assert not any(map(events.matches, [{}, {"events": []}, {"events": 3}, {"events": [{"type": "reasoning"}]}]))
