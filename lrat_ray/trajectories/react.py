"""ReAct text with tags: `<tool_call>` and `<tool_response>` (Qwen, Tongyi-DeepResearch), `<search>` (Search-R1)."""

from __future__ import annotations

import json
import re
from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import lenient_json
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.head import assemble
from lrat_ray.trajectories.json_text import as_text, expect, first, from_json, message_text
from lrat_ray.trajectories.tags import segments
from lrat_ray.trajectories.transcript import Transcript

_MESSAGES = "messages"
_TEXTS = ("text", "response", "output", "completion", "transcript", "sequences_str")
_TAGS = ("think", "tool_call", "tool_response", "search", "information", "answer")
_MARKS = re.compile("</(?:tool_call|tool_response|search|information)>")
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL)
# Search-R1's prompt explains the tags with tags, which are not the agent's.
_SEARCH_R1_PROMPT = re.compile(r"Answer the given question\..*?</answer>.*?Question: ([^\n]*)", re.DOTALL)
_NAME = re.compile(r"""["']?name["']?\s*:\s*["']([^"']+)""")


def matches(record: dict[str, Any]) -> bool:
    """Whether a record holds text with the tags of calls."""
    messages = from_json(record.get(_MESSAGES))
    if not isinstance(messages, list):
        return _MARKS.search(first(record, _TEXTS) or "") is not None
    if any(isinstance(m, dict) and m.get("tool_calls") for m in messages):
        return False
    return any(_MARKS.search(message_text(m.get("content"))) for m in messages if isinstance(m, dict))


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """A record with `messages`, or with one flat text, as a trajectory. Raises LogError for what is none.

    Search-R1 only searches, so its trajectories have no browse.
    """
    record = expect(record, dict, "top level")
    messages = _messages(record)
    transcript = Transcript(dialect)
    question, agent_spoke = "", False
    for role, text, position in messages:
        if role == "assistant":
            transcript.begin_turn()
            agent_spoke = True
        elif role == "user" and not agent_spoke:
            question = text
        if role in ("tool", "function") and "<tool_response>" not in text:
            transcript.result(text, position=position)
        elif role == "assistant" or agent_spoke:
            _add(transcript, text, position, is_agent=role == "assistant")
    if not agent_spoke:
        raise LogError(_MESSAGES, "no message is by the assistant")
    if prompt := _SEARCH_R1_PROMPT.search(question):
        question = prompt[1].strip()
    body = [_MESSAGES] if _MESSAGES in record else _TEXTS
    return assemble(record, transcript.steps(), trajectory_id, dialect, body=body, question=question)


def _messages(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(role, text, position) of each message; one flat text is cut at the marks of ChatML, or is all the agent's."""
    logged = from_json(record.get(_MESSAGES))
    if isinstance(logged, list):
        messages = [expect(m, dict, f"messages[{i}]") for i, m in enumerate(logged)]
        return [(as_text(m.get("role")), message_text(m.get("content")), f"messages[{i}]") for i, m in enumerate(messages)]
    name = next((name for name in _TEXTS if isinstance(record.get(name), str)), None)
    if name is None:
        raise LogError("top level", f"found neither a list of messages nor a text (looked for messages, {', '.join(_TEXTS)})")
    text: str = record[name]
    if turns := _TURN.findall(text):
        return [(role, content, f"{name}, ChatML turn {i}") for i, (role, content) in enumerate(turns)]
    if prompt := _SEARCH_R1_PROMPT.match(text):
        return [("user", prompt[0], name), ("assistant", text[prompt.end() :], name)]
    return [("assistant", text, name)]


def _add(transcript: Transcript, text: str, position: str, *, is_agent: bool) -> None:
    for tag, inner in segments(text, _TAGS):
        if tag in ("tool_response", "information"):
            transcript.result(inner, position=f"{position} <{tag}>")
        elif not is_agent:
            continue  # what a user says between the tools' answers
        elif tag == "think":
            transcript.think(inner)
        elif tag == "tool_call":
            _add_call(transcript, inner, position)
        elif tag == "search":
            arguments = json.dumps({"query": inner}, ensure_ascii=False)
            transcript.call("search", arguments, position=position, kind="search")
        elif tag == "answer":
            transcript.answer(inner)
        else:
            transcript.say(inner)


def _add_call(transcript: Transcript, text: str, position: str) -> None:
    """A call as the model wrote it. One that cannot be read keeps its place, and its text as arguments."""
    try:
        call = lenient_json.loads(text)
    except (ValueError, RecursionError):
        call = None
    if isinstance(call, dict) and isinstance(call.get("name"), str):
        transcript.call(call["name"], call.get("arguments", call.get("parameters")), position=position)
        return
    name = _NAME.search(text)
    transcript.call(name[1] if name else "", text, position=position)
