"""Tool calls: what they are by their names, what they asked for under whatever name, what became of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.schema import Step
from lrat_ray.sections import Fields
from lrat_ray.trajectories.calls import ToolCalls
from lrat_ray.trajectories.dialect import Dialect


def call(name: str, arguments: Any, output: Any = "", dialect: Dialect | None = None, **more: Any) -> Step:
    return ToolCalls(dialect or Dialect()).step(name, arguments, output, turn=0, position="output", **more)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("search", "search"),
        ("browser.search", "search"),
        ("mcp__web__search", "search"),
        ("mcp__web.v1__search", "search"),
        ("functions.browser.open", "browse"),
        ("mcp__lrat__get_document", "browse"),
        ("search__python", "other"),
        ("research", "other"),
        ("search.", "other"),
        ("web_search", "other"),
        ("", "other"),
    ],
)
def test_a_tool_is_known_by_its_whole_name_or_the_last_part(name: str, kind: str) -> None:
    assert call(name, {"query": "q", "docid": "1"}).kind == kind


def test_tools_may_have_names_of_their_own_and_the_log_the_last_word() -> None:
    dialect = Dialect(search_tools=frozenset({"a.find"}), browse_tools=frozenset({"look"}))
    assert [call(name, {}, dialect=dialect).kind for name in ("a.find", "b.find", "x.look", "search")] == [
        "search",
        "other",
        "browse",
        "other",
    ]
    assert call("web_search_call", {"query": "q"}, kind="search").executed_query == "q"


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ({"query": "a"}, ["a"]),
        ({"user_query": "a"}, ["a"]),
        ({"q": "a"}, ["a"]),
        ({"queries": ["a", "b"]}, ["a", "b"]),
        ({"search_query": [{"q": "a"}, {"q": "b"}]}, ["a", "b"]),
        ({"input": "a"}, ["a"]),
        ({"query": " ", "q": "a"}, ["a"]),
        ({"query": None, "queries": ["", "a"]}, ["a"]),
        ({"query": {"text": "a"}}, []),
        ({"topic": "a"}, []),
    ],
)
def test_a_query_is_found_under_its_usual_names(arguments: dict[str, Any], queries: list[str]) -> None:
    step = call("search", arguments)
    assert (step.queries, step.executed_query) == (queries, queries[0] if queries else None)
    assert step.error == (None if queries else "the arguments hold no query")


def test_a_named_query_is_read_and_no_other() -> None:
    dialect = Dialect(fields=Fields(query="request.topic"))
    assert call("search", {"query": "wrong", "request": {"topic": "a"}}, dialect=dialect).queries == ["a"]
    assert call("search", {"query": "wrong"}, dialect=dialect).queries == []


@pytest.mark.parametrize(
    ("arguments", "docid"),
    [
        ({"docid": 7}, "7"),
        ({"id": "7", "cursor": 3}, "7"),
        ({"url": ["http://x", "http://y"], "goal": "g"}, "http://x"),
        ({"docid": None, "link": "7"}, "7"),
        ({"docid": [], "source": "7"}, "7"),
        ({"docid": True, "pid": 7}, "7"),
        ({"document_id": "wiki:7"}, "7"),
        ({"doc_id": ":"}, None),
        ({"docid": " "}, None),
        ({"page": "7"}, None),
    ],
)
def test_a_document_is_found_under_its_usual_names(arguments: dict[str, Any], docid: str | None) -> None:
    step = call("visit", arguments)
    assert (step.docid, step.error) == (docid, None if docid else "the arguments hold no docid")


def test_a_named_docid_comes_first_but_browse_tools_often_call_it_otherwise() -> None:
    dialect = Dialect(fields=Fields(docid="link"))
    assert call("visit", {"id": "wrong", "link": "7"}, dialect=dialect).docid == "7"
    assert call("visit", {"url": "http://x"}, dialect=dialect).docid == "http://x"


def test_aliases_hold_for_what_was_shown_and_what_was_opened() -> None:
    calls = ToolCalls(Dialect(aliases={"http://x": "wiki:7", "8": "wiki:8"}))
    shown = calls.step("search", {"query": "q"}, [{"url": "http://x"}], turn=0, position="output")
    assert [result.docid for result in shown.results] == ["wiki:7"]
    opened = [{"url": "http://x"}, {"docid": "wiki:7"}, {"docid": "a:8"}, {"docid": "a:9"}]
    steps = [calls.step("visit", arguments, "", turn=0, position="output") for arguments in opened]
    assert [step.docid for step in steps] == ["wiki:7", "wiki:7", "wiki:8", "9"]


def test_a_tool_that_failed_shows_nothing_and_says_why() -> None:
    step = call("search", {"query": "q"}, '[{"code": 500}]', failure="timeout")
    assert (step.results, step.error, step.output) == ([], "timeout", '[{"code": 500}]')
    step = call("visit", "{broken", "x", failure="timeout")
    assert (step.docid, step.error, step.arguments) == (None, "timeout", "{broken")


def test_arguments_and_output_are_kept_as_text() -> None:
    step = call("python", {"code": "á"}, {"ok": 1}, call_id="c")
    assert (step.kind, step.arguments, step.output, step.call_id) == ("other", '{"code": "á"}', '{"ok": 1}', "c")
    assert call("python", None, None).arguments == "{}"


def test_arguments_that_only_python_reads_as_json_are_read() -> None:
    assert call("visit", '{"docid": "7", "goal": "\\ud83d"}').docid == "7"
    assert call("visit", '{"docid": "7", "top": NaN}').docid == "7"
    step = call("visit", "{'docid': '7'}")  # a call that no tool understood
    assert step.docid is None and str(step.error).startswith("the arguments are not JSON: ")


def test_a_search_whose_output_is_broken_says_so() -> None:
    step = call("search", {"query": "q"}, '[{"docid": "1"}, {"doc')
    assert (step.results, step.error) == ([], "the output is not JSON; it breaks off")
    assert call("search", {"query": "q"}, [{"error": "timeout"}]).error == "timeout"
