"""Verdicts: strict answers, failures that stay failures, one question per different reasoning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lrat_ray.config import Judge
from lrat_ray.llm import ChatReply, LLMError
from lrat_ray.mining.judge import (
    VerdictError,
    can_be_judged,
    endpoint_verdicts,
    judge_messages,
    parse_verdict,
    rule_verdict,
    was_useful,
    was_useless,
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


class FakeClient:
    """Says what the reasoning asks for, and remembers the questions and how many stood at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def complete(self, *, model: str, messages: list[dict[str, Any]], seed: int, temperature: float) -> ChatReply:
        assert temperature == 0.0
        reasoning = messages[-1]["content"]
        self.asked.append(reasoning)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        if reasoning == "down":
            raise LLMError("endpoint is down")
        return ChatReply(content=reasoning, reasoning=None, tool_calls=(), prompt_tokens=1, completion_tokens=1)


def test_equal_reasonings_are_asked_once_and_failures_are_told_apart_from_verdicts() -> None:
    client = FakeClient()
    reasonings = ["RELEVANT", "NOT_RELEVANT", "down", "RELEVANT", "maybe"]
    verdicts = asyncio.run(endpoint_verdicts(client, "judge", reasonings, concurrency=2))  # type: ignore[arg-type]
    assert sorted(client.asked) == ["NOT_RELEVANT", "RELEVANT", "down", "maybe"]
    assert client.most_at_once == 2
    assert (verdicts["RELEVANT"], verdicts["NOT_RELEVANT"], verdicts["down"]) == (True, False, "endpoint is down")
    assert "'maybe'" in str(verdicts["maybe"])


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
    assert [can_be_judged(r) for r in rows] == [False, False, False, True]
    assert with_verdict(rows[2], True).judge_error is None
