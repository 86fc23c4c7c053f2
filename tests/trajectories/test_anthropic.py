"""Anthropic messages as steps: blocks in their order, and tools that run within one message."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import anthropic
from lrat_ray.trajectories.dialect import Dialect, LogError


def parse(*messages: tuple[str, Any]) -> Trajectory:
    record = {"messages": [{"role": role, "content": content} for role, content in messages]}
    return anthropic.parse(record, "t", Dialect())


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


def use(tool_id: str, name: str, arguments: Any, block_type: str = "tool_use") -> dict[str, Any]:
    return {"type": block_type, "id": tool_id, "name": name, "input": arguments}


def result(tool_id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_id, "content": content, **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_blocks_become_steps_in_their_order() -> None:
    trajectory = parse(
        ("user", [text("who?")]),
        (
            "assistant",
            [
                {"type": "thinking", "thinking": "r", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                text("I look."),
                use("a", "search", {"query": "q"}),
                use("b", "visit", {"docid": 7}),
            ],
        ),
        ("user", [result("b", "seven"), result("a", [text("DocID:8\n[T]\nx")])]),
        ("assistant", "x"),
    )
    assert told(trajectory) == [
        (0, "reasoning", "r"),
        (0, "reasoning", ""),
        (0, "reasoning", "I look."),
        (0, "search", "q"),
        (0, "browse", "7"),
        (1, "answer", "x"),
    ]
    assert ([r.docid for r in trajectory.steps[3].results], trajectory.steps[4].output) == (["8"], "seven")
    assert trajectory.question == "who?"


@pytest.mark.parametrize(
    "content",
    [
        '[{"docid": "1"}]',
        [text('{"results": [{"docid": "1"}]}')],
        [text("Found:"), {"type": "search_result", "source": "1", "title": "T", "content": [text("s")]}],
        [{"type": "image", "source": {"type": "base64"}}, text("DocID:1")],
    ],
)
def test_results_come_as_text_or_as_blocks(content: Any) -> None:
    step = parse(("assistant", [use("a", "search", {"query": "q"})]), ("user", [result("a", content)])).steps[0]
    assert [r.docid for r in step.results] == ["1"]


def test_a_search_result_block_has_title_and_snippet() -> None:
    blocks = [{"type": "search_result", "source": "1", "title": "T", "content": [text("one"), text("two")]}]
    step = parse(("assistant", [use("a", "search", {"query": "q"})]), ("user", [result("a", blocks)])).steps[0]
    assert [(r.docid, r.title, r.snippet) for r in step.results] == [("1", "T", "one two")]


def test_a_tool_that_failed_says_so() -> None:
    steps = parse(
        ("assistant", [use("a", "search", {"query": "q"}), use("b", "visit", {"docid": 7}), use("c", "visit", {"docid": 8})]),
        ("user", [result("a", '[{"code": 1}]', is_error=True), result("b", None, is_error=True)]),
    ).steps
    assert [s.error for s in steps] == ['[{"code": 1}]', "the tool failed", "the log holds no result of this call"]


def test_the_tools_of_a_server_run_within_one_message() -> None:
    found = [{"type": "web_search_result", "url": "http://a", "title": "A", "encrypted_content": "x"}]
    trajectory = parse(
        ("user", "who?"),
        (
            "assistant",
            [
                text("I look."),
                use("a", "web_search", {"query": "q"}, "server_tool_use"),
                {"type": "web_search_tool_result", "tool_use_id": "a", "content": found},
                use("b", "web_fetch", {"url": "http://a"}, "server_tool_use"),
                {
                    "type": "web_fetch_tool_result",
                    "tool_use_id": "b",
                    "content": {"type": "web_fetch_result", "url": "http://a"},
                },
                {"type": "thinking", "thinking": "r"},
                use("c", "search", {"query": "p"}, "mcp_tool_use"),
                {"type": "mcp_tool_result", "tool_use_id": "c", "is_error": False, "content": [text("DocID:9")]},
                text("The answer "),
                text("is x."),
            ],
        ),
    )
    assert told(trajectory) == [
        (0, "reasoning", "I look."),
        (0, "search", "q"),
        (1, "browse", "http://a"),
        (2, "reasoning", "r"),
        (2, "search", "p"),
        (3, "answer", "The answer is x."),
    ]
    assert [[r.docid for r in s.results] for s in trajectory.steps if s.kind == "search"] == [["http://a"], ["9"]]


def test_a_server_tools_error_is_no_result() -> None:
    content = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    (step,) = parse(
        (
            "assistant",
            [
                use("a", "web_search", {"query": "q"}, "server_tool_use"),
                {"type": "web_search_tool_result", "tool_use_id": "a", "content": content},
            ],
        )
    ).steps
    assert step.error is not None and "max_uses_exceeded" in step.error


@pytest.mark.parametrize(
    ("messages", "position"),
    [
        ([("assistant", 3)], "messages[0].content"),
        ([("assistant", [3])], "messages[0].content[0]"),
        ([("user", "q")], "messages"),
        (
            [("assistant", [use("a", "search", {})]), ("user", [result("a", '[{"x": 1}]')])],
            "messages[1].content[0].content[0].docid",
        ),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_place(messages: list[Any], position: str) -> None:
    with pytest.raises(LogError) as error:
        parse(*messages)
    assert error.value.position == position
