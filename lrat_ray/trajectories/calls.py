"""Tool calls as steps: which searched, which opened a document, with which arguments; the same for every format."""

from __future__ import annotations

import json
from typing import Any

import orjson

from lrat_ray.schema import Step
from lrat_ray.trajectories.dialect import CallKind, Dialect
from lrat_ray.trajectories.json_text import as_text, lookup, standard_json
from lrat_ray.trajectories.search_output import DOCID, read_search_output

QUERY = ("query", "user_query", "q", "queries", "search_query", "input")
"""The usual names of a search call's query, in the order in which they are tried; docs/formats.md lists them."""


class ToolCalls:
    """The tool calls of one trajectory, in order; remembers what was shown, which tells `prefix:id` from an id with a colon."""

    def __init__(self, dialect: Dialect):
        self._dialect = dialect
        self._shown: set[str] = set()

    def step(
        self,
        name: str,
        arguments: Any,
        output: Any,
        *,
        turn: int,
        position: str,
        call_id: str | None = None,
        kind: CallKind | None = None,
        failure: str | None = None,
    ) -> Step:
        """A call as a step. A tool of another name gives kind "other"; a call that the agent got wrong keeps its place, with
        `error` set.

        arguments: an object, or its JSON text; output: what the tool answered; position: where the output stands, for
        messages; kind: where the log itself says it, whatever the tool's name; failure: why the tool has no answer. Raises
        LogError for a list of search results that are none.
        """
        parsed, error = _arguments(arguments)
        error = failure or error
        kind = kind or self._dialect.kind_of(name)
        call: dict[str, Any] = {
            "turn": turn,
            "kind": kind,
            "call_id": call_id,
            "tool_name": name,
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
            "output": as_text(output),
        }
        if kind == "search":
            queries = self._queries(parsed)
            results, problem = ([], None) if failure else read_search_output(output, self._dialect, position)
            self._shown.update([result.docid for result in results])
            return Step(
                queries=queries,
                executed_query=queries[0] if queries else None,  # of several queries the tools ran only the first
                results=results,
                error=error or (None if queries else "the arguments hold no query") or problem,
                **call,
            )
        if kind == "browse":
            docid = self._docid(parsed)
            return Step(docid=docid, error=error or (None if docid else "the arguments hold no docid"), **call)
        return Step(error=error, **call)

    def _queries(self, arguments: dict[str, Any]) -> list[str]:
        if named := self._dialect.fields.query:
            return _texts(lookup(arguments, named))
        return next((queries for name in QUERY if (queries := _texts(arguments.get(name)))), [])

    def _docid(self, arguments: dict[str, Any]) -> str | None:
        """The docid that a browse asked for: the first of a list, without the prefix that some agents put before a colon."""
        named = self._dialect.fields.docid
        # Browse tools often call it otherwise than results do (url, link), so the usual names are tried all the same.
        for name in (named, *DOCID) if named else DOCID:
            value = lookup(arguments, name)
            if isinstance(value, list):
                value = value[0] if value else None
            if isinstance(value, bool) or not isinstance(value, str | int) or not (text := str(value).strip()):
                continue
            docid = self._dialect.docid(text)
            # A corpus may have colons in its docids, so a docid that the agent was shown is taken as it is; so is an URL.
            if docid != text or docid in self._shown or "://" in docid:
                return docid
            return self._dialect.docid(docid.rsplit(":", 1)[-1].strip()) or None
        return None


def _arguments(raw: Any) -> tuple[dict[str, Any], str | None]:
    """(arguments, why there are none)."""
    try:
        arguments = orjson.loads(raw) if isinstance(raw, str) and raw else raw or {}
    except orjson.JSONDecodeError as error:
        try:
            arguments = standard_json(str(raw))
        except (ValueError, RecursionError):
            return {}, f"the arguments are not JSON: {error}"
    if not isinstance(arguments, dict):
        return {}, f"the arguments are not an object but {type(arguments).__name__}"
    return arguments, None


def _texts(value: Any) -> list[str]:
    """The queries in a value: one, a list of them, or of objects that hold one (`{"q": "..."}`). Blank ones are none."""
    texts: list[str] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            item = next((item[name] for name in QUERY if isinstance(item.get(name), str)), None)
        if item is not None and str(item).strip():
            texts.append(str(item))
    return texts
