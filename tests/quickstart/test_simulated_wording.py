from __future__ import annotations

import math
import re
import statistics
from dataclasses import replace

import pytest

from lrat_ray.config import Judge
from lrat_ray.quickstart.plans import plan
from lrat_ray.quickstart.simulated_agent import Agent, Browsed, Candidate, Finding, Memory, Search, Searched, recall_events
from lrat_ray.quickstart.simulated_judges import judge_relevance
from lrat_ray.quickstart.simulated_wording import MEDIAN_TOKENS, P_RELEVANT, SIGMA, STYLES, query, reasoning
from tests.quickstart.questions import FILM, FILM_TEXT

PLAN = plan(FILM)
AGENT = Agent(name="simulated-V", styles=STYLES["V"], seed=1)
KNOWING = Memory(found={0: "Tomas Verrin"})


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("keyword", "Tomas Verrin born"),
        ("plain", "Where was Tomas Verrin born?"),
        ("main", "Where was the director of The Amber Harbour born?"),
        ("mainkw", "director Amber Harbour born Tomas Verrin"),
    ],
)
def test_short_styles(style: str, text: str) -> None:
    assert query(style, PLAN, KNOWING, 1) == text


@pytest.mark.parametrize("style", ["thought", "thought2", "note", "verify"])
def test_reasoning_styles_carry_question_findings_and_next_step(style: str) -> None:
    text = query(style, PLAN, KNOWING, 1)
    assert PLAN.question in text and "Tomas Verrin." in text and PLAN.hops[1].question in text


def test_evaluation_styles_are_not_those_of_the_mined_agent() -> None:
    assert not set(STYLES["V"]) & set(STYLES["W"])


def readings(finding: Finding, count: int) -> list[str]:
    """Post-browse reasoning of `count` agents that differ in their seed."""
    text = {"found": FILM_TEXT, "on topic": "The film The Amber Harbour won a prize.", "off topic": "Pots are made of clay."}
    events = (Searched((Candidate("1", "The Amber Harbour", ""),)), Browsed("1", text[finding]))
    thoughts = []
    for seed in range(count):
        agent = replace(AGENT, seed=seed)
        memory = recall_events(PLAN, agent, events)
        assert memory.finding == finding
        thoughts.append(reasoning(PLAN, agent, memory, Search(1, 0), read=text[finding]))
    return thoughts


@pytest.mark.parametrize("finding", ["found", "on topic", "off topic"])
def test_the_judge_reads_usefulness_in_the_text_with_the_stated_probability(finding: Finding) -> None:
    verdicts = [judge_relevance(text) for text in readings(finding, 2000)]
    assert verdicts.count("RELEVANT") / 2000 == pytest.approx(P_RELEVANT[finding], abs=0.035)


@pytest.mark.parametrize("finding", ["found", "on topic"])
def test_lengths_are_lognormal_around_their_medians(finding: Finding) -> None:
    lengths = [len(text.split()) for text in readings(finding, 2000)]
    assert statistics.median(lengths) == pytest.approx(MEDIAN_TOKENS[finding], rel=0.06)
    above = [math.log(n / MEDIAN_TOKENS[finding]) for n in lengths if n > MEDIAN_TOKENS[finding]]
    # The upper half of a normal distribution: E|x| = sigma * sqrt(2 / pi). Short ones are cut off by the verdict itself.
    assert statistics.mean(above) == pytest.approx(SIGMA * math.sqrt(2 / math.pi), rel=0.08)


def test_the_rule_backend_agrees_with_the_simulated_judge() -> None:
    pattern = re.compile(Judge().pattern, re.IGNORECASE)
    for finding in P_RELEVANT:
        for text in readings(finding, 100):
            assert (pattern.search(text) is None) == (judge_relevance(text) == "RELEVANT")


def test_a_page_that_settles_another_part_is_not_credited_with_this_one() -> None:
    """The last search was for the birthplace, the page tells who directed the film: that is what the agent says it found."""
    asked = replace(FILM, question="Tomas Verrin made The Amber Harbour, or did he? Where was he born?")
    named = plan(asked)
    events = (Searched(()), Searched(()), Searched((Candidate("1", "", ""),)), Browsed("1", FILM_TEXT))
    memory = recall_events(named, AGENT, events)
    assert (memory.hop, memory.about, memory.finding) == (1, 0, "found")
    assert "Hallmere" not in reasoning(named, AGENT, memory, Search(1, 1), read=FILM_TEXT)
