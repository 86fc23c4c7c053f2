"""What a run is measured by (success, evidence recall, steps), and how sure a paired comparison of two retrievers is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lrat_ray.schema import Trajectory

_DRAWS_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    """A mean and its 95% interval [lo, hi], in the unit of what was averaged."""

    mean: float
    lo: float
    hi: float


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None entries are left out, and None is the answer when nothing is left.

    Of successes it is the success rate (SR, a share), provided that there is one for every question asked, False without a run.
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def evidence_recall(trajectory: Trajectory, evidence_docids: Collection[str]) -> float | None:
    """Share of the annotated evidence documents among all results that the run was shown, in [0, 1].

    None for a question without annotations: 0 would read as a failure to find what nobody marked.
    """
    evidence = set(evidence_docids)
    if not evidence:
        return None
    shown = {result.docid for step in trajectory.steps for result in step.results}
    return len(evidence & shown) / len(evidence)


def num_steps(trajectory: Trajectory) -> int:
    """Tool calls of a run: searches and browses, those that failed included."""
    return sum(step.kind in ("search", "browse") for step in trajectory.steps)


def paired_bootstrap(differences: Sequence[float], clusters: Sequence[str], *, samples: int, seed: int) -> Interval:
    """Mean difference and its percentile 95% interval, whole clusters resampled with replacement.

    differences: [R] one per pair of runs that share question, rollout seed, agent and training seed; clusters: [R] the
    question of each, because two seeds of one question say less than two questions. samples: number of resamples, each as
    many clusters as there are; a resample's mean is over its rows, so a cluster counts by its rows. seed: of the generator.
    Raises ValueError for no rows, for lengths that differ, or for samples < 1.
    """
    values = np.asarray(differences, dtype=np.float64)  # (R,)
    if values.shape != (len(clusters),):
        raise ValueError(f"{values.shape} differences for {len(clusters)} clusters: one cluster is needed for each difference")
    if not len(values) or samples < 1:
        raise ValueError(f"a bootstrap needs at least one difference and one sample; found {len(values)} and {samples}")
    _, cluster_of_row = np.unique(np.asarray(clusters), return_inverse=True)  # (R,); sorted, so row order does not matter
    sums = np.bincount(cluster_of_row, weights=values)  # (C,)
    counts = np.bincount(cluster_of_row).astype(np.float64)  # (C,)
    means = _resampled_means(sums, counts, samples, np.random.default_rng(seed))
    lo, hi = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(lo), float(hi))


def _resampled_means(sums: np.ndarray, counts: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
    """[samples] means of resampled clusters, drawn a block at a time so that memory does not grow with the questions."""
    blocks = []
    num_clusters = len(sums)
    rows_at_once = max(1, _DRAWS_AT_ONCE // num_clusters)
    for start in range(0, samples, rows_at_once):
        drawn = generator.integers(num_clusters, size=(min(rows_at_once, samples - start), num_clusters))  # (B, C)
        blocks.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(blocks)
