"""Spans as steps: both conventions, old names and new, every export; content that was not captured is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import formats, spans
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.telemetry import read_spans


def span(number: int, attributes: dict[str, Any], *, name: str = "n", parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A span that started at second `number`."""
    parent_id = None if parent is None else str(parent)
    start = f"2026-01-01T00:00:{number:02d}Z"
    row = {"trace_id": "t1", "span_id": str(number), "parent_id": parent_id, "name": name, "start_time": start}
    return {**row, "attributes": attributes, **more}


def parse(*rows: Any) -> Trajectory:
    return spans.parse({"spans": list(rows)}, "t", Dialect())


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


def problem_of(*rows: Any) -> str:
    with pytest.raises(LogError) as error:
        parse(*rows)
    return str(error.value)


def llm(number: int, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    messages = [{"role": "assistant", "parts": list(parts), "finish_reason": "stop"}]
    return span(number, {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps(messages), **more})


def tool(number: int, name: str, arguments: Any, result: Any, **more: Any) -> dict[str, Any]:
    content = {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": result}
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **content}
    return span(
        number, {key: value for key, value in attributes.items() if value is not None}, name=f"execute_tool {name}", **more
    )


THOUGHT = {"type": "reasoning", "content": "r"}
SAID = {"type": "text", "content": "x"}
SEARCH = tool(2, "search", '{"query": "q"}', '[{"docid": "7"}]')
BROWSE = tool(3, "visit", '{"docid": "7"}', "text")


def test_llm_calls_are_turns_and_calls_come_from_the_spans_of_tools() -> None:
    call = {"type": "tool_call", "id": "a", "name": "search", "arguments": {"query": "q"}}
    rows = [
        span(0, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "query_id": "9", "input.value": "who?"}),
        llm(1, THOUGHT, call, **{"gen_ai.request.model": "m"}),
        SEARCH,
        BROWSE,
        llm(4, THOUGHT, SAID),
    ]
    trajectory = parse(*reversed(rows))
    assert told(trajectory) == [
        (0, "reasoning", "r"),
        (0, "search", "q"),
        (0, "browse", "7"),
        (1, "reasoning", "r"),
        (1, "answer", "x"),
    ]
    assert (trajectory.question, trajectory.query_id, trajectory.agent) == ("who?", "9", "m")
    assert (trajectory.final_answer, trajectory.status) == ("x", "completed")


def test_without_spans_of_llm_calls_a_result_ends_a_turn_and_the_root_answers() -> None:
    root = span(
        0, {"openinference.span.kind": "AGENT", "input.value": '{"question": "who?"}', "output.value": '{"output": "x"}'}
    )
    trajectory = parse(root, SEARCH, BROWSE)
    assert told(trajectory) == [(0, "search", "q"), (1, "browse", "7")]
    assert (trajectory.question, trajectory.final_answer, trajectory.query_id) == ("who?", "x", "t")


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.tool.call.arguments": {"query": "q"}},
        {"gen_ai.tool.name": "mcp__web__search", "gen_ai.tool.call.arguments": '{"query": "q"}'},
        {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": '{"query": "q"}'},
        {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": "q", "input.mime_type": "text/plain"},
        {
            "openinference.span.kind": "TOOL",
            "tool_call.function.name": "search",
            "tool_call.function.arguments": '{"query": "q"}',
        },
        {"openinference": {"span": {"kind": "TOOL"}}, "tool": {"name": "search"}, "input": {"value": '{"query": "q"}'}},
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "search",
            "traceloop.entity.input": '{"inputs": {"query": "q"}}',
        },
    ],
)
@pytest.mark.parametrize("result", ["gen_ai.tool.call.result", "output.value", "traceloop.entity.output"])
def test_tools_are_read_under_the_names_of_every_convention(attributes: dict[str, Any], result: str) -> None:
    (step,) = parse(span(1, {**attributes, result: '[{"docid": "7"}]'})).steps
    assert (step.kind, step.executed_query, [r.docid for r in step.results]) == ("search", "q", ["7"])


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.query.text": "q",
            "gen_ai.retrieval.documents": '[{"id": "7", "score": 0.5}]',
        },
        {
            "openinference.span.kind": "RETRIEVER",
            "input.value": "q",
            "retrieval.documents.0.document.id": "7",
            "retrieval.documents.0.document.score": 0.5,
        },
        {
            "openinference.span.kind": "RETRIEVER",
            "input.value": '{"query": "q"}',
            "retrieval": {"documents": [{"document": {"content": "t", "metadata": '{"source": "7"}', "score": 0.5}}]},
        },
    ],
)
def test_retrievals_are_searches(attributes: dict[str, Any]) -> None:
    (step,) = parse(span(1, attributes, name="retrieve")).steps
    assert (step.kind, step.executed_query, [(r.docid, r.score) for r in step.results]) == ("search", "q", [("7", 0.5)])
    assert step.tool_name == "retrieve"


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat", "gen_ai.output.messages": [{"role": "assistant", "parts": [THOUGHT, SAID]}]},
        {
            "openinference.span.kind": "LLM",
            "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
            "llm.output_messages.0.message.contents.0.message_content.text": "r",
            "llm.output_messages.0.message.contents.1.message_content.type": "text",
            "llm.output_messages.0.message.contents.1.message_content.text": "x",
        },
        {"openinference.span.kind": "LLM", "llm": {"output_messages": [{"message": {"content": "<think>r</think>x"}}]}},
        {
            "gen_ai.system": "openai",
            "gen_ai.completion.0.content": "<think>r</think>x",
            "gen_ai.completion.0.role": "assistant",
        },
        {"gen_ai.completion": "<think>r</think>x"},
        {"gen_ai.completion": '[{"role": "assistant", "content": "x", "reasoning": "r"}]'},
    ],
)
def test_messages_are_read_under_the_names_of_every_convention(attributes: dict[str, Any]) -> None:
    assert told(parse(span(1, attributes))) == [(0, "reasoning", "r"), (0, "answer", "x")]


def test_messages_that_break_off_are_no_reasoning() -> None:
    operation = {"gen_ai.operation.name": "chat"}
    cut = json.dumps([{"role": "user", "parts": [SAID]}])[:-9]
    with pytest.raises(LogError, match=r"gen_ai.output.messages: the messages are not JSON; it breaks off"):
        parse(span(1, {**operation, "gen_ai.output.messages": cut}))
    trajectory = parse(llm(1, SAID, **{"gen_ai.input.messages": cut}))
    assert (trajectory.question, len(trajectory.steps)) == ("", 1)


def test_content_may_stand_in_an_event_of_the_span() -> None:
    event = {"name": "gen_ai.client.inference.operation.details", "attributes": {"gen_ai.output.messages": [{"parts": [SAID]}]}}
    row = span(1, {"gen_ai.operation.name": "chat"}, events=[event])
    assert told(parse(row)) == [(0, "answer", "x")]


def test_without_spans_of_tools_the_messages_tell_the_calls() -> None:
    def tool_call(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}

    asked = {"role": "user", "parts": [{"type": "text", "content": "who?"}]}
    searched = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "a", "response": '[{"docid": "7"}]'}]}
    opened = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "b", "result": "text"}]}
    trajectory = parse(
        llm(1, THOUGHT, tool_call("a", "search", {"query": "q"}), **{"gen_ai.input.messages": json.dumps([asked])}),
        llm(2, tool_call("b", "visit", {"docid": "7"}), **{"gen_ai.input.messages": json.dumps([asked, searched])}),
        llm(3, THOUGHT, SAID, **{"gen_ai.input.messages": json.dumps([asked, searched, opened])}),
    )
    assert told(trajectory) == [
        (0, "reasoning", "r"),
        (0, "search", "q"),
        (1, "browse", "7"),
        (2, "reasoning", "r"),
        (2, "answer", "x"),
    ]
    assert [step.error for step in trajectory.steps] == [None] * 5
    assert ([r.docid for r in trajectory.steps[1].results], trajectory.steps[2].output) == (["7"], "text")
    assert trajectory.question == "who?"


def test_openinference_messages_tell_the_calls_too() -> None:
    prefix = "llm.output_messages.0.message.tool_calls.0.tool_call"
    call = {f"{prefix}.id": "a", f"{prefix}.function.name": "visit", f"{prefix}.function.arguments": '{"docid": "7"}'}
    answered = {"llm.input_messages.0.message.role": "tool", "llm.input_messages.0.message.tool_call_id": "a"}
    kind = {"openinference.span.kind": "LLM"}
    rows = [
        span(1, {**kind, **call}),
        span(
            2,
            {**kind, **answered, "llm.input_messages.0.message.content": "text", "llm.output_messages.0.message.content": "x"},
        ),
    ]
    trajectory = parse(*rows)
    assert told(trajectory) == [(0, "browse", "7"), (1, "answer", "x")]
    assert (trajectory.steps[0].output, trajectory.steps[0].error) == ("text", None)


def test_spans_inside_a_search_or_another_llm_call_are_not_the_agents() -> None:
    retrieval = {"openinference.span.kind": "RETRIEVER", "input.value": "inner", "retrieval.documents.0.document.id": "8"}
    rows = [
        llm(1, SAID),
        {**llm(4, THOUGHT), "parent_id": "1"},
        {**SEARCH},
        span(5, retrieval, parent=2),
        {**llm(6, THOUGHT), "parent_id": "5"},
    ]
    assert told(parse(*rows)) == [(0, "reasoning", "x"), (0, "search", "q")]
    hollow = {**SEARCH, "attributes": {k: v for k, v in SEARCH["attributes"].items() if not k.endswith("result")}}
    (step,) = parse(hollow, span(5, retrieval, parent=2)).steps
    assert (step.executed_query, [r.docid for r in step.results]) == ("q", ["8"])


def test_calls_inside_another_agent_are_kept() -> None:
    assert told(parse(tool(1, "researcher", None, None), {**BROWSE, "parent_id": "1"})) == [
        (0, "other", None),
        (1, "browse", "7"),
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (tool(1, "search", None, None), "gen_ai.tool.call.arguments"),
        (tool(1, "search", '{"query": "q"}', None), "gen_ai.tool.call.result"),
        (tool(1, "visit", None, "text"), "gen_ai.tool.call.arguments"),
        (tool(1, "visit", "__REDACTED__", "text"), "gen_ai.tool.call.arguments"),
        (span(1, {"openinference.span.kind": "TOOL", "tool.name": "search"}), "gen_ai.tool.call.arguments"),
        (span(1, {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": "[]"}), "gen_ai.retrieval.query.text"),
        (span(1, {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "q"}), "gen_ai.retrieval.documents"),
        (span(1, {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}), "gen_ai.output.messages"),
    ],
)
def test_content_that_was_not_captured_is_said_with_the_switch(row: dict[str, Any], what: str) -> None:
    problem = problem_of(row)
    assert problem.startswith(f"spans[0]: content was not captured: span {row['name']!r} has no {what}. ")
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true" in problem
    assert "OPENINFERENCE_HIDE_INPUTS=false" in problem


def test_of_reasoning_the_number_of_tokens_is_enough() -> None:
    hidden = span(4, {"gen_ai.operation.name": "chat", "gen_ai.usage.reasoning_tokens": 40})
    summed = span(5, {"openinference.span.kind": "LLM", "llm.token_count.completion_details.reasoning": "7"})
    steps = parse(SEARCH, BROWSE, hidden, summed, llm(6, THOUGHT, **{"gen_ai.usage.reasoning_tokens": 3})).steps[2:]
    assert [(s.kind, s.text, s.tokens) for s in steps] == [
        ("reasoning", None, 40),
        ("reasoning", None, 7),
        ("reasoning", "r", None),
    ]


def test_a_span_that_failed_needs_no_result() -> None:
    failed_llm = span(1, {"gen_ai.operation.name": "chat"}, status={"status_code": "ERROR"})
    event = {"name": "exception", "attributes": {"exception.message": "timeout"}}
    failed_search = {**tool(2, "search", '{"query": "q"}', None), "status": {"code": 2}, "events": [event]}
    (step,) = parse(failed_llm, failed_search).steps
    assert (step.executed_query, step.results, step.error) == ("q", [], "timeout")


def test_what_is_no_trace_of_an_agent_is_refused() -> None:
    assert problem_of(3) == "spans[0]: expected an object, found int '3'"
    assert problem_of({"span_id": "1"}).startswith("spans[0]: the span has no trace id")
    assert problem_of(span(1, {"http.method": "GET"})) == "spans: none of 1 spans is an LLM call, a tool or a retrieval"
    assert problem_of() == "spans: none of 0 spans is an LLM call, a tool or a retrieval"
    result = problem_of(tool(1, "search", '{"query": "q"}', '[{"x": 1}]'))
    assert result.startswith("spans[0] (execute_tool search)[0].docid: the result has no docid")


def otlp(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": otlp(inner)} for key, inner in value.items()]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def exported(row: dict[str, Any], nanoseconds: int) -> dict[str, Any]:
    attributes = [{"key": key, "value": otlp(value)} for key, value in row["attributes"].items()]
    ids = {"traceId": row["trace_id"], "spanId": row["span_id"], "parentSpanId": row["parent_id"] or ""}
    return {**ids, "name": row["name"], "startTimeUnixNano": str(nanoseconds), "attributes": attributes}


def test_otlp_json_is_read_with_its_lists_of_attributes() -> None:
    later = exported(llm(4, SAID, **{"gen_ai.usage.reasoning_tokens": 40}), 1_767_225_600_000_000_009)
    sooner = exported(tool(2, "search", {"query": "q"}, [{"docid": "7"}]), 1_767_225_600_000_000_008)
    first = exported(llm(1, THOUGHT), 999_999_999_999_999_999)
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [later]}, {"spans": [sooner, first]}]}]}
    trajectory = formats.parse(request, "t", "auto", Dialect())
    assert told(trajectory) == [(0, "reasoning", "r"), (0, "search", "q"), (1, "reasoning", None), (1, "answer", "x")]
    assert [r.docid for r in trajectory.steps[1].results] == ["7"]


def test_phoenix_columns_and_an_sdks_own_json_are_read() -> None:
    kind = {"attributes.openinference.span.kind": "TOOL", "attributes.tool.name": "visit"}
    content = {"attributes.input.value": '{"docid": "7"}', "attributes.output.value": "text"}
    nothing = {"attributes.llm.model_name": None, "attributes.tool": {"name": "visit"}}
    column = {"context.trace_id": "t1", "context.span_id": "1", "start_time": "2026-01-01", **kind, **content, **nothing}
    sdk = {"context": {"trace_id": "0xt1", "span_id": "0x1"}, **{k: SEARCH[k] for k in ("name", "attributes", "start_time")}}
    assert [formats.row_format(row) for row in (column, sdk)] == ["spans", "spans"]
    assert told(parse(column)) == [(0, "browse", "7")]
    assert told(parse(sdk)) == [(0, "search", "q")]


def test_rows_are_put_together_by_conversation_else_by_trace() -> None:
    def row(trace: str, number: int, **attributes: Any) -> dict[str, Any]:
        return {**tool(number, "visit", f'{{"docid": "{number}"}}', "text"), "trace_id": trace, **attributes}

    said = {"attributes": {**BROWSE["attributes"], "gen_ai.conversation.id": "c"}}
    rows = [
        ("line 1", row("t1", 5)),
        ("line 2", {"name": "no trace"}),
        ("line 3", row("t2", 9)),
        ("line 4", row("t1", 4, **said)),
        ("line 5", row("t3", 1, **said)),
        ("line 6", {"resourceSpans": [{"scopeSpans": [{"spans": [exported(row("t2", 2), 1)]}, {"spans": [3]}]}]}),
        ("line 7", "text"),
    ]
    groups = list(formats.group("spans", rows))
    assert [key for key, _ in groups] == ["line 2", "line 6", "line 7", "c", "t2"]
    assert [str(error) for _, error in groups[:3]] == [
        "line 2: the span has no trace id (looked for traceId, trace_id, context.trace_id)",
        "line 6.resourceSpans[0].scopeSpans[1].spans[0]: expected an object, found int '3'",
        "line 7: expected a span, found str",
    ]
    conversation, trace = [formats.parse(record, "t", "spans", Dialect()) for _, record in groups[3:]]
    assert [step.docid for step in conversation.steps] == ["7", "7", "5"]
    assert {step.docid for step in trace.steps} == {"2", "9"}


@pytest.mark.parametrize(
    "times",
    [
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"],
        ["2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00+00:00", "2025-12-31T23:00:01-02:00"],
        ["2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01 00:00:00.12346"],
        ["1767225599999999999", 1767225600000000000, "2026-01-01T00:00:00.000000001Z"],
        [None, 9.5, 10, "10.5", "a while ago", "later"],
    ],
    ids=["fractions", "offsets", "nanoseconds", "numbers", "other"],
)
def test_spans_are_sorted_by_the_time_whatever_its_form(times: list[Any]) -> None:
    found = [read_spans({"trace_id": "t", "start_time": time}, "")[0].start for time in times]
    assert sorted(set(found)) == found
