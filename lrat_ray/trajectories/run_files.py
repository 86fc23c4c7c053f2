"""A BrowseComp-Plus run file in the normal form: the format in which the published LRAT trajectories come.

A run file is one JSON object per question: `query_id`, `query`, `status`, `metadata`, and `result`, a list of
`{type: reasoning | tool_call | output_text, tool_name, arguments, output}`. Clients differ in how they fill it (arguments as
an object or as JSON text, results as text blocks or as a JSON list, docids as numbers, lists or `prefix:id`); here they meet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lrat_ray.schema import SearchResult, Step, Trajectory

_DOCID_LINE = "DocID:"
_CUT = "..."


class RunFileError(ValueError):
    """JSON that is not a run file. `position` says where (`result[4].type`), `problem` what is wrong there."""

    def __init__(self, position: str, problem: str):
        super().__init__(f"{position}: {problem}")
        self.position, self.problem = position, problem


def parse_run_file(data: Any, trajectory_id: str, *, search_tools: Sequence[str], browse_tools: Sequence[str]) -> Trajectory:
    """A run file's JSON as a trajectory; entry i of `result` becomes step i.

    A tool of another name becomes a step of kind "other". A call whose arguments the agent got wrong keeps its place, with
    `error` set. Raises RunFileError when the object is no run file.
    """
    run = _expect(data, dict, "top level")
    metadata = run.get("metadata") or {}
    entries = _expect(run.get("result"), list, "result")
    steps: list[Step] = []
    shown: set[str] = set()
    turn = 0
    for number, entry in enumerate(entries):
        step = _step(entry, f"result[{number}]", turn, shown, search_tools, browse_tools)
        shown.update(result.docid for result in step.results)
        turn += entry["type"] == "tool_call"  # the log does not mark LLM calls: a tool's answer starts the next one
        steps.append(step)
    answers = [step.text for step in steps if step.kind == "answer"]
    query_id = _expect(run.get("query_id"), str | int, "query_id")
    return Trajectory(
        trajectory_id=trajectory_id,
        query_id=str(query_id),
        question=_expect(run.get("query") or "", str, "query"),
        agent=str(metadata.get("model", "unknown")) if isinstance(metadata, dict) else "unknown",
        status=str(run.get("status", "unknown")),
        steps=steps,
        final_answer=answers[-1] if answers else None,
    )


def parse_search_output(output: Any, position: str = "output") -> list[SearchResult]:
    """The candidates that a search showed, in rank order, from text blocks or from a list of {docid, score, snippet}.

    A text block is a line `DocID:<id>`, a line `[title]` (cut after 50 characters) and the snippet, which usually repeats the
    title whole on its first line. Anything else (an error message, say) shows no candidates.
    """
    items = _json_list(output)
    if items is not None:
        return [_listed_result(item, rank, f"{position}[{rank - 1}]") for rank, item in enumerate(items, start=1)]
    blocks: list[list[str]] = []
    for line in _text(output).split("\n"):
        if line.startswith(_DOCID_LINE):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    return [_text_result(block, rank) for rank, block in enumerate(blocks, start=1)]


def _step(
    entry: Any, position: str, turn: int, shown: set[str], search_tools: Sequence[str], browse_tools: Sequence[str]
) -> Step:
    entry = _expect(entry, dict, position)
    entry_type = _expect(entry.get("type"), str, f"{position}.type")
    if entry_type == "reasoning":
        return Step(turn=turn, kind="reasoning", text=_text(entry.get("output")))
    if entry_type == "output_text":
        return Step(turn=turn, kind="answer", text=_text(entry.get("output")))
    tool_name = _text(entry.get("tool_name"))
    output = entry.get("output")
    arguments, error = _arguments(entry.get("arguments"))
    call: dict[str, Any] = {"turn": turn, "tool_name": tool_name, "arguments": _arguments_text(entry), "output": _text(output)}
    if tool_name in search_tools:
        queries = _queries(arguments)
        error = error or (None if queries else "the arguments hold no query")
        results = parse_search_output(output, f"{position}.output")
        # Of several queries the tools ran only the first.
        executed_query = queries[0] if queries else None
        return Step(kind="search", queries=queries, executed_query=executed_query, results=results, error=error, **call)
    if tool_name in browse_tools:
        docid = _docid(arguments.get("docid"), shown)
        return Step(kind="browse", docid=docid, error=error or (None if docid else "the arguments hold no docid"), **call)
    return Step(kind="other", error=error, **call)


def _arguments_text(entry: dict[str, Any]) -> str:
    """The arguments of a tool call as JSON text, whichever way the client logged them."""
    arguments = entry.get("arguments")
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)


def _arguments(raw: Any) -> tuple[dict[str, Any], str | None]:
    """(arguments, why there are none)."""
    try:
        arguments = json.loads(raw) if isinstance(raw, str) and raw else raw or {}
    except json.JSONDecodeError as error:
        return {}, f"the arguments are not JSON: {error}"
    if not isinstance(arguments, dict):
        return {}, f"the arguments are not an object but {type(arguments).__name__}"
    return arguments, None


def _queries(arguments: dict[str, Any]) -> list[str]:
    value = arguments.get("query", arguments.get("user_query"))
    return [str(query) for query in (value if isinstance(value, list) else [value]) if query is not None]


def _docid(value: Any, shown: set[str]) -> str | None:
    """The docid that a browse asked for: the first of a list, without the prefix that some agents put before a colon."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    docid = str(value).strip()
    # A corpus may have colons in its docids, so a docid that the agent was shown is taken as it is.
    return (docid if docid in shown else docid.rsplit(":", 1)[-1].strip()) or None


def _json_list(output: Any) -> list[Any] | None:
    if isinstance(output, list):
        return output
    if not isinstance(output, str) or not output.lstrip().startswith("["):
        return None
    try:
        items = json.loads(output)
    except json.JSONDecodeError:
        return None  # text that opens with a bracket
    return items if isinstance(items, list) else None


def _listed_result(item: Any, rank: int, position: str) -> SearchResult:
    item = _expect(item, dict, position)
    docid = _expect(item.get("docid"), str | int, f"{position}.docid")
    score = item.get("score")
    title, snippet = item.get("title"), item.get("snippet")
    return SearchResult(
        docid=str(docid).strip(),
        rank=rank,
        score=float(score) if isinstance(score, int | float) else None,
        title=None if title is None else _text(title),
        snippet=None if snippet is None else _text(snippet),
    )


def _text_result(block: list[str], rank: int) -> SearchResult:
    docid, *lines = block
    title = None
    if lines and lines[0].startswith("[") and lines[0].endswith("]"):
        title = lines.pop(0)[1:-1]
        if lines and (lines[0] == title or _is_whole(lines[0], title)):
            title = lines.pop(0)
    return SearchResult(docid=docid.removeprefix(_DOCID_LINE).strip(), rank=rank, title=title, snippet="\n".join(lines).strip())


def _is_whole(line: str, title: str) -> bool:
    """Whether `line` is the whole of a title that was cut."""
    return title.endswith(_CUT) and line.startswith(title.removesuffix(_CUT))


def _text(value: Any) -> str:
    """What a tool or a model said as one string: lists (of OpenAI summary items, too) joined by spaces, others as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) or _is_text_item(item) for item in value):
        return " ".join(item if isinstance(item, str) else item["text"] for item in value)
    return json.dumps(value, ensure_ascii=False)


def _is_text_item(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("text"), str) and "docid" not in item


def _expect(value: Any, kind: Any, position: str) -> Any:
    """`value`, which must be of this type. Raises RunFileError saying what stands there instead."""
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {dict: "an object", list: "a list", str: "a string"}.get(kind, "a string or a number")
        found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
        raise RunFileError(position, f"expected {wanted}, found {found}")
    return value
