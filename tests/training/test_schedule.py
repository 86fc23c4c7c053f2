"""The learning rate."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.training import schedule as module
from lrat_ray.training.schedule import Decay, learning_rate


def rates(steps: int, *, peak: float = 1.0, warmup_ratio: float = 0.1, decay: Decay = "linear") -> list[float]:
    return [learning_rate(step, steps=steps, peak=peak, warmup_ratio=warmup_ratio, decay=decay) for step in range(steps)]


def test_warms_up_then_decays_linearly() -> None:
    linear = rates(40, peak=5e-5)
    assert linear[:5] == pytest.approx([1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5])
    assert linear[22] == pytest.approx(2.5e-5)  # half of the 36 steps of decay
    assert linear[-1] == pytest.approx(5e-5 / 36)


def test_half_a_cosine() -> None:
    cosine = rates(40, peak=2.0, decay="cosine")
    assert cosine[:5] == pytest.approx([0.5, 1, 1.5, 2, 2])
    assert [cosine[4 + 12], cosine[4 + 18], cosine[4 + 24]] == pytest.approx([1.5, 1, 0.5])  # thirds of 180 degrees
    assert cosine[-1] == pytest.approx(1 + math.cos(math.pi * 35 / 36))


def test_no_decay() -> None:
    assert rates(10, warmup_ratio=0.2, decay="none") == [0.5] + [1.0] * 9


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert rates(4, warmup_ratio=0) == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("decay", ["linear", "cosine", "none"])
def test_one_step_trains_at_the_peak(decay: Decay) -> None:
    assert rates(1, decay=decay) == [1.0]


@given(
    steps=st.integers(1, 200),
    warmup_ratio=st.floats(0, 1, exclude_max=True),
    decay=st.sampled_from(["linear", "cosine", "none"]),
)
def test_every_step_moves_and_none_beyond_the_peak(steps: int, warmup_ratio: float, decay: Decay) -> None:
    values = rates(steps, warmup_ratio=warmup_ratio, decay=decay)
    assert all(0 < value <= 1 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)


def test_docstring_examples() -> None:
    assert doctest.testmod(module).failed == 0
