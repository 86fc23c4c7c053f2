"""The learning rate."""

from __future__ import annotations

import pytest

from lrat_ray.training.schedule import learning_rate


def test_warms_up_then_decays_linearly() -> None:
    rates = [learning_rate(step, steps=40, peak=5e-5, warmup_ratio=0.1) for step in range(40)]
    assert rates[:5] == pytest.approx([1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5])
    assert rates[22] == pytest.approx(2.5e-5)  # half of the 36 steps of decay
    assert rates[-1] == pytest.approx(5e-5 / 36)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert [learning_rate(step, steps=4, peak=1.0, warmup_ratio=0) for step in range(4)] == [1, 0.75, 0.5, 0.25]


def test_one_step_trains_at_the_peak() -> None:
    assert learning_rate(0, steps=1, peak=1.0, warmup_ratio=0.1) == 1.0
