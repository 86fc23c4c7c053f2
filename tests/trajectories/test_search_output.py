"""Search outputs of every form that we know give the candidates that the agent saw; what is broken is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lrat_ray.schema import SearchResult
from lrat_ray.sections import Fields
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.search_output import parse_search_output, read_search_output

DIALECT = Dialect()


def docids(output: Any, dialect: Dialect = DIALECT) -> list[str]:
    """The docids that a search showed, which are the same without texts; ranks count from 1."""
    results = parse_search_output(output, dialect)
    fast = parse_search_output(output, Dialect(fields=dialect.fields, aliases=dialect.aliases, texts=False))
    assert [(r.docid, r.rank) for r in fast] == [(r.docid, r.rank) for r in results]
    assert [r.rank for r in results] == list(range(1, len(results) + 1))
    assert all((r.title, r.snippet, r.score) == (None, None, None) for r in fast)
    return [r.docid for r in results]


def text(value: Any) -> dict[str, Any]:
    return {"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}


def test_text_blocks_give_ranked_candidates_with_whole_titles() -> None:
    long_title = "List of twin towns and sister cities in the Czech Republic"
    output = (
        "A search for 'q' found 4 results:\n\n## Web Results\n"
        "DocID:11\n[Short]\nShort\nfirst line\n\nsecond paragraph\n\n"
        f"DocID: 12\n[{long_title[:50]}...]\n{long_title}\nbody\n\n"
        f"DocID:13\n[{long_title[:50]}...]\nList of twin\n\n"
        "DocID:14\nno title"
    )
    assert parse_search_output(output, DIALECT) == [
        SearchResult(docid="11", rank=1, title="Short", snippet="first line\n\nsecond paragraph"),
        SearchResult(docid="12", rank=2, title=long_title, snippet="body"),
        SearchResult(docid="13", rank=3, title=f"{long_title[:50]}...", snippet="List of twin"),
        SearchResult(docid="14", rank=4, title=None, snippet="no title"),
    ]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_list_of_results_may_come_as_json_or_as_its_text(as_text: bool) -> None:
    items = [{"docid": 5, "score": 2, "snippet": "s"}, {"docid": "6"}]
    assert parse_search_output(json.dumps(items) if as_text else items, DIALECT) == [
        SearchResult(docid="5", rank=1, score=2.0, snippet="s"),
        SearchResult(docid="6", rank=2),
    ]


@pytest.mark.parametrize("output", [None, "", "Error: timeout", "[Errno 5] broken", {"error": "timeout"}])
def test_a_failed_search_shows_no_candidates(output: Any) -> None:
    assert parse_search_output(output, DIALECT) == []


@pytest.mark.parametrize(
    "output",
    [
        '[{"docid": "a", "score": NaN}, {"docid": "b"}]',
        '[{"docid": "a", "snippet": "\\ud83d"}, {"docid": "b"}]',
        "[{'docid': 'a', 'title': None}, {'docid': \"b\"}]",
        "['a', 'b']",
        {"content": [text("[{'docid': 'a'}, {'docid': 'b'}]")]},
    ],
)
def test_what_is_almost_json_shows_its_candidates(output: Any) -> None:
    assert docids(output) == ["a", "b"]
    assert read_search_output(output, DIALECT)[1] is None


BREAKS_OFF = "the output is not JSON; it breaks off"


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ('[{"docid": "a"}, {"docid": "b', BREAKS_OFF),
        ('[{"docid": "a"}, {"docid": 12', BREAKS_OFF),
        ('{"results": [{"docid": "a"}', BREAKS_OFF),
        ('["a", "b"', BREAKS_OFF),
        ({"output": '[{"docid": "a'}, BREAKS_OFF),
        ([text('[{"docid": "a')], BREAKS_OFF),
        ("[{'docid': 'a'}, {'docid': 12", "the output is not JSON"),
        ('[{"docid": "a"}] and more', "the output is not JSON"),
        ([{"error": "timeout"}, {"error": "timeout", "code": 5}], "timeout"),
        ('[{"error": {"code": 5}}]', '{"code": 5}'),
        ("[Errno 5] broken", None),
        ("[see (Title: none)](", None),
        (["No results."], None),
        ('["No results."]', None),
        ('["A"](DocID:7)\nDocID: 7\n', None),
    ],
    ids=str,
)
def test_an_output_that_should_show_candidates_but_does_not_says_why(output: Any, problem: str | None) -> None:
    found, said = read_search_output(output, DIALECT)
    assert ([result.docid for result in found], said) == (["7"] if "DocID" in output else [], problem)


SHOW_A_AND_B: list[Any] = [
    [{"docid": "a"}, {"docid": "b"}],
    [{"id": "a"}, {"url": "b"}],
    [{"doc_id": "a"}, {"link": "b"}],
    [{"document_id": "a"}, {"source": "b"}],
    [{"pid": "a"}, {"docid": " b "}],
    [{"docid": None, "id": "a"}, {"docid": {"x": 1}, "id": "b"}],
    [{"page_content": "t", "metadata": {"source": "a"}}, {"id": "b", "metadata": {"source": "c"}}],
    {"results": [{"id": "a", "title": "A", "url": "http://a"}, {"id": "b"}]},
    {"documents": [{"id": "a"}, {"id": "b"}]},
    {"data": {"organic": [{"link": "a"}, {"link": "b"}]}},
    {"hits": [{"id": "a"}, {"id": "b"}], "total": 2},
    {"organic": [{"link": "a"}, {"link": "b"}]},
    {"organic_results": [{"link": "a"}, {"link": "b"}]},
    {"items": [{"link": "a"}, {"link": "b"}]},
    {"output": '[{"docid": "a"}, {"docid": "b"}]'},
    {"output": "DocID:a\n[A]\n\nDocID:b"},
    {"content": [text([{"docid": "a"}, {"docid": "b"}])]},
    {"content": [text({"docid": "a", "text": "t"}), text({"docid": "b"})]},
    {"content": [text("DocID:a\n[A]\n"), text("DocID:b")], "isError": False},
    {"content": [text("see below")], "structuredContent": {"result": [{"docid": "a"}, {"docid": "b"}]}},
    {"jsonrpc": "2.0", "id": 1, "result": {"content": [text({"results": [{"id": "a"}, {"id": "b"}]})]}},
    {"type": "tool", "content": '[{"id": "a"}, {"id": "b"}]'},
    [text("2 results"), text([{"id": "a"}, {"id": "b"}])],
    [text([{"id": "a"}]), text([{"id": "b"}])],
    [{"type": "search_result", "source": "a", "content": [text("t")]}, {"type": "search_result", "source": "b"}],
    ["a", " b"],
    {"results": ["a", "b"]},
]
TEXTS_OF_A_AND_B: list[Any] = [
    ["DocID:a", "DocID:b"],
    'Doc 1(Title: "a") text of a\nDoc 2(Title: "b") text of b\n',
    "A Google search for 'q' found 2 results:\n\n## Web Results\n1. [A](a)\nText.\n\n2. [B [b]](b)\nText.",
]


@pytest.mark.parametrize(
    "output",
    [*SHOW_A_AND_B, *(json.dumps(output) for output in SHOW_A_AND_B), *TEXTS_OF_A_AND_B],
    ids=lambda output: json.dumps(output)[:60],
)
def test_results_are_found_in_every_wrapping(output: Any) -> None:
    assert docids(output) == ["a", "b"]


@pytest.mark.parametrize(
    "output",
    [
        [],
        "[]",
        {},
        {"results": []},
        {"results": "none found"},
        {"content": [text("No results.")], "isError": True},
        {"content": [text({"error": "timeout", "id": 4})]},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 2}},
        [text("No results.")],
        "[see (Title: none)](",
        3,
        "{broken",
    ],
    ids=repr,
)
def test_what_shows_nothing_gives_no_candidates(output: Any) -> None:
    assert docids(output) == []


@pytest.mark.parametrize(
    ("output", "position"),
    [
        ([{"docid": "1"}, {"score": 1}], "here[1].docid"),
        ([{"docid": True}], "here[0].docid"),
        ([{"docid": 1.5}], "here[0].docid"),
        ([{"docid": " "}], "here[0].docid"),
        ([{"docid": "1"}, 3], "here[1]"),
        ({"results": ["a", 3]}, "here.results[0]"),
        ({"data": {"items": [{"x": 1}]}}, "here.data.items[0].docid"),
        ({"content": [text([{"x": 1}])]}, "here.content[0].text[0].docid"),
    ],
)
def test_a_list_of_something_else_is_refused_with_the_place(output: Any, position: str) -> None:
    with pytest.raises(LogError) as error:
        parse_search_output(output, DIALECT, "here")
    assert error.value.position == position


def test_the_refusal_names_what_was_looked_for_and_the_flag() -> None:
    with pytest.raises(
        LogError, match=r"looked for docid, doc_id, .*; found ref, text\); name its field with --fields docid=FIELD"
    ):
        parse_search_output([{"ref": 1, "text": "t"}], DIALECT)
    with pytest.raises(LogError, match=r"output\[0\].a.b: the result has no docid \(looked for a.b; found docid\)"):
        parse_search_output([{"docid": "1"}], Dialect(fields=Fields(docid="a.b")))


def test_named_fields_are_read_and_nothing_else() -> None:
    fields = Fields(results="web.hits", docid="meta.ref", title="headline", snippet="lines", score="ranking.bm25")
    item = {
        "id": "wrong",
        "meta": {"ref": 7},
        "title": "wrong",
        "headline": "T",
        "lines": ["one", "two"],
        "ranking": {"bm25": 2},
        "score": 9,
    }
    output = {"results": [{"id": "wrong"}], "web": {"hits": [item]}}
    expected = [SearchResult(docid="7", rank=1, score=2.0, title="T", snippet="one two")]
    assert parse_search_output(output, Dialect(fields=fields)) == expected
    assert parse_search_output({"content": [text(output)]}, Dialect(fields=fields)) == expected
    assert docids({"results": [{"id": "wrong"}]}, Dialect(fields=fields)) == []
    assert docids([item], Dialect(fields=fields)) == ["7"]


def test_fields_with_dots_in_their_names_are_found_too() -> None:
    assert docids([{"meta.ref": "7"}], Dialect(fields=Fields(docid="meta.ref"))) == ["7"]


def test_usual_names_fill_title_snippet_and_score() -> None:
    output = [
        {"id": 1, "name": "N", "text": "t", "relevance": 0.5},
        {"id": 2, "title": None, "name": "N", "description": [{"type": "text", "text": "d"}], "score": "1.5"},
        {"id": 3, "content": {"a": 1}, "score": "high"},
        {"id": 4, "score": True},
    ]
    assert parse_search_output(output, DIALECT) == [
        SearchResult(docid="1", rank=1, score=0.5, title="N", snippet="t"),
        SearchResult(docid="2", rank=2, score=1.5, title="N", snippet="d"),
        SearchResult(docid="3", rank=3, snippet='{"a": 1}'),
        SearchResult(docid="4", rank=4),
    ]


def test_a_score_that_no_float_holds_is_none() -> None:
    assert parse_search_output([{"id": 1, "score": 10**400}], DIALECT) == [SearchResult(docid="1", rank=1)]


@pytest.mark.parametrize(
    "output",
    [[{"url": "http://a"}, {"url": "http://b"}], "DocID:http://a\n[A]\n\nDocID:http://b", "1. [A](http://a)\n2. [B](http://b)"],
)
def test_aliases_give_the_docids_of_the_corpus(output: Any) -> None:
    assert docids(output, Dialect(aliases={"http://a": "7"})) == ["7", "http://b"]


def test_the_titles_of_search_r1_stand_for_docids() -> None:
    output = 'Doc 1(Title: "Mercury (planet)") The first.\nMore.\n\nDoc 2(Title: Venus) The (second)\n'
    assert parse_search_output(output, DIALECT) == [
        SearchResult(docid="Mercury (planet)", rank=1, title="Mercury (planet)", snippet="The first.\nMore."),
        SearchResult(docid="Venus", rank=2, title="Venus", snippet="The (second)"),
    ]


def test_the_links_of_a_web_search_stand_for_docids() -> None:
    output = "found 2 results:\n\n1. [A b](https://x/A_(b))\nDate: 1\n\ntext\n\n2. [C](https://y)\n"
    assert parse_search_output(output, DIALECT) == [
        SearchResult(docid="https://x/A_(b)", rank=1, title="A b", snippet="Date: 1\n\ntext"),
        SearchResult(docid="https://y", rank=2, title="C", snippet=""),
    ]
