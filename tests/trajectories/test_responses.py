"""Items of the Responses API as steps, the API's own tools among them."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import responses
from lrat_ray.trajectories.dialect import Dialect, LogError


def parse(*items: Any, **record: Any) -> Trajectory:
    return responses.parse({"output": list(items), **record}, "t", Dialect())


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


def function_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]}, "one\ntwo"),
        ({"summary": [], "content": [{"type": "reasoning_text", "text": "whole"}]}, "whole"),
        (
            {"summary": [{"type": "summary_text", "text": "s"}], "content": [{"type": "reasoning_text", "text": "whole"}]},
            "whole",
        ),
        ({"summary": [], "encrypted_content": "gAAA"}, ""),
        ({"summary": None}, ""),
    ],
)
def test_reasoning_is_whole_a_summary_or_hidden(item: dict[str, Any], text: str) -> None:
    (step,) = parse({"type": "reasoning", **item}).steps
    assert (step.kind, step.text, step.tokens) == ("reasoning", text, None)


def test_parallel_calls_share_a_turn_and_an_announcement_is_reasoning() -> None:
    trajectory = parse(
        message("I look."),
        function_call("a", "search", '{"query": "q"}'),
        function_call("b", "visit", '{"docid": "7"}'),
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "seven"}]},
        {"type": "function_call_output", "call_id": "a", "output": "DocID:8"},
        message("x"),
    )
    assert told(trajectory) == [
        (0, "reasoning", "I look."),
        (0, "search", "q"),
        (0, "browse", "7"),
        (1, "answer", "x"),
    ]
    assert [result.docid for result in trajectory.steps[1].results] == ["8"]
    assert trajectory.steps[2].output == "seven"


def test_web_search_searches_or_opens_a_page() -> None:
    search = {"type": "search", "query": "q", "sources": [{"type": "url", "url": "http://a"}]}
    trajectory = parse(
        {"type": "web_search_call", "id": "w1", "action": search},
        {"type": "web_search_call", "id": "w2", "action": {"type": "search", "queries": ["q1", "q2"]}},
        {"type": "web_search_call", "id": "w3", "action": {"type": "open_page", "url": "http://a"}},
        {"type": "web_search_call", "id": "w4", "action": {"type": "find_in_page", "url": "http://a", "pattern": "p"}},
        {"type": "web_search_call", "id": "w5"},
    )
    assert told(trajectory) == [
        (0, "search", "q"),
        (1, "search", "q1"),
        (2, "browse", "http://a"),
        (3, "other", None),
        (4, "search", None),
    ]
    assert [r.docid for r in trajectory.steps[0].results] == ["http://a"]
    hint = "the log lists no results: request them with include=['web_search_call.action.sources']"
    assert [step.error for step in trajectory.steps] == [None, hint, None, None, hint]


def test_file_search_is_a_search_whose_docids_are_files() -> None:
    results = [{"file_id": "f1", "filename": "a.txt", "score": 0.5, "text": "t"}, {"file_id": "f2", "filename": "b.txt"}]
    found, hidden = parse(
        {"type": "file_search_call", "id": "a", "queries": ["q1", "q2"], "results": results},
        {"type": "file_search_call", "id": "b", "queries": ["q1"], "results": None},
    ).steps
    assert (found.queries, [(r.docid, r.title, r.snippet, r.score) for r in found.results]) == (
        ["q1", "q2"],
        [("f1", "a.txt", "t", 0.5), ("f2", "b.txt", None, None)],
    )
    assert hidden.error == "the log lists no results: request them with include=['file_search_call.results']"


def test_tools_of_a_server_have_their_output_or_their_error_beside_the_call() -> None:
    call = {"type": "mcp_call", "id": "m", "server_label": "lrat", "name": "search", "arguments": '{"query": "q"}'}
    good, bad = parse({**call, "output": '{"results": [{"id": "1"}]}'}, {**call, "error": "timeout"}).steps
    assert ([r.docid for r in good.results], good.error, good.call_id) == (["1"], None, "m")
    assert (bad.results, bad.error) == ([], "timeout")


def test_other_calls_keep_their_place() -> None:
    steps = parse(
        {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "select 1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
        {"type": "code_interpreter_call", "id": "i", "code": "1"},
        {"type": "mcp_list_tools", "server_label": "lrat"},
        message("x"),
    ).steps
    assert [(s.kind, s.tool_name, s.output) for s in steps] == [
        ("other", "sql", "1"),
        ("other", "code_interpreter_call", ""),
        ("answer", None, None),
    ]


def test_input_comes_before_output_and_holds_the_question() -> None:
    history = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "who?"},
        function_call("a", "visit", '{"docid": 7}'),
    ]
    answered = {"type": "function_call_output", "call_id": "a", "output": "seven"}
    trajectory = parse(answered, message("x"), input=history, status="completed")
    assert (told(trajectory), trajectory.question) == ([(0, "browse", "7"), (1, "answer", "x")], "who?")
    assert parse(message("x"), input="which?").question == "which?"


@pytest.mark.parametrize(
    ("items", "position"),
    [
        ([3], "output[0]"),
        ([], "output"),
        ([{"role": "user", "content": "q"}], "output"),
        ([{"type": "web_search_call", "action": 3}], "output[0].action"),
        ([{"type": "file_search_call", "queries": ["q"], "results": [{"x": 1}]}], "output[0].results[0].docid"),
    ],
)
def test_what_is_no_response_is_refused_with_the_place(items: list[Any], position: str) -> None:
    with pytest.raises(LogError) as error:
        parse(*items)
    assert error.value.position == position
