"""OpenAI chat messages: `tool_calls` of the assistant and the `tool` messages that answer them."""

from __future__ import annotations

from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.head import assemble
from lrat_ray.trajectories.json_text import as_text, expect, expect_list, from_json, message_text
from lrat_ray.trajectories.tags import segments
from lrat_ray.trajectories.transcript import Transcript

_MESSAGES = "messages"
_REASONING = ("reasoning_content", "reasoning", "thinking")
_LANGCHAIN_ROLES = {"human": "user", "ai": "assistant"}


def matches(record: dict[str, Any]) -> bool:
    """Whether a record holds chat messages."""
    messages = from_json(record.get(_MESSAGES))
    return isinstance(messages, list) and any(isinstance(m, dict) and role_of(m) for m in messages)


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """A record with `messages` as a trajectory: every assistant message is a turn. Raises LogError for what is none."""
    record = expect(record, dict, "top level")
    transcript = Transcript(dialect)
    messages = [expect(m, dict, f"messages[{i}]") for i, m in enumerate(expect_list(record, _MESSAGES))]
    for number, message in enumerate(messages):
        add_message(transcript, message, f"messages[{number}]")
    return assemble(record, transcript.steps(), trajectory_id, dialect, body=[_MESSAGES], question=asked(messages))


def asked(messages: list[dict[str, Any]]) -> str:
    """The last user message before the assistant speaks. Raises LogError when it never does."""
    question = ""
    for message in messages:
        role = role_of(message)
        if role == "assistant":
            return question
        if role == "user":
            question = message_text(message.get("content"))
    raise LogError(_MESSAGES, "no message is by the assistant")


def role_of(message: dict[str, Any]) -> str:
    """Who a message is by: user, assistant, tool, ...; "" when it does not say. LangChain has it in `type`."""
    role = message.get("role") or message.get("type")
    return _LANGCHAIN_ROLES.get(role, role) if isinstance(role, str) else ""


def add_message(
    transcript: Transcript,
    message: dict[str, Any],
    position: str,
    *,
    with_calls: bool = True,
    reasoning_tokens: int | None = None,
) -> None:
    """Add a message to a transcript.

    with_calls: False leaves out the calls, for logs that hold them elsewhere, too; reasoning_tokens: the length of reasoning
    that the message itself does not show.
    """
    role = role_of(message)
    if role in ("tool", "function"):
        call_id = as_text(message.get("tool_call_id")) or None
        transcript.result(message.get("content"), position=f"{position}.content", call_id=call_id)
    if role != "assistant":
        return
    transcript.begin_turn()
    thought = _thought(message)
    parts = segments(message_text(message.get("content")), ["think"])
    if thought:
        transcript.think(thought)
    elif reasoning_tokens and all(tag == "" for tag, _ in parts):
        transcript.think(None, reasoning_tokens)
    for tag, text in parts:
        if tag:
            transcript.think(text)
        else:
            transcript.say(text)
    for number, call in enumerate(_calls(message, position) if with_calls else []):
        call_position = f"{position}.tool_calls[{number}]"
        function = expect(call, dict, call_position).get("function") or call.get("custom") or call
        arguments = next(
            (function[n] for n in ("arguments", "args", "input") if n in expect(function, dict, call_position)), None
        )
        call_id = as_text(call.get("id")) or None
        transcript.call(as_text(function.get("name")), arguments, position=call_position, call_id=call_id)


def _thought(message: dict[str, Any]) -> str:
    """Reasoning beside the content; OpenRouter sends it a second time, in pieces, as `reasoning_details`."""
    for name in _REASONING:
        if text := as_text(message.get(name)):
            return text
    details = message.get("reasoning_details")
    pieces = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    return "".join([as_text(piece.get("text") or piece.get("summary")) for piece in pieces])


def _calls(message: dict[str, Any], position: str) -> list[Any]:
    calls = from_json(message.get("tool_calls"))
    if calls is None:
        return [message["function_call"]] if message.get("function_call") else []  # before there were parallel calls
    return expect(calls, list, f"{position}.tool_calls")
