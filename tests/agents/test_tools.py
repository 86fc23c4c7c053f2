from __future__ import annotations

import pytest

from lrat_ray.agents.tools import ToolCallError, format_document, format_results, read_docid, read_queries
from lrat_ray.schema import Document, SearchResult


def test_results_are_shown_without_score_and_rank() -> None:
    results = [
        SearchResult(docid="7", rank=1, score=0.875, title="Amber", snippet="It is yellow."),
        SearchResult(docid="8", rank=2, score=0.5, title=None, snippet="No title."),
    ]
    assert format_results(results) == "DocID:7\n[Amber]\nIt is yellow.\n\nDocID:8\nNo title."
    assert format_results([]) == "No results."


def test_document_text() -> None:
    assert format_document(Document(docid="7", title="Amber", text="It is yellow.")) == "Document 7:\nAmber\nIt is yellow."
    assert format_document(Document(docid="8", text="No title.")) == "Document 8:\nNo title."


@pytest.mark.parametrize(("arguments", "queries"), [('{"query": " a "}', ["a"]), ('{"query": ["a", "b", ""]}', ["a", "b"])])
def test_queries(arguments: str, queries: list[str]) -> None:
    assert read_queries(arguments) == queries


def test_half_characters_that_json_escapes_are_replaced() -> None:
    assert read_queries('{"query": ["a \\ud800"]}') == ["a \ufffd"]
    assert read_docid('{"docid": "\\udc00"}') == "\ufffd"


@pytest.mark.parametrize("arguments", ["", "query", "[]", '{"query": 3}', '{"query": []}', '{"q": "a"}', '{"query": " "}'])
def test_no_query(arguments: str) -> None:
    with pytest.raises(ToolCallError):
        read_queries(arguments)


@pytest.mark.parametrize(("arguments", "docid"), [('{"docid": "d7"}', "d7"), ('{"docid": 7}', "7")])
def test_docid(arguments: str, docid: str) -> None:
    assert read_docid(arguments) == docid


@pytest.mark.parametrize("arguments", ["{", '{"docid": null}', '{"docid": ""}', '{"docid": ["7"]}', '{"id": "7"}'])
def test_no_docid(arguments: str) -> None:
    with pytest.raises(ToolCallError):
        read_docid(arguments)
