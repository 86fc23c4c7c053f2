"""Which search a browse belongs to, and which reasoning."""

from __future__ import annotations

from dataclasses import replace

from lrat_ray.mining.transitions import NOT_SHOWN, find_browses, search_reasoning
from tests.mining.steps import browse, search, think, trajectory


def test_a_browse_belongs_to_the_most_recent_search_that_showed_the_document() -> None:
    of = trajectory(
        think("first"),
        search("q0", "a", "b"),
        think("second"),
        search("q1", "b", "c"),
        search("q2", "d"),
        browse("b"),
        browse("a"),
    )
    rows, rejected = find_browses(of, "run.json")
    assert rejected == []
    assert [(r.browse_step, r.docid, r.search_step, r.rank, r.query, r.search_reasoning) for r in rows] == [
        (5, "b", 3, 1, "q1", "second"),
        (6, "a", 1, 1, "q0", "first"),
    ]


def test_a_document_that_is_shown_only_later_was_not_shown() -> None:
    rows, _ = find_browses(trajectory(browse("a"), search("q", "a")), "run.json")
    assert [(r.search_step, r.rank, r.query, r.search_reasoning) for r in rows] == [(NOT_SHOWN, 0, "", None)]


def test_post_browse_reasoning_is_what_follows_directly() -> None:
    of = trajectory(search("q", "a", "b"), browse("a"), browse("b"), think("one"), think("two"), search("r"), think("three"))
    assert [r.reasoning for r in find_browses(of, "f")[0]] == ["", "one\ntwo"]
    assert [r.reasoning for r in find_browses(of, "f", max_reasoning_steps=1)[0]] == ["", "one"]


def test_a_document_opened_twice_gives_two_rows() -> None:
    of = trajectory(search("q", "a"), browse("a"), think("no"), search("r", "b"), browse("a"), think("yes"))
    assert [(r.browse_step, r.query, r.reasoning) for r in find_browses(of, "f")[0]] == [(1, "q", "no"), (4, "q", "yes")]


def test_a_browse_that_opened_nothing_is_rejected_with_its_place() -> None:
    failed = replace(browse("a"), error="status 404")
    rows, rejected = find_browses(trajectory(search("q", "a"), browse(None), failed), "run.json")
    assert rows == []
    assert [(r.source, r.position, r.reason) for r in rejected] == [
        ("run.json", "trajectory t, step 1", "failed browse"),
        ("run.json", "trajectory t, step 2", "failed browse"),
    ]
    assert "names no document" in rejected[0].detail and "status 404" in rejected[1].detail


def test_searches_of_one_turn_share_the_reasoning_before_them() -> None:
    of = trajectory(search("p"), think("a"), think("b"), search("q"), search("r"))
    parallel = [replace(step, turn=1) if number > 0 else step for number, step in enumerate(of.steps)]
    assert [search_reasoning(parallel, n) for n in (0, 3, 4)] == [None, "a\nb", "a\nb"]
    assert search_reasoning(of.steps, 4) is None
