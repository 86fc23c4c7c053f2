"""Protocol window, on trajectories small enough to see the answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.mining.judge import was_useful
from lrat_ray.mining.negatives import paper_pairs, window_pairs
from lrat_ray.mining.pairs import NoPair, Outcome
from lrat_ray.schema import Pair, Step
from tests.mining.steps import browse, judged, search, sets, think, trajectory


def negatives(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Pair)
    return outcome.negative_docids


def test_unbrowsed_candidates_come_first_then_dismissed_ones_most_recent_search_first() -> None:
    of = trajectory(search("q0", "a", "b", "c"), browse("b"), search("q1", "d", "e", "a"), browse("e"))
    dismissed, pair = window_pairs(sets(of), judged(of, False, True), strict=True)
    assert isinstance(dismissed, NoPair) and dismissed.reason == "judged irrelevant"
    assert negatives(pair) == ["d", "a", "c", "b"]


def test_the_window_opens_after_the_last_useful_browse() -> None:
    of = trajectory(search("q0", "a", "b"), browse("a"), search("q1", "c", "d"), browse("c"))
    assert [negatives(o) for o in window_pairs(sets(of), judged(of, True, True), strict=True)] == [["b"], ["d"]]


def test_the_candidate_set_of_the_browses_own_search_is_always_in_the_window() -> None:
    of = trajectory(search("q0", "a", "b", "c"), search("q1", "d"), browse("d"), search("q2", "e"), browse("a"), browse("b"))
    pairs = window_pairs(sets(of), judged(of, True, True, True), strict=True)
    assert [negatives(o) for o in pairs] == [["c"], ["e", "c"], ["c"]]
    assert [o.query for o in pairs if isinstance(o, Pair)] == ["q1", "q0", "q0"]


def test_strict_negatives_never_hold_what_the_trajectory_finds_useful_later() -> None:
    """The public miner takes such documents as negatives until they are opened."""
    of = trajectory(search("q0", "a", "b", "c"), browse("a"), search("q1", "c", "b"), browse("b"), browse("c"))
    browses = judged(of, True, True, False)
    assert negatives(window_pairs(sets(of), browses, strict=True)[0]) == ["c"]
    assert negatives(window_pairs(sets(of), browses, strict=False)[0]) == ["b", "c"]
    browses = judged(of, True, True, "the judge failed")  # c may be relevant
    assert negatives(window_pairs(sets(of), browses, strict=True)[0]) == []


def test_a_document_dismissed_once_and_useful_another_time_is_no_negative() -> None:
    of = trajectory(search("q0", "a", "b"), browse("b"), search("q1", "a", "b"), browse("a"), browse("b"))
    assert negatives(window_pairs(sets(of), judged(of, False, True, True), strict=True)[1]) == []


def test_every_browse_without_a_pair_has_its_reason() -> None:
    of = trajectory(search(None, "a"), search("q", "b"), browse("a"), browse("x"), browse("b"), browse("b"), think("t"))
    outcomes = window_pairs(sets(of), judged(of, True, None, False, "timeout"), strict=True)
    rejections = [outcome for outcome in outcomes if isinstance(outcome, NoPair)]
    assert [rejection.reason for rejection in rejections] == [
        "no query",
        "not shown",
        "judged irrelevant",
        "judge failed",
    ]
    assert "trajectory t: browse step 5 opened docid 'b', but its judgement failed: timeout" in rejections[3].detail


def test_a_pair_carries_what_training_needs() -> None:
    of = trajectory(think("hm"), search("q", "b", "a"), browse("a"), think("aha"))
    (pair,) = window_pairs(sets(of), judged(of, None), strict=True)
    assert pair == Pair(
        pair_id="t/2",
        trajectory_id="t",
        query_id="q",
        agent="a",
        question="who?",
        query="q",
        positive_docid="a",
        positive_rank=2,
        negative_docids=["b"],
        browse_step=2,
        relevant=True,
        reasoning_tokens=0,
        weight=0.0,
        search_reasoning="hm",
    )


DOCIDS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.lists(DOCIDS, max_size=4, unique=True).map(lambda docids: search("q", *docids)),
        DOCIDS.map(browse),
        st.just(think("hm")),
    ),
    max_size=14,
)


@given(steps=STEPS, strict=st.booleans(), data=st.data())
def test_negatives_were_shown_before_and_are_never_known_to_be_useful(
    steps: list[Step], strict: bool, data: st.DataObject
) -> None:
    of = trajectory(*steps)
    verdict = st.sampled_from([True, False, None, "failed"])
    browses = judged(of, *[data.draw(verdict) for step in steps if step.kind == "browse"])
    outcomes = window_pairs(sets(of), browses, strict=strict)
    assert len(outcomes) == len(browses)
    for row, outcome in zip(browses, outcomes, strict=True):
        if isinstance(outcome, NoPair):
            continue
        shown = {result.docid for step in of.steps[: row.browse_step] for result in step.results}
        useful = {other.docid for other in browses if was_useful(other) and (strict or other.browse_step <= row.browse_step)}
        assert set(outcome.negative_docids) <= shown - useful
        assert len(set(outcome.negative_docids)) == len(outcome.negative_docids)
        own = {result.docid for result in of.steps[row.search_step].results}
        never_opened = own - {other.docid for other in browses}
        assert never_opened <= set(outcome.negative_docids)


def test_paper_negatives_are_the_unbrowsed_rest_of_the_same_candidate_set() -> None:
    of = trajectory(
        search("q0", "a", "b", "c", "d"), browse("b"), search("q1", "e", "c"), browse("c"), browse("d"), think("ok")
    )
    browses = judged(of, True, True, False)
    outcomes = paper_pairs(sets(of), browses, strict=True)
    # c was found useful later, d opened (and dismissed) from q0: neither is a negative of b.
    assert [negatives(o) for o in outcomes[:2]] == [["a"], ["e"]]
    assert isinstance(outcomes[2], NoPair) and outcomes[2].reason == "judged irrelevant"
    assert negatives(paper_pairs(sets(of), browses, strict=False)[0]) == ["a", "c"]


def test_what_other_trajectories_of_the_question_found_useful_is_no_negative_where_negatives_are_strict() -> None:
    of = trajectory(search("q0", "a", "b", "c"), browse("b"))
    for pairs_of in (paper_pairs, window_pairs):
        (strict,) = pairs_of(sets(of), judged(of, True), strict=True, useful_elsewhere={"c"})
        (plain,) = pairs_of(sets(of), judged(of, True), strict=False, useful_elsewhere={"c"})
        assert (negatives(strict), negatives(plain)) == (["a"], ["a", "c"])


@given(steps=STEPS, strict=st.booleans(), data=st.data())
def test_paper_negatives_are_a_part_of_the_windows(steps: list[Step], strict: bool, data: st.DataObject) -> None:
    of = trajectory(*steps)
    verdict = st.sampled_from([True, False, None, "failed"])
    browses = judged(of, *[data.draw(verdict) for step in steps if step.kind == "browse"])
    paper, window = (protocol(sets(of), browses, strict=strict) for protocol in (paper_pairs, window_pairs))
    for row, ours, wider in zip(browses, paper, window, strict=True):
        assert isinstance(ours, NoPair) == isinstance(wider, NoPair)
        if isinstance(ours, Pair):
            own = [result.docid for result in of.steps[row.search_step].results]
            assert set(ours.negative_docids) <= set(own) - {row.docid}
            assert not strict or set(ours.negative_docids) <= set(negatives(wider))
            assert not set(ours.negative_docids) & {other.docid for other in browses if other.judge_status == "failed"}
