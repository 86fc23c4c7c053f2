"""What is known of a question over all its trajectories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.mining.judge import Verdict, with_verdict
from lrat_ray.mining.questions import VERDICTS, at_threshold, by_question, over_the_cap, retention, useful_documents
from lrat_ray.schema import Browse, to_table
from tests.mining.steps import browse, judged, search, trajectory

ONE = judged(trajectory(search("q", "a"), browse("a")), None)[0]


def browsed(query_id: str, docid: str, verdict: Verdict | None) -> Browse:
    return with_verdict(replace(ONE, query_id=query_id, docid=docid), verdict)


def table(*browses: Browse) -> pa.Table:
    return to_table(browses, Browse).select(VERDICTS)


def test_useful_documents_are_known_by_question_from_whichever_trajectory_found_them() -> None:
    first = table(browsed("q1", "a", True), browsed("q1", "b", False), browsed("q2", "c", None))
    second = table(browsed("q1", "d", True), browsed("q1", "a", True), browsed("q3", "e", "the judge failed"))
    useful = useful_documents([first, second])
    assert len(useful) == 4  # a document whose judgement failed may have been useful
    asked = [browsed(query_id, "x", None) for query_id in ("q1", "q3", "q1")]
    assert by_question(useful, asked) == {"q1": {"a", "d"}, "q3": {"e"}}
    assert by_question(useful, [browsed("q2", "x", None)]) == {"q2": {"c"}}
    assert by_question(useful_documents([table()]), asked) == {}


def drop(rows: list[tuple[str, str, bool]], cap: int) -> np.ndarray:
    pairs, questions, relevant = zip(*rows, strict=True) if rows else ((), (), ())
    return over_the_cap(pa.chunked_array([pa.array(questions, pa.string())]), pairs, np.array(relevant, bool), cap)


def test_a_threshold_changes_what_was_found_useful_where_there_is_a_probability() -> None:
    rows = table(
        with_verdict(browsed("q", "a", None), False, 0.4),
        with_verdict(browsed("q", "b", None), True, 0.6),
        browsed("q", "c", True),
        browsed("q", "d", None),
    )
    assert at_threshold(rows, 0.5)["relevant"].to_pylist() == [False, True, True, None]
    assert at_threshold(rows, 0.4)["relevant"].to_pylist() == [True, True, True, None]
    assert at_threshold(rows, 0.7)["relevant"].to_pylist() == [False, False, True, None]


@given(st.lists(st.tuples(st.sampled_from(["q1", "q2", "q3"]), st.sampled_from("abc")), max_size=20))
def test_documents_are_looked_up_as_in_a_dictionary(rows: list[tuple[str, str]]) -> None:
    useful = useful_documents([table(*[browsed(query_id, docid, True) for query_id, docid in rows])])
    expected: dict[str, set[str]] = {}
    for query_id, docid in rows:
        expected.setdefault(query_id, set()).add(docid)
    assert by_question(useful, [browsed(name, "x", None) for name in ("q1", "q2", "q3", "q4")]) == expected


@given(
    rows=st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), max_size=40),
    cap=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_the_cap_keeps_as_many_relevant_pairs_of_each_question_and_the_same_ones_in_any_order(
    rows: list[tuple[str, bool]], cap: int, order: object
) -> None:
    named = [(f"pair-{number}", *row) for number, row in enumerate(rows)]
    dropped = drop(named, cap)
    kept = Counter(q for (_, q, relevant), out in zip(named, dropped, strict=True) if relevant and not out)
    relevant = Counter(q for _, q, r in named if r)
    assert kept == Counter({q: min(cap, n) for q, n in relevant.items()})
    assert not any(out for (_, _, r), out in zip(named, dropped, strict=True) if not r)
    shuffled = list(named)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = drop(shuffled, cap)
    of = {p for (p, _, _), out in zip(named, dropped, strict=True) if out}
    assert {p for (p, _, _), out in zip(shuffled, again, strict=True) if out} == of


def test_the_cap_favours_no_place() -> None:
    """One question with 2,000 pairs: those kept are spread over the whole list."""
    dropped = drop([(f"t/{n}", "q", True) for n in range(2000)], 1000)
    assert 400 < np.count_nonzero(~dropped[:1000]) < 600


def test_retention_counts_judged_browses_of_annotated_questions() -> None:
    first = table(browsed("q1", "a", True), browsed("q1", "b", False), browsed("q1", "c", True))
    second = table(browsed("q1", "d", None), browsed("q2", "e", False), browsed("q1", "e", "failed"), browsed("q3", "f", True))
    assert retention([first, second], {"q1": ["a", "b", "d"], "q2": ["x"], "q3": []}) == {
        "evidence_browses_judged": 2,
        "evidence_browses_kept": 1,
        "evidence_retention": 0.5,
        "non_evidence_browses_judged": 2,
        "non_evidence_browses_kept": 1,
        "non_evidence_retention": 0.5,
    }
    assert retention([], {})["evidence_retention"] is None
