"""The weighted InfoNCE against numbers worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.training.loss import weighted_info_nce

TAU = 0.05


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def naive(q: np.ndarray, d: np.ndarray, positives: np.ndarray, left_out: np.ndarray, w: np.ndarray, tau: float) -> float:
    """The formula of the paper, term by term."""
    total = 0.0
    for i in range(len(q)):
        numerator = math.exp(float(q[i] @ d[positives[i]]) / tau)
        denominator = sum(math.exp(float(q[i] @ d[j]) / tau) for j in range(len(d)) if not left_out[i, j])
        total += w[i] * math.log(numerator / denominator)
    return -total / len(q)


def loss(
    q: np.ndarray, d: np.ndarray, positives: np.ndarray, left_out: np.ndarray, w: np.ndarray, tau: float = TAU
) -> torch.Tensor:
    return weighted_info_nce(*map(torch.from_numpy, (q, d, positives, left_out, w)), temperature=tau)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), queries=st.integers(1, 6), others=st.integers(1, 9), tau=st.sampled_from([0.02, 0.1, 1.0])
)
def test_equals_a_naive_implementation(seed: int, queries: int, others: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    q, d = unit(rng, queries, 5), unit(rng, queries + others, 5)
    positives = rng.permutation(len(d))[:queries]
    left_out = rng.random((queries, len(d))) < 0.3
    left_out[np.arange(queries), positives] = False
    w = rng.exponential(size=queries)
    assert float(loss(q, d, positives, left_out, w, tau)) == pytest.approx(naive(q, d, positives, left_out, w, tau), rel=1e-9)


def test_by_hand() -> None:
    """One query along x, its positive at 60 degrees and a negative at 90: scores 1/2 and 0, tau 1/2."""
    q = np.array([[1.0, 0.0]])
    d = np.array([[0.5, math.sqrt(0.75)], [0.0, 1.0]])
    value = loss(q, d, np.array([0]), np.zeros((1, 2), bool), np.array([3.0]), tau=0.5)
    assert float(value) == pytest.approx(3 * math.log((math.e + 1) / math.e))


@pytest.fixture
def example() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    return unit(rng, 4, 8), unit(rng, 10, 8), np.array([0, 2, 4, 9]), np.zeros((4, 10), bool), np.ones(4)


def test_weights_of_one_are_the_plain_loss(example: tuple[np.ndarray, ...]) -> None:
    q, d, positives, _, _ = example
    plain = torch.nn.functional.cross_entropy(torch.from_numpy(q @ d.T) / TAU, torch.from_numpy(positives))
    assert float(loss(*example)) == pytest.approx(float(plain), rel=1e-12)


def test_weights_are_not_renormalised_in_the_batch(example: tuple[np.ndarray, ...]) -> None:
    *rest, w = example
    assert float(loss(*rest, 2 * w)) == pytest.approx(2 * float(loss(*rest, w)), rel=1e-12)


def test_weight_two_counts_an_example_twice_and_weight_zero_not_at_all(example: tuple[np.ndarray, ...]) -> None:
    q, d, positives, left_out, w = example
    twice = np.array([0, 0, 1, 2])  # query 3 removed, query 0 there twice
    repeated = loss(q[twice], d, positives[twice], left_out[twice], w)
    assert float(loss(q, d, positives, left_out, np.array([2.0, 1, 1, 0]))) == pytest.approx(float(repeated), rel=1e-12)


def test_a_left_out_document_is_as_good_as_absent(example: tuple[np.ndarray, ...]) -> None:
    """A second copy of a positive would halve its probability; left out, it changes nothing, gradient included."""
    q, d, positives, left_out, w = example
    with_copies = np.concatenate([d, d[positives]])
    masked = np.concatenate([left_out, np.ones((4, 4), bool)], axis=1)
    documents = torch.from_numpy(with_copies).requires_grad_()
    value = weighted_info_nce(torch.from_numpy(q), documents, *map(torch.from_numpy, (positives, masked, w)), temperature=TAU)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(loss(*example)), rel=1e-12)
    assert documents.grad is not None and not documents.grad[10:].any()


def test_shapes_and_temperature_are_checked(example: tuple[np.ndarray, ...]) -> None:
    q, d, positives, left_out, w = example
    with pytest.raises(ValueError, match=r"4 queries and 10 documents need positives \[4\].*found \[4\], \[3\] and \[4, 10\]"):
        loss(q, d, positives, left_out, w[:3])
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        loss(*example, tau=0)
