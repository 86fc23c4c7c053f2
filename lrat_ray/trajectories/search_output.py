"""The candidates that a search showed, read from whatever its tool answered."""

from __future__ import annotations

import re
from typing import Any

from lrat_ray.schema import SearchResult
from lrat_ray.sections import Fields
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.json_text import as_text, block_texts, expect, from_json, lookup, number, why_not_json
from lrat_ray.trajectories.result_text import read_docids, read_result_text

# The usual names, in the order in which they are tried; docs/formats.md lists them.
RESULTS = ("results", "documents", "data", "hits", "organic", "organic_results", "items", "output")
DOCID = ("docid", "doc_id", "id", "url", "link", "document_id", "source", "pid")
TITLE = ("title", "name")
SNIPPET = ("snippet", "text", "content", "description", "contents", "body", "page_content")
SCORE = ("score", "relevance")
# Where a tool's answer is wrapped: Model Context Protocol, JSON-RPC, LangChain's tool messages.
_WRAPPERS = ("structuredContent", "content", "result", "text")
_ONE_WORD = re.compile(r"\s*[^\s\[{]\S*\s*")

Piece = tuple[Any, str]
"""A part of a search output, with its place: a list of result objects, or a text."""


def parse_search_output(output: Any, dialect: Dialect, position: str = "output") -> list[SearchResult]:
    """The candidates that a search showed, in rank order: what `read_search_output` gives first."""
    return read_search_output(output, dialect, position)[0]


def read_search_output(output: Any, dialect: Dialect, position: str = "output") -> tuple[list[SearchResult], str | None]:
    """The candidates that a search showed, in rank order, and what is wrong with an output that should have shown some.

    output: a list of results (or docids) or an object that holds one under a usual name (or `dialect.fields.results`), either
    of them also as JSON text or in text blocks; or text in a form that `result_text` knows. Anything else (an error message,
    say) shows no candidates; wrong are JSON text that breaks off, and a list of errors. Raises LogError for a list whose items
    are not results.
    """
    results: list[SearchResult] = []
    problem: str | None = None
    for piece, place in _pieces(output, dialect.fields, position):
        rank = len(results) + 1
        if isinstance(piece, str) and not dialect.texts:
            docids = read_docids(piece)
            if dialect.aliases:
                docids = [dialect.docid(docid) for docid in docids]
            results += [SearchResult(docid=docid, rank=rank) for rank, docid in enumerate(docids, start=rank)]
        elif isinstance(piece, str):
            results += [
                SearchResult(docid=dialect.docid(docid), rank=rank, title=title, snippet=snippet)
                for rank, (docid, title, snippet) in enumerate(read_result_text(piece), start=rank)
            ]
        elif _are_docids(piece):
            results += [SearchResult(docid=dialect.docid(item.strip()), rank=rank) for rank, item in enumerate(piece, rank)]
        elif (error := _only_errors(piece, dialect.fields)) is not None:
            problem = problem or error
        else:
            results += [_result(item, rank + index, dialect, place, index) for index, item in enumerate(piece)]
        if isinstance(piece, str) and len(results) < rank and (broken := why_not_json(piece)) is not None:
            problem = problem or f"the output is {broken}"
    return results, problem


def _are_docids(items: list[Any]) -> bool:
    """Whether a list holds bare docids: single words, none of which is a result in a form of text."""
    if not items or not isinstance(items[0], str):
        return False
    return all(isinstance(item, str) and _ONE_WORD.fullmatch(item) for item in items) and not read_docids("\n".join(items))


def _only_errors(items: list[Any], fields: Fields) -> str | None:
    """What a list says in which errors stand in place of results."""
    if not items or not isinstance(items[0], dict) or not items[0].get("error"):
        return None
    errors = [isinstance(item, dict) and item.get("error") and _docid(item, fields) is None for item in items]
    return as_text(items[0]["error"]) if all(errors) else None


def _pieces(value: Any, fields: Fields, position: str) -> list[Piece]:
    """What of a tool's answer may show candidates."""
    data = from_json(value)
    if isinstance(data, str):
        return [(data, position)]
    if isinstance(data, list):
        texts = block_texts(data) if data else None
        if not texts or _are_docids(data):
            return [(data, position)]
        return _text_pieces(texts, fields, position)
    return _object_pieces(data, fields, position) if isinstance(data, dict) else []


def _text_pieces(texts: list[str], fields: Fields, position: str) -> list[Piece]:
    """Text blocks: one after the other, or each of them one result, as servers of the Model Context Protocol send lists."""
    objects = [from_json(text) for text in texts]
    if all(isinstance(item, dict) and "error" not in item and _docid(item, fields) is not None for item in objects):
        return [(objects, position)]
    if not any(isinstance(item, list | dict) for item in objects):
        return [("\n".join(texts), position)]
    return [piece for i, text in enumerate(texts) for piece in _pieces(text, fields, f"{position}[{i}].text")]


def _object_pieces(data: dict[str, Any], fields: Fields, position: str) -> list[Piece]:
    if fields.results is not None and (named := lookup(data, fields.results)) is not None:
        return _pieces(named, Fields(docid=fields.docid), f"{position}.{fields.results}")
    for name in (*(RESULTS if fields.results is None else ("output",)), *_WRAPPERS):
        inner = data.get(name)
        # A text under the name of a list ("data": "none found") is no list, but what a wrapper holds usually is a text.
        may_be_text = name in _WRAPPERS or name == "output"
        if isinstance(inner, list | dict | str if may_be_text else list | dict):
            found = _pieces(inner, fields, f"{position}.{name}")
            if found:
                return found
    return []


def _result(item: Any, rank: int, dialect: Dialect, place: str, index: int) -> SearchResult:
    if not isinstance(item, dict):
        expect(item, dict, f"{place}[{index}]")
    fields = dialect.fields
    docid = _docid(item, fields)
    if docid is None:
        name = fields.docid or DOCID[0]
        looked_for = fields.docid or ", ".join(DOCID)
        problem = f"the result has no docid (looked for {looked_for}; found {', '.join(item) or 'no field'})"
        raise LogError(f"{place}[{index}].{name}", f"{problem}; name its field with --fields docid=FIELD")
    if not dialect.texts:
        return SearchResult(docid=dialect.docid(docid), rank=rank)
    title, snippet = _field(item, fields.title, TITLE), _field(item, fields.snippet, SNIPPET)
    return SearchResult(
        docid=dialect.docid(docid),
        rank=rank,
        score=number(_field(item, fields.score, SCORE)),
        title=None if title is None else as_text(title),
        snippet=None if snippet is None else as_text(snippet),
    )


def _docid(item: dict[str, Any], fields: Fields) -> str | None:
    """What identifies the document: a string or a number, in the result or (by a usual name) in its metadata."""
    if fields.docid is not None:
        return _identifier(lookup(item, fields.docid))
    metadata = item.get("metadata")
    for holder in (item, metadata) if isinstance(metadata, dict) else (item,):
        for name in DOCID:
            if name in holder and (docid := _identifier(holder[name])) is not None:
                return docid
    return None


def _identifier(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _field(item: dict[str, Any], name: str | None, usual: tuple[str, ...]) -> Any:
    if name is not None:
        return lookup(item, name)
    return next((item[known] for known in usual if item.get(known) is not None), None)
