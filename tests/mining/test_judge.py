"""Verdicts: strict answers, probabilities, thresholds, failures that stay failures."""

from __future__ import annotations

import math

import pytest

from lrat_ray.config import Judge
from lrat_ray.llm import TokenChoice
from lrat_ray.mining.judge import (
    VerdictError,
    can_be_judged,
    id_of,
    judge_messages,
    judgement,
    parse_verdict,
    relevance_probability,
    rule_verdict,
    was_useful,
    was_useless,
    with_threshold,
    with_verdict,
)
from tests.mining.steps import browse, judged, search, think, trajectory


@pytest.mark.parametrize(
    ("answer", "relevant"),
    [
        ("RELEVANT", True),
        ("NOT_RELEVANT", False),
        (" NOT_RELEVANT.\n", False),
        ("**RELEVANT**", True),
        ("The agent took a date from it.\n\nRELEVANT", True),
    ],
)
def test_the_last_line_is_the_verdict(answer: str, relevant: bool) -> None:
    assert parse_verdict(answer) is relevant


@pytest.mark.parametrize("answer", [None, "", "relevant", "NOT RELEVANT", "RELEVANT or NOT_RELEVANT", "RELEVANT\nbecause"])
def test_anything_else_is_no_verdict(answer: str | None) -> None:
    with pytest.raises(VerdictError, match="RELEVANT or NOT_RELEVANT"):
        parse_verdict(answer)


@pytest.mark.parametrize(
    ("reasoning", "relevant"),
    [("It is IRRELEVANT.", False), ("This doesn't help", False), ("does help", True), ("", True)],
)
def test_the_rule_says_not_relevant_iff_its_pattern_occurs(reasoning: str, relevant: bool) -> None:
    assert rule_verdict(reasoning, Judge().pattern) is relevant


def test_the_judge_sees_the_post_browse_reasoning_and_nothing_else() -> None:
    system, user = judge_messages("It says 1922.")
    assert user == {"role": "user", "content": "It says 1922."}
    assert system["role"] == "system" and "exactly one word" in system["content"]


def token(text: str, **mass: float) -> TokenChoice:
    """A token, and the probability of each that could have stood there ("_" stands for a space, "" for a line break)."""
    return TokenChoice(text, {name: math.log(p) if p else -math.inf for name, p in mass.items()})


def test_the_probability_is_that_of_the_first_token_when_the_words_differ_there() -> None:
    assert relevance_probability([token("R", R=0.6, N=0.4), token("ELEVANT", ELEVANT=1.0)]) == pytest.approx(0.6)
    assert relevance_probability([token("NOT", R=0.3, NOT=0.7)]) == pytest.approx(0.3)
    assert relevance_probability([token("RELEVANT", RELEVANT=1.0, NOT=0.0)]) == 1.0


def test_every_token_that_begins_a_word_counts_for_it_and_what_begins_neither_for_none() -> None:
    """A tokenizer has several beginnings of a word, and an endpoint without a grammar also offers other words."""
    first = token("N", N=0.35, R=0.2, REL=0.1, RELEVANT=0.1, NOT=0.05, Yes=0.2)
    assert relevance_probability([first]) == pytest.approx(0.4 / 0.8)


def test_the_probability_is_read_after_what_both_words_share() -> None:
    shared = TokenChoice(" ", {" ": math.log(0.9), "\n": math.log(0.1)})
    assert relevance_probability([shared, shared, token("REL", REL=0.25, NOT=0.75)]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [token("Yes", Yes=0.5, R=0.5)],
        [token("R", R=0.0, N=0.0)],
        [TokenChoice(" ", {" ": 0.0})],
        [TokenChoice("RELEVANT", {})],
    ],
)
def test_no_probability_where_nothing_is_known_of_the_words(tokens: list[TokenChoice]) -> None:
    assert relevance_probability(tokens) is None


def test_the_verdict_is_the_likelier_word_even_where_the_likeliest_token_began_the_other() -> None:
    first = token("N", N=0.4, R=0.3, REL=0.3)
    got = judgement("i", "NOT_RELEVANT", [first])
    assert (got.verdict, got.relevance_probability) == (True, pytest.approx(0.6))
    assert judgement("i", "NOT_RELEVANT").verdict is False


def test_an_answer_that_was_cut_off_or_is_no_verdict_is_a_failure() -> None:
    assert "'maybe'" in str(judgement("i", "maybe").verdict)
    cut_off = judgement("i", "Is it RELEVANT or\nNOT_RELEVANT", is_cut_off=True)
    assert cut_off.relevant is None and "raise judge.max_tokens" in str(cut_off.error)


def test_reasonings_are_told_apart_by_their_text_alone() -> None:
    assert id_of("a") == id_of("a") != id_of("b")
    assert len(id_of("ä")) == 32


def test_failed_is_neither_useful_nor_useless_and_unjudged_is_useful() -> None:
    of = trajectory(search("q", "a"), *[browse("a")] * 4, think("x"))
    rows = judged(of, True, False, "endpoint is down", None)
    assert [(r.judge_status, r.relevant, r.judge_error) for r in rows] == [
        ("judged", True, None),
        ("judged", False, None),
        ("failed", None, "endpoint is down"),
        ("unjudged", None, None),
    ]
    assert [(was_useful(r), was_useless(r)) for r in rows] == [(True, False), (False, True), (False, False), (True, False)]
    assert with_verdict(rows[2], True).judge_error is None


@pytest.mark.parametrize(("reasoning", "can"), [("", False), (" \n", False), ("Hm.", True)])
def test_an_agent_that_thought_nothing_cannot_be_judged(reasoning: str, can: bool) -> None:
    assert can_be_judged(reasoning) is can


def test_another_threshold_changes_what_has_a_probability_and_nothing_else() -> None:
    (row,) = judged(trajectory(search("q", "a"), browse("a"), think("x")), None)
    likely = with_verdict(row, True, 0.7)
    assert with_threshold(likely, 0.7) == likely
    assert with_threshold(likely, 0.71).relevant is False
    assert with_threshold(with_verdict(row, False, 0.4), 0.4).relevant is True
    for other in (row, with_verdict(row, True), with_verdict(row, "endpoint is down", 0.9)):
        assert with_threshold(other, 1.0) == other
