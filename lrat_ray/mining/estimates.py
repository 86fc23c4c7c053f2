"""The statistics of the analysis, from counts alone: shares, quantiles, AUC, a test of browsed ranks, intervals of draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lrat_ray.metrics import Interval

_SMALLEST_EXPECTED = 5
"""Below this many browses expected in a cell, chi-square's distribution is simulated (the usual rule for the test)."""
_SIMULATIONS = 9_999


def wilson(successes: int, total: int) -> Interval:
    """A share and its 95% Wilson interval (the paper's Figure 4). Raises ValueError for a total of 0."""
    from scipy import stats

    if total < 1:
        raise ValueError("a share needs at least one observation")
    lo, hi = stats.binomtest(successes, total).proportion_ci(method="wilson")
    return Interval(successes / total, float(lo), float(hi))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def draws_interval(values: np.ndarray) -> Interval | None:
    """The estimate values[0] with the percentile 95% interval of the draws values[1:].

    values: [B + 1], NaN where a statistic is undefined. None where the estimate is so, or more than half of the draws are.
    """
    estimate, draws = values[0], values[1:]
    if np.isnan(estimate) or np.isnan(draws).mean() > 0.5:
        return None
    lo, hi = np.nanquantile(draws, [0.025, 0.975])
    return Interval(float(estimate), float(lo), float(hi))


def quantile(counts: Mapping[int, int], q: float) -> float:
    """The q-quantile of whole numbers given as value -> count, as numpy.quantile computes it. ValueError for no values."""
    values = np.array(sorted(value for value, count in counts.items() if count > 0))
    if not len(values):
        raise ValueError("a quantile needs at least one value")
    ends = np.cumsum([counts[value] for value in values.tolist()])
    place = q * (ends[-1] - 1)
    low, high = (values[np.searchsorted(ends, np.floor(p), side="right")] for p in (place, np.ceil(place)))
    return float(low + (high - low) * (place - np.floor(place)))


def mean(counts: Mapping[int, int]) -> float:
    """The mean of whole numbers given as value -> count. ValueError for no values."""
    total = sum(counts.values())
    if not total:
        raise ValueError("a mean needs at least one value")
    return sum(value * count for value, count in counts.items()) / total


def auc(useful: np.ndarray, useless: np.ndarray) -> np.ndarray:
    """[...] probability that a useful observation lies above a useless one, ties counted half; NaN where either is missing.

    useful, useless: [..., V] counts of each of V values in ascending order.
    """
    below = np.cumsum(useless, axis=-1) - useless
    wins = (useful * (below + useless / 2)).sum(axis=-1)
    return ratio(wins, useful.sum(axis=-1) * useless.sum(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTest:
    """A test of even browsing: chi-square over candidate sets of each size, its p-value, and Cramér's V corrected for chance.

    V is 0 for even browsing and 1 where only one rank is ever browsed; `simulated` says that the p-value is a Monte Carlo one.
    """

    chi_square: float
    degrees_of_freedom: int
    p_value: float
    cramers_v: float
    simulated: bool


def rank_test(browses: Mapping[tuple[int, int], int], *, seed: int = 0) -> RankTest | None:
    """Test whether browses are spread evenly over the ranks of their own candidate sets.

    browses: (number of candidates, rank) -> count. Sets of one candidate say nothing and are left out; None where nothing is
    left. The p-value takes browses for independent, which those of one run are not quite.
    """
    from scipy import stats

    observed: dict[int, np.ndarray] = {}
    for (candidates, rank), count in browses.items():
        if candidates > 1:
            observed.setdefault(candidates, np.zeros(candidates, dtype=np.int64))[rank - 1] += count
    if not observed:
        return None
    totals = {size: int(row.sum()) for size, row in observed.items()}
    chi_square = float(sum(_chi_square(row) for row in observed.values()))
    freedom = sum(size - 1 for size in observed)
    simulated = min(totals[size] / size for size in observed) < _SMALLEST_EXPECTED
    if simulated:
        generator = np.random.default_rng(seed)
        null = np.zeros(_SIMULATIONS)
        for size in sorted(observed):
            null += _chi_square(generator.multinomial(totals[size], np.full(size, 1 / size), size=_SIMULATIONS))
        # A little slack: equal tables must count as equal whatever the order of their sum.
        p_value = (1 + int((null >= chi_square - 1e-9).sum())) / (1 + _SIMULATIONS)
    else:
        p_value = float(stats.chi2.sf(chi_square, freedom))
    largest = sum(total * (size - 1) for size, total in totals.items())
    return RankTest(
        chi_square=chi_square,
        degrees_of_freedom=freedom,
        p_value=p_value,
        cramers_v=min(1.0, float(np.sqrt(max(0.0, chi_square - freedom) / max(1, largest - freedom)))),
        simulated=simulated,
    )


def _chi_square(observed: np.ndarray) -> np.ndarray:
    """[...] chi-square statistic of counts [..., n] against equal shares."""
    expected = observed.sum(axis=-1, keepdims=True) / observed.shape[-1]
    return ((observed - expected) ** 2 / expected).sum(axis=-1)


def odds_ratio(table: tuple[tuple[int, int], tuple[int, int]]) -> Interval | None:
    """The sample odds ratio of a 2 x 2 table with its 95% interval (log odds); None where a cell is 0."""
    from scipy.stats import contingency

    if min(min(row) for row in table) == 0:
        return None
    found = contingency.odds_ratio(np.array(table), kind="sample")
    interval = found.confidence_interval(0.95)
    return Interval(float(found.statistic), float(interval.low), float(interval.high))
