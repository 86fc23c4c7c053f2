"""Anthropic messages: thinking, tool_use and tool_result blocks, and the tools that Anthropic's own servers run."""

from __future__ import annotations

from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories.chat import asked
from lrat_ray.trajectories.dialect import CallKind, Dialect
from lrat_ray.trajectories.head import assemble
from lrat_ray.trajectories.json_text import as_text, expect, expect_list, from_json
from lrat_ray.trajectories.transcript import Transcript

_MESSAGES = "messages"
_CALLS = ("tool_use", "mcp_tool_use", "server_tool_use")
_SERVER_KINDS: dict[str, CallKind] = {"web_search": "search", "web_fetch": "browse"}
_MARKS = (*_CALLS, "tool_result", "mcp_tool_result", "thinking", "redacted_thinking")


def matches(record: dict[str, Any]) -> bool:
    """Whether a record holds Anthropic messages that think or call tools."""
    messages = from_json(record.get(_MESSAGES))
    contents = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    blocks = [block for content in contents if isinstance(content, list) for block in content if isinstance(block, dict)]
    return any(block.get("type") in _MARKS for block in blocks)


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """A record with Anthropic `messages` as a trajectory. Raises LogError for what is none.

    Every assistant message is a turn, and so is what follows the result of a tool that Anthropic's servers ran within one.
    """
    record = expect(record, dict, "top level")
    transcript = Transcript(dialect)
    messages = [expect(m, dict, f"messages[{i}]") for i, m in enumerate(expect_list(record, _MESSAGES))]
    for number, message in enumerate(messages):
        content, position = message.get("content"), f"messages[{number}].content"
        is_assistant = message.get("role") == "assistant"
        if is_assistant:
            transcript.begin_turn()
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        said: list[str] = []  # citations cut one text into many blocks
        for place, block in enumerate(expect(content or [], list, position)):
            block = expect(block, dict, f"{position}[{place}]")
            if block.get("type") == "text":
                said.append(as_text(block.get("text")))
                continue
            _say(transcript, said, is_assistant)
            _add_block(transcript, block, f"{position}[{place}]")
        _say(transcript, said, is_assistant)
    return assemble(record, transcript.steps(), trajectory_id, dialect, body=[_MESSAGES], question=asked(messages))


def _say(transcript: Transcript, said: list[str], is_assistant: bool) -> None:
    if is_assistant:
        transcript.say("".join(said))
    said.clear()


def _add_block(transcript: Transcript, block: dict[str, Any], position: str) -> None:
    block_type = as_text(block.get("type"))
    if block_type == "thinking":
        transcript.think(as_text(block.get("thinking")))
    elif block_type == "redacted_thinking":
        transcript.think("")  # the agent thought, but the log has neither the text nor its length
    elif block_type in _CALLS:
        name, call_id = as_text(block.get("name")), as_text(block.get("id")) or None
        kind = _SERVER_KINDS.get(name) if block_type == "server_tool_use" else None
        transcript.call(name, block.get("input"), position=position, call_id=call_id, kind=kind)
    elif block_type.endswith("tool_result"):
        content = block.get("content")
        failed = block.get("is_error") is True or (isinstance(content, dict) and "error_code" in content)
        call_id = as_text(block.get("tool_use_id")) or None
        transcript.result(_shown(content), position=f"{position}.content", call_id=call_id, failed=failed)


def _shown(content: Any) -> Any:
    """What a tool showed: of mixed blocks the search results, where there are any; else the texts."""
    if not isinstance(content, list):
        return content
    results = [block for block in content if isinstance(block, dict) and "search_result" in str(block.get("type"))]
    return results or [block for block in content if not isinstance(block, dict) or block.get("type") == "text"]
