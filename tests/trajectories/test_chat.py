"""OpenAI chat messages as steps: reasoning wherever providers put it, parallel calls, results in any order."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import chat
from lrat_ray.trajectories.dialect import Dialect, LogError


def parse(*messages: Any, **record: Any) -> Trajectory:
    return chat.parse({"messages": list(messages), **record}, "t", Dialect())


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


def tool_call(call_id: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(call_id: str | None, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "reasoning_content": "r"},
        {"content": "a", "reasoning": "r"},
        {"content": "a", "thinking": "r"},
        {"content": "a", "reasoning_content": "r", "reasoning": "again"},
        {"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "r"}, {"type": "reasoning.encrypted"}]},
        {"content": "<think>\nr\n</think>\n\na"},
        {"content": "r</think>a"},
        {"content": [{"type": "text", "text": "<think>r</think>"}, {"type": "text", "text": "a"}]},
    ],
)
def test_reasoning_is_found_wherever_providers_put_it(message: dict[str, Any]) -> None:
    assert told(parse({"role": "assistant", **message})) == [(0, "reasoning", "r"), (0, "answer", "a")]


@pytest.mark.parametrize("message", [{"content": "a"}, {"content": "a", "reasoning": None}, {"content": "a", "reasoning": ""}])
def test_no_reasoning_gives_no_step(message: dict[str, Any]) -> None:
    assert told(parse({"role": "assistant", **message})) == [(0, "answer", "a")]


def test_thought_that_was_cut_off_is_reasoning() -> None:
    trajectory = parse({"role": "assistant", "content": "<think>r"})
    assert (told(trajectory), trajectory.final_answer, trajectory.status) == ([(0, "reasoning", "r")], None, "unknown")


def test_parallel_calls_keep_their_order_and_find_their_results() -> None:
    trajectory = parse(
        {"role": "user", "content": "who?"},
        assistant(tool_call("a", "search", '{"query": "q"}'), tool_call("b", "visit", '{"docid": 7}'), content="I look."),
        result("b", "seven"),
        result("a", "DocID:8"),
        assistant(tool_call("c", "visit", '{"docid": 8}')),
        result("c", "eight"),
        {"role": "assistant", "content": "x"},
    )
    assert told(trajectory) == [
        (0, "reasoning", "I look."),
        (0, "search", "q"),
        (0, "browse", "7"),
        (1, "browse", "8"),
        (2, "answer", "x"),
    ]
    assert [step.output for step in trajectory.steps] == [None, "DocID:8", "seven", "eight", None]
    assert [step.call_id for step in trajectory.steps] == [None, "a", "b", "c", None]
    assert (trajectory.question, trajectory.final_answer, trajectory.status) == ("who?", "x", "completed")


def test_ids_that_repeat_belong_to_the_latest_call() -> None:
    calls = [
        message
        for docid in ("7", "8")
        for message in (assistant(tool_call("call_0", "visit", f'{{"docid": {docid}}}')), result("call_0", f"text {docid}"))
    ]
    assert [(s.docid, s.output, s.error) for s in parse(*calls).steps] == [("7", "text 7", None), ("8", "text 8", None)]


def test_results_without_ids_belong_to_the_oldest_open_call() -> None:
    calls = assistant(tool_call(None, "visit", '{"docid": 7}'), tool_call("", "visit", '{"docid": 8}'))
    steps = parse(calls, result(None, "text 7"), {"role": "tool", "content": "text 8"}).steps
    assert [(s.docid, s.output, s.error) for s in steps] == [("7", "text 7", None), ("8", "text 8", None)]


def test_a_call_without_a_result_and_a_result_without_a_call_are_kept() -> None:
    steps = parse(assistant(tool_call("a", "visit", '{"docid": 7}')), result("b", "lost")).steps
    assert [(s.kind, s.docid, s.output, s.error) for s in steps] == [
        ("browse", "7", "", "the log holds no result of this call"),
        ("other", None, "lost", "the log holds no call that this is the result of"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "function_call": {"name": "search", "arguments": '{"query": "q"}'}},
        {"role": "assistant", "tool_calls": [{"id": "a", "name": "search", "args": {"query": "q"}}]},
        {"type": "ai", "content": "", "tool_calls": [{"id": "a", "name": "search", "args": {"query": "q"}}]},
        {"role": "assistant", "tool_calls": '[{"function": {"name": "search", "arguments": {"query": "q"}}}]'},
        {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "search", "input": '{"query": "q"}'}}]},
    ],
)
def test_older_and_other_forms_of_calls_are_read(message: dict[str, Any]) -> None:
    trajectory = parse(message, {"role": "function", "name": "search", "content": "DocID:1"})
    assert (told(trajectory), trajectory.steps[0].error) == ([(0, "search", "q")], None)


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        ([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}], "two"),
        ([{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": "x"}]}], "one"),
        ([{"type": "human", "content": "one"}], "one"),
        ([{"role": "system", "content": "one"}], ""),
        ([], ""),
    ],
)
def test_the_question_is_the_last_user_message_before_the_assistant_speaks(messages: list[Any], question: str) -> None:
    trajectory = parse(*messages, {"role": "assistant", "content": "a"}, {"role": "user", "content": "later"})
    assert trajectory.question == question
    assert parse({"role": "assistant", "content": "a"}, question="named").question == "named"


@pytest.mark.parametrize(
    ("record", "position"),
    [
        ([3], "messages[0]"),
        ([], "messages"),
        ([{"role": "user", "content": "q"}], "messages"),
        ([assistant(3)], "messages[0].tool_calls[0]"),  # type: ignore[arg-type]
        ([{"role": "assistant", "tool_calls": {"a": 1}}], "messages[0].tool_calls"),
        ([assistant(tool_call("a", "search", "{}")), result("a", [{"x": 1}])], "messages[1].content[0].docid"),
    ],
)
def test_what_is_no_chat_is_refused_with_the_place(record: list[Any], position: str) -> None:
    with pytest.raises(LogError) as error:
        parse(*record)
    assert error.value.position == position
    with pytest.raises(LogError):
        chat.parse({"messages": "none"}, "t", Dialect())
