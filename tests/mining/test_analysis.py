"""The analysis without a cluster: tallies add up, estimates agree with scipy, verdicts follow what was made to hold."""

from __future__ import annotations

import doctest
import json
import math
import types
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrat_ray.metrics import Interval
from lrat_ray.mining import analysis_page, observations
from lrat_ray.mining.analysis import POOLED, analyse
from lrat_ray.mining.analyze import assess
from lrat_ray.mining.assumptions import Assumption, Given, above, within
from lrat_ray.mining.estimates import auc, draws_interval, mean, odds_ratio, quantile, rank_test, wilson
from lrat_ray.mining.observations import count_judged, count_trajectory, length_bin, transitions
from lrat_ray.mining.tally import Tally
from lrat_ray.mining.transitions import find_browses
from lrat_ray.schema import Browse, Question, Step, Trajectory
from tests.mining.made_runs import made_questions, made_runs
from tests.mining.steps import browse, search, think, trajectory

_RUNS = made_runs(12, agents=("4B", "30B"))


def measured(run: Trajectory) -> list[Browse]:
    """Its browses, with words for tokens."""
    return [replace(row, reasoning_tokens=len(row.reasoning.split())) for row in find_browses(run, "test")[0]]


def tally_of(runs: Sequence[Trajectory], questions: Sequence[Question] = (), samples: int = 100) -> Tally:
    evidence = {question.query_id: question.evidence_docids for question in questions}
    tally = Tally(samples=samples)
    for run in runs:
        count_trajectory(tally, run, measured(run), evidence.get(run.query_id))
    return tally


def same(a: Tally, b: Tally) -> bool:
    draws = a.draws.keys() == b.draws.keys() and all((a.draws[key] == b.draws[key]).all() for key in a.draws)
    return a.counts == b.counts and a.questions == b.questions and draws


@pytest.mark.parametrize("module", [observations, analysis_page], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings(module: types.ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, 3), min_size=len(_RUNS), max_size=len(_RUNS)), order=st.permutations(range(4)))
def test_parts_in_any_number_and_order_add_up_to_one_pass(places: list[int], order: list[int]) -> None:
    parts = [[run for run, place in zip(_RUNS, places, strict=True) if place == part] for part in order]
    total = Tally(samples=100)
    for part in parts:
        tally = tally_of(part, made_questions(6))
        total.update(Tally.from_table(tally.to_table(), samples=100, seed=0))
    whole = tally_of(_RUNS, made_questions(6))
    assert same(total, whole)
    assert analyse(total) == analyse(whole)


def test_a_draw_holds_a_question_with_all_its_runs_or_not_at_all() -> None:
    one, both = (tally_of(runs) for runs in (_RUNS[:1], [_RUNS[0], _RUNS[0]]))
    assert (one.num_questions("all"), both.num_questions("all")) == (1, 1)
    assert all((2 * one.draws[key] == both.draws[key]).all() for key in one.draws)
    drawn = Tally(samples=20_000).question("q").times
    assert drawn.mean() == pytest.approx(1, abs=0.03)
    assert drawn.var() == pytest.approx(1, abs=0.05)


def test_tallies_of_other_draws_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="100 with seed 0, 100 with seed 1"):
        Tally(samples=100).update(Tally(samples=100, seed=1))


def test_wilson_by_hand() -> None:
    z = 1.959964
    centre, half = (0.8 + z * z / 20) / (1 + z * z / 10), z / (1 + z * z / 10) * math.sqrt(0.016 + z * z / 400)
    assert wilson(8, 10) == pytest.approx((0.8, centre - half, centre + half), abs=1e-6)
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.sampled_from([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]))
def test_quantiles_and_means_from_counts_are_those_of_the_values(values: list[int], q: float) -> None:
    assert quantile(Counter(values), q) == pytest.approx(np.quantile(values, q))
    assert mean(Counter(values)) == pytest.approx(np.mean(values))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_auc_from_counts_is_mann_whitneys(useful: list[int], useless: list[int]) -> None:
    counts = [np.bincount(values, minlength=10) for values in (useful, useless)]
    u = stats.mannwhitneyu(useful, useless).statistic
    assert auc(*counts) == pytest.approx(u / (len(useful) * len(useless)))
    assert np.isnan(auc(np.zeros(10), counts[1]))


def test_the_rank_test_is_chi_square_where_browses_are_many() -> None:
    browses = {(4, 1): 40, (4, 2): 30, (4, 3): 20, (4, 4): 10, (2, 1): 12, (2, 2): 8, (1, 1): 50}
    test = rank_test(browses)
    assert test is not None and not test.simulated
    # 100 browses of four: (15^2 + 5^2 + 5^2 + 15^2) / 25 = 20; 20 of two: (2^2 + 2^2) / 10 = 0.8; sets of one say nothing.
    assert (test.chi_square, test.degrees_of_freedom) == (pytest.approx(20.8), 4)
    assert test.p_value == pytest.approx(stats.chi2.sf(20.8, 4))
    assert test.cramers_v == pytest.approx(math.sqrt(16.8 / (320 - 4)))
    four = rank_test({key: count for key, count in browses.items() if key[0] == 4})
    assert four is not None and four.p_value == pytest.approx(stats.chisquare([40, 30, 20, 10]).pvalue)


def test_the_rank_test_is_simulated_where_browses_are_few() -> None:
    # Three of three browses at one and the same of two ranks: 2 of the 8 equally likely outcomes are as uneven.
    test = rank_test({(2, 1): 3})
    assert test is not None and test.simulated
    assert test.p_value == pytest.approx(0.25, abs=0.02)
    assert test.cramers_v == 1.0
    assert rank_test({(1, 1): 5}) is None


def test_odds_ratio_by_hand() -> None:
    ratio = odds_ratio(((10, 5), (2, 8)))
    error = 1.959964 * math.sqrt(1 / 10 + 1 / 5 + 1 / 2 + 1 / 8)
    assert ratio == pytest.approx((8, 8 * math.exp(-error), 8 * math.exp(error)), rel=1e-4)
    assert odds_ratio(((10, 0), (2, 8))) is None


def test_intervals_of_draws() -> None:
    draws = np.r_[0.5, np.arange(101) / 100]
    assert draws_interval(draws) == pytest.approx((0.5, 0.025, 0.975))
    assert draws_interval(np.r_[np.nan, 1.0]) is None
    assert draws_interval(np.r_[1.0, np.nan, np.nan, 1.0]) is None


def test_a_verdict_needs_the_whole_interval() -> None:
    assert [within(Interval(0, lo, hi), -1, 1) for lo, hi in ((-1, 1), (1.1, 2), (0, 2))] == [
        "holds",
        "does not hold",
        "not measurable here",
    ]
    assert [above(Interval(0, lo, hi), least=0, enough=0.1) for lo, hi in ((0.01, 0.2), (0.01, 0.05), (-0.1, 0.2))] == [
        "holds",
        "does not hold",
        "not measurable here",
    ]


def test_every_count_of_a_small_trajectory() -> None:
    run = trajectory(
        search("one", "a", "b", "c"),
        think("hm"),
        browse("b"),
        think("of use to me"),
        search("two", "d", "a"),
        browse("c"),
        browse("x"),
        think("neither of them says anything"),
        Step(turn=0, kind="answer", text="42"),
    )
    run = replace(run, correct=True, release_id="r")
    tally = Tally(samples=10)
    count_trajectory(tally, run, measured(run), ["a", "b"])
    assert not [key for key, draws in tally.draws.items() if draws.shape != (10,)]
    assert {key: count for key, count in tally.counts.items() if not str(key[0]).startswith("drawn_")} == {
        ("trajectories", "a", "r", "correct"): 1,
        ("steps", "a", "r", "correct", "search"): 2,
        ("steps", "a", "r", "correct", "browse"): 3,
        ("next", "a", "r", "correct", "search", "browse"): 2,
        ("next", "a", "r", "correct", "browse", "search"): 1,
        ("next", "a", "r", "correct", "browse", "browse"): 1,
        ("next", "a", "r", "correct", "browse", "answer"): 1,
        ("browses", "a", "r", 3, "correct"): 1,
        ("evidence", "a", "r", 1, "correct"): 1,
        ("shown_by", "a", "r", "latest"): 1,  # b
        ("shown_by", "a", "r", "earlier"): 1,  # c
        ("shown_by", "a", "r", "none"): 1,  # x
        ("rank", "a", "r", 3, 2): 1,
        ("rank", "a", "r", 3, 3): 1,
        ("unbrowsed", "a", "r", "above"): 1,  # a of the first search; no browse belongs to the second
        ("chance", "a", "r", 3, 1, "left"): 1,  # a, shown and not opened
        ("chance", "a", "r", 3, 2, "opened"): 1,  # b
        ("chance", "a", "r", 2, 2, "left"): 1,  # a, shown again
        ("length", "a", "r", "correct", "evidence", 4): 1,  # "of use to me"
        ("length", "a", "r", "correct", "other", 5): 2,  # measured() does not share out
    }


def test_a_run_that_is_cut_off_ends() -> None:
    run = trajectory(search("q", "a"), browse("a"))
    assert transitions(run.steps) == [("search", "browse"), ("browse", "end")]


def test_bins_of_lengths_rise_and_are_narrow() -> None:
    bins = [length_bin(tokens) for tokens in range(5000)]
    assert np.all(np.diff(bins) >= 0) and np.all(np.diff(bins) <= 1)
    widths = Counter(bins)
    assert all(widths[place] <= max(1, tokens / 16) for tokens, place in enumerate(bins))


def test_tables_of_made_runs_are_what_a_plain_count_gives() -> None:
    tables = analyse(tally_of(_RUNS, made_questions(12)))
    for row in tables["table_1"]:
        runs = [
            run
            for run in _RUNS
            if run.correct is (row["outcome"] == "correct")
            and row["agent"] in (POOLED, run.agent)
            and row["release_id"] in (POOLED, run.release_id)
        ]
        searches = [sum(step.kind == "search" for step in run.steps) for run in runs]
        browses = [sum(step.kind == "browse" for step in run.steps) for run in runs]
        assert row["trajectories"] == len(runs)
        assert (row["avg_search"], row["avg_browse"]) == pytest.approx((np.mean(searches), np.mean(browses)))
        assert row["avg_steps"] == pytest.approx(np.mean(searches) + np.mean(browses))
    for name in ("success_by_browses", "success_by_evidence"):
        pooled = [row for row in tables[name] if row["agent"] == POOLED]
        assert sum(row["trajectories"] for row in pooled) == len(_RUNS)
        assert sum(row["correct"] for row in pooled) == sum(run.correct is True for run in _RUNS)
    ranks = [row for row in tables["browse_ranks"] if row["agent"] == POOLED]
    assert sum(row["share"] for row in ranks) == pytest.approx(1)
    assert sum(row["even_share"] for row in ranks) == pytest.approx(1)
    for row in tables["transitions"]:
        assert sum(row[kind] for kind in observations.NEXT) == pytest.approx(1)
    json.dumps(tables, allow_nan=False)


def verdicts(assumptions: Sequence[Assumption]) -> dict[str, str]:
    return {assumption.name: assumption.verdict for assumption in assumptions}


def test_verdicts_follow_what_was_made_to_hold() -> None:
    questions = made_questions(250)
    found = {
        top_heavy: verdicts(assess(tally_of(runs, questions), Given(questions=True)))
        for top_heavy in (True, False)
        if (runs := made_runs(250, agents=("4B", "30B"), top_heavy=top_heavy))
    }
    of_evidence = {"latest_search": "holds", "opening_evidence": "holds", "reasoning_length": "holds"}
    assert (
        found[True].items() >= {"even_ranks": "does not hold", "evidence_at_any_rank": "does not hold", **of_evidence}.items()
    )
    assert found[False].items() >= {"even_ranks": "holds", "evidence_at_any_rank": "holds", **of_evidence}.items()


def test_unevenness_without_a_lean_is_seen() -> None:
    runs = [replace(trajectory(search("q", *"abc"), browse("b"), browse("b")), query_id=f"q{i}") for i in range(60)]
    found = {row.name: row for row in assess(tally_of(runs), Given())}
    assert found["even_ranks"].estimate == 0.5
    assert found["even_ranks"].verdict == "does not hold"


def test_what_cannot_be_measured_says_what_to_pass() -> None:
    unknown = [replace(run, correct=None) for run in _RUNS]
    found = {row.name: row for row in assess(tally_of(unknown), Given())}
    assert "nothing is guessed" in found["browsing"].finding and "field correct" in found["browsing"].advice
    assert "--questions" in found["evidence_at_any_rank"].advice
    assert "--questions" in found["reasoning_length"].advice and "--browses" in found["reasoning_length"].advice
    mismatched = {row.name: row for row in assess(tally_of(unknown), Given(questions=True))}
    assert "query_id" in mismatched["opening_evidence"].advice
    few = {row.name: row for row in assess(tally_of(made_runs(3)), Given())}
    assert few["even_ranks"].verdict == "not measurable here" and "2 questions are too few" in few["even_ranks"].finding
    no_browse = {row.name: row for row in assess(tally_of([trajectory(search("q", "a"))]), Given())}
    assert "logs.browse_tools" in no_browse["latest_search"].advice
    assert all(row.verdict == "not measurable here" for row in no_browse.values())


def test_length_is_measured_by_the_judge_where_no_evidence_is_annotated() -> None:
    tally = tally_of(_RUNS, samples=1000)
    rows = [row for run in _RUNS for row in measured(run)]
    judged = [replace(row, judge_status="judged", relevant=row.docid.endswith(("-0", "-1"))) for row in rows]
    count_judged(tally, [*judged, rows[0]])
    (found,) = (row for row in assess(tally, Given(browses=True)) if row.name == "reasoning_length")
    lengths = {True: [], False: []}  # type: dict[bool, list[int]]
    for row in judged:
        lengths[bool(row.relevant)].append(length_bin(row.reasoning_tokens))
    expected = stats.mannwhitneyu(lengths[True], lengths[False]).statistic / len(lengths[True]) / len(lengths[False])
    assert found.estimate == pytest.approx(expected)
    assert found.ci95 is not None and found.ci95[0] < expected < found.ci95[1]
    assert "the judge reads the same reasoning" in found.finding.lower()
    assert tally.counts[("judged", "unjudged")] == 1


def test_questions_without_a_browse_do_not_make_an_interval_of_browses_narrower() -> None:
    """One question with browses among a hundred without: an interval that is clustered by question rests on one."""
    browsing, *_ = (run for run in _RUNS if any(step.kind == "browse" for step in run.steps))
    silent = [
        replace(browsing, query_id=f"silent-{number}", steps=[step for step in browsing.steps if step.kind == "search"])
        for number in range(100)
    ]
    found = {row.name: row for row in assess(tally_of([browsing, *silent]), Given())}
    for name in ("even_ranks", "latest_search"):
        assert (found[name].verdict, found[name].questions) == ("not measurable here", 1)
