"""The split into training and validation: by question, and by nothing else."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.training import split
from lrat_ray.training.split import Questions, hold_out

ASKED = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "Who?", "who? ", "Where?", "When?", "Why?"])), min_size=1
)


def names(asked: list[tuple[str, str]]) -> dict[str, int]:
    questions = Questions()
    for query_id, text in asked:
        questions.add(query_id, text)
    return dict(zip(questions.query_ids(), questions.names().tolist(), strict=True))


def test_docstring_examples() -> None:
    assert doctest.testmod(split).failed == 0


def test_numbers_are_given_in_order() -> None:
    questions = Questions()
    assert [questions.add(query_id, "?" + query_id) for query_id in ("x", "y", "x", "z")] == [0, 1, 0, 2]
    assert questions.query_ids() == ["x", "y", "z"]


def test_a_blank_question_is_known_by_its_query_id() -> None:
    found = names([("a", " "), ("b", "")])
    assert found["a"] != found["b"]


@given(asked=ASKED)
def test_what_shares_an_id_or_a_text_is_one_question(asked: list[tuple[str, str]]) -> None:
    """Against merging sets until nothing changes."""
    groups = [{query_id, f"?{split.normalised(text)}" if text else query_id} for query_id, text in asked]
    for _ in asked:
        for group in groups:
            for other in groups:
                if group & other:
                    group |= other
    found = names(asked)
    for query_id, name in found.items():
        (together,) = {frozenset(group & found.keys()) for group in groups if query_id in group}
        assert {other for other in found if found[other] == name} == together


@given(asked=ASKED, data=st.data())
def test_names_do_not_depend_on_the_order(asked: list[tuple[str, str]], data: st.DataObject) -> None:
    assert names(data.draw(st.permutations(asked))) == names(asked)


@given(share=st.floats(0, 1, exclude_max=True), count=st.integers(1, 50))
def test_both_sides_have_a_question(share: float, count: int) -> None:
    held_out = hold_out(np.arange(count, dtype=np.uint64), share=share)
    assert not held_out.all()
    assert held_out.any() == (share > 0 and count > 1)


@given(extra=st.integers(1, 200))
def test_others_do_not_change_a_draw(extra: int) -> None:
    """But for the one question that is held out, or kept, so that there is one."""
    questions = np.random.default_rng(7).integers(2**63, size=200 + extra, dtype=np.uint64)
    some, more = hold_out(questions[:200], share=0.1), hold_out(questions, share=0.1)
    assert 5 < some.sum() < 40
    assert (some == more[:200]).all()


def test_a_share_is_held_out_and_a_larger_one_holds_it() -> None:
    questions = np.arange(1000, dtype=np.uint64)
    fifth, half = hold_out(questions, share=0.2), hold_out(questions, share=0.5)
    assert fifth.mean() == pytest.approx(0.2, abs=0.04) and half.mean() == pytest.approx(0.5, abs=0.05)
    assert (fifth <= half).all()
