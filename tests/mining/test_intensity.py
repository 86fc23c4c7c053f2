"""Relevance intensity (LRAT eq. 3): numbers worked out by hand, and the properties the equation promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.mining.intensity import Intensity

LENGTHS = st.lists(st.integers(0, 5_000), min_size=1, max_size=60)


def test_half_of_the_weight_range_is_reached_at_the_median() -> None:
    intensity = Intensity.fit([100, 200, 400])
    # 1 - 2**(-l / 200) = 1 - sqrt(1/2), 1/2, 3/4
    raw = [1 - math.sqrt(0.5), 0.5, 0.75]
    assert intensity.betas == {"": 200}
    assert intensity.mu_raw == pytest.approx(sum(raw) / 3)
    assert intensity.weights([100, 200, 400]) == pytest.approx([3 * r / sum(raw) for r in raw])


@pytest.mark.parametrize(
    ("lengths", "weights"),
    [
        ([7], [1.0]),
        ([0], [1.0]),
        ([0, 0], [1.0, 1.0]),
        ([5, 5, 5], [1.0, 1.0, 1.0]),
        ([0, 0, 0, 8], [0.0, 0.0, 0.0, 4.0]),  # median 0: all that counts is whether the agent thought at all
        ([], []),
    ],
)
def test_edges(lengths: list[int], weights: list[float]) -> None:
    assert Intensity.fit(lengths).weights(lengths) == pytest.approx(weights)


@given(LENGTHS)
def test_the_mean_weight_is_one(lengths: list[int]) -> None:
    assert Intensity.fit(lengths).weights(lengths).mean() == pytest.approx(1.0)


@given(LENGTHS)
def test_who_thinks_longer_weighs_no_less(lengths: list[int]) -> None:
    weights = Intensity.fit(lengths).weights(sorted(lengths))
    assert (np.diff(weights) >= 0).all()


@given(LENGTHS, st.integers(1, 50))
def test_the_unit_of_length_does_not_matter(lengths: list[int], factor: int) -> None:
    scaled = [length * factor for length in lengths]
    assert Intensity.fit(scaled).weights(scaled) == pytest.approx(Intensity.fit(lengths).weights(lengths))


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="-3 is negative"):
        Intensity.fit([4, -3])


def test_each_agent_has_its_own_median_and_the_mean_is_one_over_all() -> None:
    """A model that always thinks ten times as long gets no more weight for it."""
    lengths, agents = [100, 200, 400, 1000, 2000, 4000], ["a", "a", "a", "b", "b", "b"]
    intensity = Intensity.fit(lengths, agents)
    assert intensity.betas == {"a": 200, "b": 2000}
    weights = intensity.weights(lengths, agents)
    assert weights[:3] == pytest.approx(weights[3:])
    assert weights.mean() == pytest.approx(1.0)
    assert intensity.weights([200, 7], ["b", "unknown"]) == pytest.approx([(1 - 2**-0.1) / intensity.mu_raw, 0.0])


@given(st.lists(st.tuples(st.integers(0, 5_000), st.sampled_from("abc")), min_size=1, max_size=60))
def test_the_mean_weight_is_one_over_all_agents(rows: list[tuple[int, str]]) -> None:
    lengths, agents = zip(*rows, strict=True)
    assert Intensity.fit(lengths, agents).weights(lengths, agents).mean() == pytest.approx(1.0)
