"""Protocol reference: the rules of the public miner, one by one (test_pipeline compares whole files with its output)."""

from __future__ import annotations

from lrat_ray.mining.pairs import NoPair, Outcome
from lrat_ray.mining.reference import reference_pairs
from lrat_ray.schema import Pair
from tests.mining.steps import browse, judged, search, sets, think, trajectory


def triples(outcomes: list[Outcome]) -> list[tuple[str, str, list[str]]]:
    return [(o.query, o.positive_docid, o.negative_docids) for o in outcomes if isinstance(o, Pair)]


def test_a_run_of_browses_shares_its_window_and_its_dismissed_documents_come_first() -> None:
    of = trajectory(
        search("q0", "a", "b", "c"), browse("a"), think("no"), search("q1", "d", "e"), browse("d"), think("no"), browse("e")
    )
    outcomes = reference_pairs(sets(of), judged(of, False, False, True))
    assert triples(outcomes) == [("q0", "a", ["b", "c"]), ("q1", "d", ["a", "b", "c"]), ("q1", "e", ["d", "a", "b", "c"])]
    assert [o.relevant for o in outcomes if isinstance(o, Pair)] == [False, False, True]


def test_a_useful_run_ends_the_window() -> None:
    of = trajectory(search("q0", "a", "b"), browse("a"), search("q1", "c"), browse("c"), browse("b"))
    outcomes = reference_pairs(sets(of), judged(of, True, True, True))
    assert triples(outcomes) == [("q0", "a", ["b"]), ("q1", "c", [])]
    assert isinstance(outcomes[2], NoPair) and outcomes[2].reason == "not shown"


def test_a_browse_is_paired_with_the_latest_query_even_if_an_earlier_one_showed_it() -> None:
    of = trajectory(think("h0"), search("q0", "a", "b"), think("h1"), search("q1", "c"), browse("a"))
    (outcome,) = reference_pairs(sets(of), judged(of, True))
    assert triples([outcome]) == [("q1", "a", ["c", "b"])]
    assert isinstance(outcome, Pair) and (outcome.search_reasoning, outcome.positive_rank) == (None, 1)


def test_a_second_thought_ends_a_run_and_so_does_a_browse_of_nothing_that_is_followed_by_one() -> None:
    of = trajectory(search("q", "a", "b"), browse("a"), think("yes"), think("really"), browse("b"))
    assert triples(reference_pairs(sets(of), judged(of, True, True))) == [("q", "a", ["b"])]
    of = trajectory(search("q", "a", "b"), browse(None), browse("a"), browse(None), think("hm"), browse("b"))
    assert triples(reference_pairs(sets(of), judged(of, True, True))) == [("q", "a", ["b"])]


def test_a_failed_judgement_gives_no_pair_and_no_negative() -> None:
    of = trajectory(search("q", "a", "b", "c"), browse("a"), browse("b"))
    outcomes = reference_pairs(sets(of), judged(of, "timeout", True))
    assert triples(outcomes) == [("q", "b", ["c"])]
    assert isinstance(outcomes[0], NoPair) and outcomes[0].reason == "judge failed"
