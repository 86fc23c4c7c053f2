"""Metrics against numbers worked out by hand, and the bootstrap against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.metrics import evidence_recall, mean, num_steps, paired_bootstrap
from lrat_ray.schema import SearchResult, Step, Trajectory


def _run(*steps: Step) -> Trajectory:
    return Trajectory(trajectory_id="t", query_id="q", question="?", agent="a", status="completed", steps=list(steps))


def _search(*docids: str, error: str | None = None) -> Step:
    results = [SearchResult(docid=docid, rank=rank) for rank, docid in enumerate(docids, 1)]
    return Step(turn=0, kind="search", results=results, error=error)


def test_evidence_recall_is_over_the_union_of_what_was_shown() -> None:
    run = _run(_search("a", "b"), _search("b", "c"), Step(turn=1, kind="browse", docid="d"))
    assert evidence_recall(run, ["a", "c", "d", "e"]) == 0.5  # d was opened but never shown by a search
    assert evidence_recall(run, ["a", "a", "c"]) == 1.0


def test_a_question_without_annotations_has_no_recall() -> None:
    assert evidence_recall(_run(_search("a")), []) is None


def test_steps_are_searches_and_browses_failed_ones_included() -> None:
    run = _run(
        Step(turn=0, kind="reasoning", text="hm"),
        _search(error="503"),
        Step(turn=1, kind="browse", docid="a"),
        Step(turn=2, kind="other"),
        Step(turn=3, kind="answer", text="x"),
    )
    assert num_steps(run) == 2


def test_mean_leaves_out_what_is_unknown() -> None:
    assert mean([True, False, None, True]) == pytest.approx(2 / 3)
    assert mean([None]) is None
    assert mean([]) is None


def _naive_bootstrap(differences: list[float], clusters: list[str], samples: int, seed: int) -> tuple[float, float, float]:
    names = sorted(set(clusters))
    rows = [[d for d, c in zip(differences, clusters, strict=True) if c == name] for name in names]
    drawn = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
    means = [np.mean([d for cluster in draw for d in rows[cluster]]) for draw in drawn]
    return (float(np.mean(differences)), *(float(x) for x in np.percentile(means, [2.5, 97.5])))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-3, 3)), min_size=1, max_size=25),
    seed=st.integers(0, 1000),
)
def test_bootstrap_equals_a_loop_over_resampled_rows(rows: list[tuple[str, int]], seed: int) -> None:
    clusters, differences = [c for c, _ in rows], [float(d) for _, d in rows]
    assert paired_bootstrap(differences, clusters, samples=30, seed=seed) == pytest.approx(
        _naive_bootstrap(differences, clusters, 30, seed)
    )


def test_row_order_does_not_matter() -> None:
    rows = [(f"q{i % 7}", float(i % 5)) for i in range(40)]
    forwards, backwards = (
        paired_bootstrap([d for _, d in order], [q for q, _ in order], samples=200, seed=4) for order in (rows, rows[::-1])
    )
    assert forwards == pytest.approx(backwards)


@settings(max_examples=20, deadline=None)
@given(
    differences=st.lists(st.floats(-1, 1), min_size=2, max_size=30),
    copies=st.integers(2, 5),
)
def test_more_seeds_that_say_the_same_do_not_shrink_the_interval(differences: list[float], copies: int) -> None:
    clusters = [f"q{i:02d}" for i in range(len(differences))]
    once = paired_bootstrap(differences, clusters, samples=100, seed=1)
    again = paired_bootstrap(differences * copies, clusters * copies, samples=100, seed=1)
    assert again == pytest.approx(once, abs=1e-9)


def test_a_constant_difference_has_an_interval_of_no_width() -> None:
    assert paired_bootstrap([0.25] * 9, list("aaabbbccd"), samples=50, seed=0) == (0.25, 0.25, 0.25)


def test_width_approaches_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=400)
    interval = paired_bootstrap(list(values), [f"q{i}" for i in range(400)], samples=4000, seed=0)
    half_width = 1.96 * values.std() / 20
    assert interval.hi - interval.lo == pytest.approx(2 * half_width, rel=0.05)


def test_memory_is_bounded_by_blocks_that_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = [float(i % 3) for i in range(12)], [f"q{i}" for i in range(12)]
    whole = paired_bootstrap(values, clusters, samples=100, seed=2)
    monkeypatch.setattr("lrat_ray.metrics._DRAWS_AT_ONCE", 50)
    assert paired_bootstrap(values, clusters, samples=100, seed=2) == whole


@pytest.mark.parametrize(("differences", "clusters", "samples"), [([], [], 10), ([1.0], ["a", "b"], 10), ([1.0], ["a"], 0)])
def test_bad_input_is_refused(differences: list[float], clusters: list[str], samples: int) -> None:
    with pytest.raises(ValueError, match="bootstrap needs|for 2 clusters"):
        paired_bootstrap(differences, clusters, samples=samples, seed=0)
