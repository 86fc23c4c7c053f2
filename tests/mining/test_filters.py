"""Each filter says why it leaves a browse or a trajectory out, and leaves nothing else out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.config import Mining
from lrat_ray.mining.filters import in_segment, refusal, wrong_outcome
from tests.mining.steps import browse, judged, search, think, trajectory

OF = trajectory(search("q", "a"), browse("a"), think("hm"))
BROWSE = replace(judged(OF, True)[0], reasoning_tokens=50, run_position=1, run_length=3)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, None),
        ({"min_reasoning_tokens": 50, "max_reasoning_tokens": 50}, None),
        ({"min_reasoning_tokens": 51}, "short reasoning"),
        ({"max_reasoning_tokens": 49}, "long reasoning"),
        ({"segment": "middle"}, None),
        ({"segment": "front"}, "other segment"),
        ({"segment": "back"}, "other segment"),
        ({"unjudged": "drop"}, None),
    ],
)
def test_a_browse_is_left_out_for_the_reason_that_is_set(settings: dict[str, object], reason: str | None) -> None:
    out = refusal(BROWSE, Mining.model_validate(settings))
    assert (out and out.reason) == reason
    if out is not None:
        assert "trajectory t: browse step 1 opened docid 'a'" in out.detail and f"mining.{next(iter(settings))}=" in out.detail


def test_unjudged_browses_can_be_dropped() -> None:
    unjudged = judged(OF, None)[0]
    assert refusal(unjudged, Mining()) is None
    out = refusal(unjudged, Mining(unjudged="drop"))
    assert out is not None and out.reason == "unjudged"


@given(length=st.integers(2, 40))
def test_each_browse_of_a_run_lies_in_one_third_and_the_thirds_are_even(length: int) -> None:
    thirds = [[p for p in range(length) if in_segment(p, length, name)] for name in ("front", "middle", "back")]
    assert [place for third in thirds for place in third] == list(range(length))
    assert len(thirds[0]) == len(thirds[2]) and abs(len(thirds[0]) - len(thirds[1])) <= 1


def test_a_browse_by_itself_belongs_to_every_third() -> None:
    assert all(in_segment(0, 1, name) for name in ("all", "front", "middle", "back"))


@pytest.mark.parametrize(
    ("wanted", "correct", "problem"),
    [
        ("all", None, None),
        ("correct", True, None),
        ("incorrect", False, None),
        ("correct", False, "which was not correct"),
        ("incorrect", True, "which was correct"),
        ("correct", None, "whose outcome the log does not tell"),
        ("incorrect", None, "whose outcome the log does not tell"),
    ],
)
def test_trajectories_of_another_outcome_are_not_mined(wanted: str, correct: bool | None, problem: str | None) -> None:
    found = wrong_outcome(correct, Mining.model_validate({"trajectories": wanted}))
    assert (found and found.partition(" (")[0]) == problem
