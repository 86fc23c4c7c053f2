"""Items of OpenAI's Responses API: reasoning, calls and messages side by side in one list."""

from __future__ import annotations

from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.head import assemble
from lrat_ray.trajectories.json_text import as_text, expect, expect_list, from_json, message_text
from lrat_ray.trajectories.transcript import Transcript

_BODY = ("input", "items", "messages", "output")
_AGENT_ITEMS = ("function_call", "custom_tool_call", "web_search_call", "file_search_call", "mcp_call", "reasoning")
_CALLS = ("function_call", "custom_tool_call", "mcp_call")
_NO_SOURCES = "the log lists no results: request them with include=['{}']"


def matches(record: dict[str, Any]) -> bool:
    """Whether a record holds Responses items."""
    lists = [from_json(record.get(name)) for name in _BODY]
    items = [item for items in lists if isinstance(items, list) for item in items if isinstance(item, dict)]
    is_response = record.get("object") == "response"
    return is_response or any(item.get("type") in _AGENT_ITEMS and "role" not in item for item in items)


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """The items of `input`, `items` (or `messages`) and `output`, in this order, as a trajectory.

    A tool's output ends a turn, as the items do not mark LLM calls. Raises LogError for what is none.
    """
    record = expect(record, dict, "top level")
    transcript = Transcript(dialect)
    question, agent_spoke = "", False
    if isinstance(from_json(record.get("input")), str):
        question = record["input"]
    for name in _BODY:
        if not isinstance(from_json(record.get(name)), list):
            continue
        for number, item in enumerate(expect_list(record, name)):
            item = expect(item, dict, f"{name}[{number}]")
            if item.get("role") == "user" and not agent_spoke:
                question = message_text(item.get("content"))
            agent_spoke |= item.get("role") not in ("user", "system", "developer")
            _add(transcript, item, f"{name}[{number}]")
    if not agent_spoke:
        raise LogError("output", f"no item is by the agent (looked in {', '.join(_BODY)})")
    return assemble(record, transcript.steps(), trajectory_id, dialect, body=_BODY, question=question)


def _add(transcript: Transcript, item: dict[str, Any], position: str) -> None:
    item_type = as_text(item.get("type") or "message")
    if item_type == "reasoning":
        # The whole text where the model gives it; of OpenAI's own models only a summary, or nothing at all.
        transcript.think(message_text(item.get("content") or item.get("summary")))
    elif item_type == "message":
        if item.get("role", "assistant") == "assistant":
            transcript.say(message_text(item.get("content")))
    elif item_type in _CALLS:
        _add_call(transcript, item, item_type, position)
    elif item_type == "web_search_call":
        _add_web_search(transcript, item, position)
    elif item_type == "file_search_call":
        results = from_json(item.get("results"))
        found = [_file(file) for file in results] if isinstance(results, list) else None
        failure = _NO_SOURCES.format("file_search_call.results") if found is None else None
        _add_search(transcript, item, {"query": item.get("queries")}, found, failure, f"{position}.results")
    elif item_type.endswith("_output"):
        call_id = as_text(item.get("call_id")) or None
        transcript.result(item.get("output"), position=f"{position}.output", call_id=call_id)
    elif item_type.endswith("_call"):
        transcript.call(item_type, item.get("action"), position=position, kind="other", output=item.get("output"))


def _add_call(transcript: Transcript, item: dict[str, Any], item_type: str, position: str) -> None:
    name = as_text(item.get("name"))
    arguments = item.get("input") if item_type == "custom_tool_call" else item.get("arguments")
    if item_type != "mcp_call":
        transcript.call(name, arguments, position=position, call_id=as_text(item.get("call_id")) or None)
        return
    error = as_text(item.get("error")) or None
    call_id = as_text(item.get("id")) or None
    transcript.call(name, arguments, position=f"{position}.output", call_id=call_id, output=item.get("output"), failure=error)


def _add_web_search(transcript: Transcript, item: dict[str, Any], position: str) -> None:
    """OpenAI's own web search: a search, or (`open_page`) a browse, whose text the log never has."""
    action = expect(item.get("action") or {}, dict, f"{position}.action")
    if action.get("type") in ("open_page", "find_in_page"):
        kind: Any = "browse" if action["type"] == "open_page" else "other"
        call_id = as_text(item.get("id")) or None
        transcript.call("web_search_call", action, position=position, call_id=call_id, kind=kind, output=None)
        return
    sources = from_json(action.get("sources"))
    failure = None if isinstance(sources, list) else _NO_SOURCES.format("web_search_call.action.sources")
    arguments = {"query": action.get("queries") or action.get("query")}
    _add_search(transcript, item, arguments, sources, failure, f"{position}.action.sources")


def _add_search(
    transcript: Transcript, item: dict[str, Any], arguments: Any, results: Any, failure: str | None, position: str
) -> None:
    name, call_id = as_text(item.get("type")), as_text(item.get("id")) or None
    transcript.call(name, arguments, position=position, call_id=call_id, kind="search", output=results, failure=failure)


def _file(result: Any) -> Any:
    """A result of file search under the usual names."""
    if not isinstance(result, dict) or "file_id" not in result:
        return result
    return {**result, "docid": result["file_id"], "title": result.get("filename")}
