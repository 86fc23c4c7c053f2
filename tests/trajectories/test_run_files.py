"""Run files of every client that we know, and what is no run file at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrat_ray.schema import SearchResult, Step, Trajectory
from lrat_ray.trajectories.run_files import RunFileError, parse_run_file, parse_search_output


def parse(data: Any) -> Trajectory:
    return parse_run_file(data, "t", search_tools=("search",), browse_tools=("get_document", "visit"))


def step_of(entry: dict[str, Any], *before: dict[str, Any]) -> Step:
    return parse({"query_id": "1", "result": [*before, entry]}).steps[-1]


def call(tool: str, arguments: Any, output: Any = "") -> dict[str, Any]:
    return {"type": "tool_call", "tool_name": tool, "arguments": arguments, "output": output}


SHOWS_7 = call("search", {"query": "q"}, "DocID:7\n[T]\nT\ntext")


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ('{"query": "a"}', ["a"]),
        ({"query": "a"}, ["a"]),
        ({"query": ["a", "b"]}, ["a", "b"]),
        ({"user_query": "a"}, ["a"]),
        ({"query": [3]}, ["3"]),
    ],
)
def test_only_the_first_of_several_queries_was_executed(arguments: Any, queries: list[str]) -> None:
    step = step_of(call("search", arguments))
    assert (step.kind, step.queries, step.executed_query, step.error) == ("search", queries, queries[0], None)


@pytest.mark.parametrize("docid", ["7", 7, ["7"], [7, 8], "wiki:7", " 7 "])
@pytest.mark.parametrize("tool", ["get_document", "visit"])
def test_a_docid_is_found_however_it_is_written(tool: str, docid: Any) -> None:
    step = step_of(call(tool, json.dumps({"docid": docid}), "Document 7:\n{'docid': '7', 'text': 'T'}"), SHOWS_7)
    assert (step.kind, step.docid, step.output) == ("browse", "7", "Document 7:\n{'docid': '7', 'text': 'T'}")


def test_a_docid_with_a_colon_stays_whole_when_it_was_shown_like_that() -> None:
    shown = call("search", {"query": "q"}, [{"docid": "wiki:7", "score": 1.5, "snippet": "s"}])
    assert step_of(call("visit", {"docid": "wiki:7"}), shown).docid == "wiki:7"


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (call("visit", '{"docid": "7'), "the arguments are not JSON"),
        (call("visit", "[7]"), "the arguments are not an object but list"),
        (call("visit", {"url": "http://x"}), "the arguments hold no docid"),
        (call("visit", {"docid": {"id": 7}}), "the arguments hold no docid"),
        (call("search", None), "the arguments hold no query"),
        (call("search", {"query": []}), "the arguments hold no query"),
    ],
)
def test_a_call_that_the_agent_got_wrong_keeps_its_place_and_says_why(entry: dict[str, Any], error: str) -> None:
    step = step_of(entry)
    assert step.error is not None and step.error.startswith(error)
    assert (step.docid, step.executed_query) == (None, None)


def test_text_blocks_give_ranked_candidates_with_whole_titles() -> None:
    long_title = "List of twin towns and sister cities in the Czech Republic"
    output = (
        "A search for 'q' found 4 results:\n\n## Web Results\n"
        "DocID:11\n[Short]\nShort\nfirst line\n\nsecond paragraph\n\n"
        f"DocID: 12\n[{long_title[:50]}...]\n{long_title}\nbody\n\n"
        f"DocID:13\n[{long_title[:50]}...]\nList of twin\n\n"
        "DocID:14\nno title"
    )
    assert parse_search_output(output) == [
        SearchResult(docid="11", rank=1, title="Short", snippet="first line\n\nsecond paragraph"),
        SearchResult(docid="12", rank=2, title=long_title, snippet="body"),
        SearchResult(docid="13", rank=3, title=f"{long_title[:50]}...", snippet="List of twin"),
        SearchResult(docid="14", rank=4, title=None, snippet="no title"),
    ]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_list_of_results_may_come_as_json_or_as_its_text(as_text: bool) -> None:
    items = [{"docid": 5, "score": 2, "snippet": "s"}, {"docid": "6"}]
    assert parse_search_output(json.dumps(items) if as_text else items) == [
        SearchResult(docid="5", rank=1, score=2.0, snippet="s"),
        SearchResult(docid="6", rank=2),
    ]


@pytest.mark.parametrize("output", [None, "", "Error: timeout", "[Errno 5] broken", {"error": "timeout"}])
def test_a_failed_search_shows_no_candidates(output: Any) -> None:
    assert parse_search_output(output) == []


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("thought", "thought"),
        (["one", "two"], "one two"),
        ([{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}], "one two"),
        ([], ""),
        (None, ""),
    ],
)
def test_reasoning_is_text_or_a_list_of_texts(output: Any, text: str) -> None:
    step = step_of({"type": "reasoning", "output": output})
    assert (step.kind, step.text) == ("reasoning", text)


def test_a_tools_answer_starts_the_next_turn_and_other_tools_are_kept() -> None:
    thought = {"type": "reasoning", "output": "t"}
    answer = {"type": "output_text", "output": "42"}
    run = {"query_id": 9, "status": "timeout", "result": [thought, SHOWS_7, thought, call("python", {}), answer]}
    trajectory = parse(run)
    assert [(step.turn, step.kind) for step in trajectory.steps] == [
        (0, "reasoning"),
        (0, "search"),
        (1, "reasoning"),
        (1, "other"),
        (2, "answer"),
    ]
    assert (trajectory.query_id, trajectory.status, trajectory.final_answer) == ("9", "timeout", "42")
    assert (trajectory.agent, trajectory.question) == ("unknown", "")


@pytest.mark.parametrize(
    ("data", "position"),
    [
        ([], "top level"),
        ({"query_id": "1"}, "result"),
        ({"query_id": "1", "result": "x"}, "result"),
        ({"query_id": "1", "result": [3]}, "result[0]"),
        ({"query_id": "1", "result": [{"output": "x"}]}, "result[0].type"),
        ({"query_id": "1", "result": [call("search", {"query": "q"}, [{"score": 1}])]}, "result[0].output[0].docid"),
        ({"result": []}, "query_id"),
        ({"query_id": True, "result": []}, "query_id"),
        ({"query_id": "1", "query": ["q"], "result": []}, "query"),
    ],
)
def test_what_is_no_run_file_is_refused_with_the_place(data: Any, position: str) -> None:
    with pytest.raises(RunFileError) as error:
        parse(data)
    assert error.value.position == position


def test_real_run_files_hold_what_their_own_statistics_say(lrat_trajectories: Path) -> None:
    for path in sorted((lrat_trajectories / "trajectories").glob("*.json")):
        run = json.loads(path.read_text())
        trajectory = parse(run)
        calls: dict[str, int] = {}
        for step in trajectory.steps:
            if step.tool_name:
                calls[step.tool_name] = calls.get(step.tool_name, 0) + 1
        assert calls == run["tool_call_counts_all"]
        results = [result for step in trajectory.steps for result in step.results]
        assert {result.docid for result in results} == set(run["retrieved_docids"])
        assert not any((result.title or "...").endswith("...") for result in results)
        assert all(step.error is None for step in trajectory.steps)
