"""The messages that spans of LLM calls hold, as chat messages: OpenTelemetry's parts, and flat names old and new."""

from __future__ import annotations

from typing import Any

from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.json_text import as_text, from_json, why_not_json
from lrat_ray.trajectories.telemetry import Span, listed

Message = dict[str, Any]

_INPUT = ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt")
_OUTPUT = ("gen_ai.output.messages", "llm.output_messages", "gen_ai.completion")


def input_messages(span: Span) -> list[Message]:
    """What an LLM was sent; empty when it was not captured."""
    return _messages(span, _INPUT, "user")


def output_messages(span: Span) -> list[Message]:
    """What an LLM answered; empty when it was not captured."""
    return _messages(span, _OUTPUT, "assistant")


def _messages(span: Span, names: tuple[str, ...], role: str) -> list[Message]:
    for name in names:
        value = from_json(span.get(name))
        if isinstance(value, str):
            if name.endswith("messages") and (broken := why_not_json(value)) is not None:
                if role == "user":
                    continue  # a long conversation that was cut; each turn stands in its own span, too
                raise LogError(f"{span.position}.{name}", f"the messages are {broken}")
            return [{"role": role, "content": value}]
        items = (
            [value] if isinstance(value, dict) and not value.keys().isdisjoint(("role", "content", "parts")) else listed(value)
        )
        found = [_message(item, role) for item in items if isinstance(item, dict)]
        if found:
            return found
    return []


def _message(item: Message, role: str) -> Message:
    """A message as OpenAI's chat has it. OpenInference wraps it in `message`; OpenTelemetry has `parts`."""
    inner = item.get("message")
    message = dict(inner) if isinstance(inner, dict) else dict(item)
    message["role"] = as_text(message.get("role")) or role
    if "parts" in message:
        return _from_parts(message)
    if "tool_calls" in message:
        calls = [call for call in listed(message["tool_calls"]) if isinstance(call, dict)]
        message["tool_calls"] = [_call(call) for call in calls]
    contents = [
        content.get("message_content", content) for content in listed(message.pop("contents", None)) if _is_object(content)
    ]
    if contents and not message.get("content"):
        message["content"] = [content for content in contents if _is_object(content) and content.get("type") == "text"]
        message["reasoning"] = "\n".join(_part_text(c) for c in contents if _is_object(c) and c.get("type") in _REASONING)
    return message


_REASONING = ("reasoning", "thinking")


def _from_parts(message: Message) -> Message:
    parts = [part for part in listed(message.pop("parts")) if _is_object(part)]
    kinds = [as_text(part.get("type")) for part in parts]
    texts = [_part_text(part) for part, kind in zip(parts, kinds, strict=True) if kind == "text"]
    thoughts = [_part_text(part) for part, kind in zip(parts, kinds, strict=True) if kind in _REASONING]
    calls = [_call(part) for part, kind in zip(parts, kinds, strict=True) if kind == "tool_call"]
    answers = [part for part, kind in zip(parts, kinds, strict=True) if kind == "tool_call_response"]
    message |= {"content": "\n".join(texts), "reasoning": "\n".join(thoughts)}
    if calls:
        message["tool_calls"] = calls
    if answers:
        message["answers"] = [(as_text(a.get("id")), a.get("response", a.get("result"))) for a in answers]
    return message


def tool_results(message: Message) -> list[tuple[str, Any]]:
    """(call id, output) of the tools' answers that a message holds."""
    if message["role"] in ("tool", "function"):
        return message.get("answers") or [(as_text(message.get("tool_call_id")), message.get("content"))]
    return message.get("answers") or []


def _call(call: dict[str, Any]) -> dict[str, Any]:
    inner = call.get("tool_call", call)
    inner = inner if _is_object(inner) else call
    function = inner["function"] if _is_object(inner.get("function")) else inner
    return {"id": inner.get("id"), "name": as_text(function.get("name")), "arguments": function.get("arguments")}


def _part_text(part: dict[str, Any]) -> str:
    return as_text(next((part[name] for name in ("content", "text", "reasoning", "thinking") if part.get(name)), None))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
