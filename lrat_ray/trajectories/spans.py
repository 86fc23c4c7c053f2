"""OpenTelemetry spans of an agent, in the conventions for generative AI or in OpenInference's: one trace, one trajectory."""

from __future__ import annotations

from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import chat
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.head import assemble
from lrat_ray.trajectories.json_text import as_text, count, expect, expect_list, from_json, lookup
from lrat_ray.trajectories.span_kinds import kind_of, outermost, tool_name
from lrat_ray.trajectories.span_messages import Message, input_messages, output_messages, tool_results
from lrat_ray.trajectories.telemetry import Span, is_span, listed, read_spans
from lrat_ray.trajectories.transcript import Transcript

_SPANS = "spans"
_ARGUMENTS = ("gen_ai.tool.call.arguments", "tool_call.function.arguments", "input.value", "traceloop.entity.input")
_RESULT = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
_QUERY = ("gen_ai.retrieval.query.text", "input.value")
_DOCUMENTS = ("gen_ai.retrieval.documents", "retrieval.documents", "output.value")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
_REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
_NOT_CAPTURED = (
    "content was not captured: span {name!r} has no {what}. Collect the traces again with "
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true (OpenInference: OPENINFERENCE_HIDE_INPUTS=false and "
    "OPENINFERENCE_HIDE_OUTPUTS=false; OpenLLMetry: TRACELOOP_TRACE_CONTENT=true)"
)


def matches(record: dict[str, Any]) -> bool:
    """Whether a record holds spans."""
    rows = from_json(record.get(_SPANS))
    return "resourceSpans" in record or (isinstance(rows, list) and any(is_row(row) for row in rows))


def is_row(row: Any) -> bool:
    """Whether a row is a span, or an OTLP export request with some."""
    return isinstance(row, dict) and ("resourceSpans" in row or is_span(row))


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """The `spans` of one trace or conversation (or one OTLP export request) as a trajectory, in the order of their start.

    Spans of LLM calls give turns, reasoning and answers; spans of tools and retrievers give calls, or, where there are none,
    the messages do. Raises LogError for what is no span, and for spans whose content was not captured.
    """
    record = expect(record, dict, "top level")
    rows = [record] if "resourceSpans" in record else expect_list(record, _SPANS)
    found = [span for number, row in enumerate(rows) for span in read_spans(row, f"spans[{number}]")]
    spans = outermost(sorted(found, key=lambda span: span.start), dialect)
    llms = [span for span in spans if kind_of(span) == "llm"]
    acting = [span for span in spans if kind_of(span) in ("tool", "retriever")]
    if not llms and not acting:
        raise LogError(_SPANS, f"none of {len(found)} spans is an LLM call, a tool or a retrieval")
    transcript = Transcript(dialect, marked_turns=bool(llms) and bool(acting))
    seen: set[str] = set()
    for span in spans:
        if kind_of(span) == "llm":
            _add_llm(transcript, span, seen, with_calls=not acting)
        elif kind_of(span) == "retriever":
            _add_retrieval(transcript, span)
        elif kind_of(span) == "tool":
            _add_tool(transcript, span, found, dialect)
    agents = [span for span in found if kind_of(span) == "agent"]
    roots = [*agents, *(span for span in found if not span.parent_id)]
    head = {"query_id": next((text for span in found if (text := span.text("query_id"))), None)}
    model = next((text for span in [*llms, *agents] if (text := span.text(*_MODEL))), None)
    steps = transcript.steps()
    if not any(step.kind == "answer" for step in steps):
        head["final_answer"] = next(
            (text for span in roots if (text := _said(output_messages(span), span, "output.value"))), None
        )
    question = next((text for span in [*roots, *llms] if (text := _asked(span))), "")
    return assemble(head, steps, trajectory_id, dialect, body=[], question=question, agent=model)


def _add_llm(transcript: Transcript, span: Span, seen: set[str], *, with_calls: bool) -> None:
    for message in input_messages(span) if with_calls else []:
        for call_id, output in tool_results(message):
            if call_id not in seen:  # every call sends the whole conversation again
                seen.add(call_id)
                transcript.result(output, position=f"{span.position} (input messages)", call_id=call_id)
    messages = output_messages(span)
    tokens = count(_number(span.get(*_REASONING_TOKENS)))
    if span.failed and not messages:
        return
    if not messages and tokens is None:
        raise _not_captured(span, "gen_ai.output.messages")
    message = {**(messages or [{}])[0], "role": "assistant"}  # further ones are alternatives that the agent did not take
    chat.add_message(transcript, message, span.position, with_calls=with_calls, reasoning_tokens=tokens)


def _add_tool(transcript: Transcript, span: Span, spans: list[Span], dialect: Dialect) -> None:
    name = tool_name(span)
    arguments, output = from_json(span.get(*_ARGUMENTS)), span.get(*_RESULT)
    if isinstance(arguments, dict) and isinstance(arguments.get("inputs"), dict):
        arguments = arguments["inputs"]  # OpenLLMetry
    kind = dialect.kind_of(name)
    if kind == "search" and output is None:
        inside = (s for s in spans if kind_of(s) == "retriever" and s.parent_id == span.span_id)
        output = next((_documents(s) for s in inside), None)
    if kind != "other" and arguments is None:
        raise _not_captured(span, "gen_ai.tool.call.arguments")
    if kind == "search" and output is None and not span.failed:
        raise _not_captured(span, "gen_ai.tool.call.result")
    if isinstance(arguments, str):
        arguments = (
            {"input": arguments} if kind == "search" else {"docid": arguments}
        )  # a tool of one argument, as LangChain logs it
    call_id = span.text("gen_ai.tool.call.id", "tool_call.id", "tool.id") or None
    failure = (span.text("exception.message") or as_text(output) or "the tool failed") if span.failed else None
    position = f"{span.position} ({span.name})"
    transcript.call(name, arguments, position=position, call_id=call_id, output=output, failure=failure)


def _add_retrieval(transcript: Transcript, span: Span) -> None:
    query, documents = from_json(span.get(*_QUERY)), _documents(span)
    if query is None or (documents is None and not span.failed):
        what = "gen_ai.retrieval.query.text" if query is None else "gen_ai.retrieval.documents"
        raise _not_captured(span, what)
    arguments = query if isinstance(query, dict) else {"query": query}
    failure = "the retrieval failed" if span.failed and documents is None else None
    name = span.text("gen_ai.data_source.id") or span.name
    transcript.call(name, arguments, position=span.position, kind="search", output=documents, failure=failure)


def _documents(span: Span) -> Any:
    """A retrieval's documents, in the form of search results; None when they were not captured."""
    value = span.get(*_DOCUMENTS)
    documents = [item.get("document", item) if isinstance(item, dict) else item for item in listed(value)]
    if not documents:
        return from_json(value)
    for place, document in enumerate(documents):
        if isinstance(document, dict) and "metadata" in document:
            documents[place] = {**document, "metadata": from_json(document["metadata"])}
    return documents


def _asked(span: Span) -> str:
    users = [message for message in input_messages(span) if message["role"] == "user"]
    return _said(users[:1], span, "input.value")


def _said(messages: list[Message], span: Span, otherwise: str) -> str:
    """The text of messages, or of an attribute, which may be the JSON of a chain's inputs or outputs."""
    if text := "\n".join(as_text(message.get("content")) for message in messages):
        return text
    value = from_json(span.get(otherwise))
    for name in ("input", "question", "query", "output", "answer"):
        if isinstance(inner := lookup(value, name), str):
            return inner
    return value if isinstance(value, str) else ""


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 19 else value


def _not_captured(span: Span, what: str) -> LogError:
    return LogError(span.position, _NOT_CAPTURED.format(name=span.name, what=what))
