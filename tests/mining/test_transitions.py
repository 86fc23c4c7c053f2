"""Which search a browse belongs to, and which reasoning."""

from __future__ import annotations

from dataclasses import replace

from lrat_ray.mining.lengths import measured
from lrat_ray.mining.transitions import NOT_SHOWN, candidate_sets, find_browses, search_reasoning
from lrat_ray.schema import CandidateSets, Step
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
    assert [r.reasoning for r in find_browses(of, "f", "last")[0]] == ["", "one\ntwo"]
    assert [r.reasoning for r in find_browses(of, "f", "first-step")[0]] == ["", "one"]


def test_browses_without_reasoning_between_them_share_what_follows_the_last() -> None:
    of = trajectory(search("q", "a", "b", "c"), browse("a"), think("x"), browse("b"), browse(None), browse("c"), think("y"))
    rows = find_browses(of, "f", "spread")[0]
    assert [(r.docid, r.reasoning, r.shared_by) for r in rows] == [("a", "x", 1), ("b", "y", 2), ("c", "y", 2)]
    assert [(r.run_position, r.run_length) for r in rows] == [(0, 3), (1, 3), (2, 3)]
    rows = find_browses(of, "f", "last")[0]
    assert [(r.docid, r.reasoning, r.shared_by) for r in rows] == [("a", "x", 1), ("b", "", 1), ("c", "y", 1)]


def test_a_search_ends_a_run_and_what_is_thought_after_it_is_not_about_the_browse() -> None:
    of = trajectory(search("q", "a", "b"), browse("a"), search("r", "b"), think("hm"), browse("b"), think("yes"))
    rows = find_browses(of, "f")[0]
    assert [(r.reasoning, r.run_position, r.run_length) for r in rows] == [("", 0, 1), ("yes", 0, 1)]


def test_calls_of_one_turn_are_thought_about_together() -> None:
    """Chat models call tools in parallel: the next turn's reasoning is about all of them."""
    of = trajectory(search("q", "a", "b"), browse("a"), search("r"), browse("b"), think("both"))
    parallel = replace(of, steps=[replace(step, turn=1) if step.kind != "reasoning" else step for step in of.steps])
    rows = find_browses(parallel, "f")[0]
    assert [(r.reasoning, r.shared_by, r.run_length) for r in rows] == [("both", 2, 1), ("both", 2, 1)]


def test_reasoning_of_which_only_the_length_was_logged_counts_and_is_shared() -> None:
    of = trajectory(search("q", "a", "b"), browse("a"), browse("b"), Step(turn=0, kind="reasoning", tokens=31))
    rows = find_browses(of, "f")[0]
    assert [(r.reasoning, r.reasoning_tokens) for r in rows] == [("", 16), ("", 16)]
    of = trajectory(search("q", "a"), browse("a"), *[Step(turn=0, kind="reasoning", tokens=n) for n in (100, 50)])
    (row,) = measured(find_browses(of, "f")[0], lambda texts: [0 for _ in texts])
    assert row.reasoning_tokens == 150


def test_a_document_listed_twice_by_one_search_has_its_better_rank() -> None:
    assert find_browses(trajectory(search("q", "a", "b", "a"), browse("a")), "f")[0][0].rank == 1


def test_candidate_sets_keep_what_pairs_are_made_of() -> None:
    of = trajectory(think("t"), search("q", "a", "b"), browse("a"), search(None), Step(turn=0, kind="answer", text="x"))
    assert candidate_sets(of, 1) == CandidateSets(
        trajectory_id="t", browses=1, correct=None, kinds="rsbsa", queries=["q", ""], candidates=[["a", "b"], []]
    )


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
