"""The weighted InfoNCE against numbers worked out another way."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.training import loss as module
from lrat_ray.training.loss import example_weights, weighted_info_nce

TAU = 0.05

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Queries, documents, positives, left_out, weights."""


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


def loss_and_gradients(
    q: np.ndarray, d: np.ndarray, positives: np.ndarray, left_out: np.ndarray, w: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, and its gradients with respect to queries and documents, all times Q: sums over queries."""
    queries, documents = (torch.from_numpy(e).requires_grad_() for e in (q, d))
    value = weighted_info_nce(queries, documents, *map(torch.from_numpy, (positives, left_out, w)), temperature=TAU)
    value = value * len(q)
    value.backward()
    assert queries.grad is not None and documents.grad is not None
    return float(value.detach()), queries.grad.numpy(), documents.grad.numpy()


@st.composite
def batches(draw: st.DrawFn) -> Arrays:
    """Up to 6 queries and 15 documents, about a third of them left out, with weights of which some are 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, others = draw(st.integers(1, 6)), draw(st.integers(0, 9))
    q, d = unit(rng, queries, 5), unit(rng, queries + others, 5)
    positives = rng.permutation(len(d))[:queries]
    left_out = rng.random((queries, len(d))) < 0.3
    left_out[np.arange(queries), positives] = False
    return q, d, positives, left_out, rng.exponential(size=queries) * (rng.random(queries) < 0.8)


@settings(max_examples=50)
@given(batch=batches(), tau=st.sampled_from([0.02, 0.1, 1.0]))
def test_equals_a_naive_implementation(batch: Arrays, tau: float) -> None:
    expected = naive(*batch, tau)
    assert float(loss(*batch, tau)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    q, d, positives, left_out, w = batch
    single = loss(q.astype(np.float32), d.astype(np.float32), positives, left_out, w.astype(np.float32), tau)
    assert single.dtype == torch.float32 and float(single) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_by_hand() -> None:
    """One query along x, its positive at 60 degrees and a negative at 90: scores 1/2 and 0, tau 1/2."""
    q = np.array([[1.0, 0.0]])
    d = np.array([[0.5, math.sqrt(0.75)], [0.0, 1.0]])
    value = loss(q, d, np.array([0]), np.zeros((1, 2), bool), np.array([3.0]), tau=0.5)
    assert float(value) == pytest.approx(3 * math.log((math.e + 1) / math.e))


@pytest.fixture
def example() -> Arrays:
    rng = np.random.default_rng(3)
    return unit(rng, 4, 8), unit(rng, 10, 8), np.array([0, 2, 4, 9]), np.zeros((4, 10), bool), np.ones(4)


def test_weights_of_one_are_the_plain_loss(example: Arrays) -> None:
    q, d, positives, _, _ = example
    plain = torch.nn.functional.cross_entropy(torch.from_numpy(q @ d.T) / TAU, torch.from_numpy(positives))
    assert float(loss(*example)) == pytest.approx(float(plain), rel=1e-12)


@settings(max_examples=50)
@given(batch=batches(), data=st.data())
def test_weight_zero_is_as_good_as_absent(batch: Arrays, data: st.DataObject) -> None:
    """The batch without a query, its documents still there as negatives of the others: same sum, same gradients."""
    q, d, positives, left_out, w = batch
    gone = data.draw(st.integers(0, len(q) - 1))
    rest = np.delete(np.arange(len(q)), gone)
    total, of_queries, of_documents = loss_and_gradients(q, d, positives, left_out, np.where(np.arange(len(q)) == gone, 0, w))
    assert not of_queries[gone].any()
    if len(rest) == 0:
        assert total == 0 and not of_documents.any()
        return
    expected = loss_and_gradients(q[rest], d, positives[rest], left_out[rest], w[rest])
    assert total == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(of_queries[rest], expected[1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(of_documents, expected[2], rtol=1e-9, atol=1e-12)


@settings(max_examples=50)
@given(batch=batches(), data=st.data())
def test_weight_two_counts_an_example_twice(batch: Arrays, data: st.DataObject) -> None:
    q, d, positives, left_out, w = batch
    chosen = data.draw(st.integers(0, len(q) - 1))
    total, _, of_documents = loss_and_gradients(q, d, positives, left_out, np.where(np.arange(len(q)) == chosen, 2 * w, w))
    twice = np.append(np.arange(len(q)), chosen)
    expected = loss_and_gradients(q[twice], d, positives[twice], left_out[twice], w[twice])
    assert total == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(of_documents, expected[2], rtol=1e-9, atol=1e-12)


def test_a_left_out_document_is_as_good_as_absent(example: Arrays) -> None:
    """A second copy of a positive would halve its probability; left out, it changes nothing, gradient included."""
    q, d, positives, left_out, w = example
    with_copies = np.concatenate([d, d[positives]])
    masked = np.concatenate([left_out, np.ones((4, 4), bool)], axis=1)
    total, _, of_documents = loss_and_gradients(q, with_copies, positives, masked, w)
    assert total / 4 == pytest.approx(float(loss(*example)), rel=1e-12)
    assert of_documents[:10].any() and not of_documents[10:].any()


def test_coarse_embeddings_are_scored_in_float32(example: Arrays) -> None:
    """At tau = 0.02 the bf16 product of two embeddings would be off by a tenth of a nat; autocast would make it one."""
    q, d, positives, left_out, w = (torch.from_numpy(array) for array in example)
    coarse = q.bfloat16(), d.bfloat16()
    exact = weighted_info_nce(*(e.double() for e in coarse), positives, left_out, w, temperature=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = weighted_info_nce(*coarse, positives, left_out, w.float(), temperature=0.02)
    assert value.dtype == torch.float32 and float(value) == pytest.approx(float(exact), rel=1e-5)


# --- weightings ---------------------------------------------------------------------------------------------------------------


def test_the_papers_weights_are_not_renormalised_in_the_batch(example: Arrays) -> None:
    *rest, w = example
    twice = example_weights(2 * w, "paper")
    assert float(loss(*rest, twice)) == pytest.approx(2 * float(loss(*rest, w)), rel=1e-12)


@given(batch=batches())
def test_batch_normalised_is_the_mean_weighted_by_weights(batch: Arrays) -> None:
    *rest, w = batch
    terms = [float(loss(*rest, one)) * len(w) for one in np.eye(len(w))]
    value = float(loss(*rest, example_weights(w, "batch_normalised")))
    expected = sum(w * terms) / sum(w) if w.any() else 0.0
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("weighting", ["paper", "batch_normalised", "none"])
def test_example_weights_keep_their_number_and_are_finite(weighting: str) -> None:
    nothing = np.zeros(3)
    values = example_weights(nothing, weighting)  # type: ignore[arg-type]
    assert values.tolist() == ([1.0] * 3 if weighting == "none" else [0.0] * 3)


def test_weightings_by_hand() -> None:
    w = np.array([1.0, 3.0, 0.0, 4.0])
    assert example_weights(w, "paper").tolist() == [1, 3, 0, 4]
    assert example_weights(w, "batch_normalised").tolist() == [0.5, 1.5, 0, 2]
    assert example_weights(w, "none").tolist() == [1, 1, 1, 1]


# --- what is refused ----------------------------------------------------------------------------------------------------------


def test_shapes_and_temperature_are_checked(example: Arrays) -> None:
    q, d, positives, left_out, w = example
    with pytest.raises(ValueError, match=r"4 queries and 10 documents need positives \[4\].*found \[4\], \[3\] and \[4, 10\]"):
        loss(q, d, positives, left_out, w[:3])
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        loss(*example, tau=0)


def test_a_positive_has_to_be_there(example: Arrays) -> None:
    q, d, positives, left_out, w = example
    left_out[1, 2] = True
    with pytest.raises(ValueError, match="the positive of query 1, 2, is left out"):
        loss(q, d, positives, left_out, w)
    with pytest.raises(ValueError, match="the positive of query 3, 10, is no column of 10 documents"):
        loss(q, d, np.array([0, 2, 4, 10]), np.zeros_like(left_out), w)


def test_docstring_examples() -> None:
    assert doctest.testmod(module).failed == 0
