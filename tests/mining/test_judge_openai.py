"""The endpoint's judge against a real HTTP server: constraint, log-probabilities, what is refused, how much at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from lrat_ray.config import LLM, Judge
from lrat_ray.llm import ChatClient
from lrat_ray.mining.judge import Judgement
from lrat_ray.mining.judge_openai import EndpointJudge
from tests.mining.servers import JudgeEndpoint, judge_endpoint


@pytest.fixture
def endpoint() -> Iterator[JudgeEndpoint]:
    with judge_endpoint() as server:
        yield server


def judge_all(endpoint: JudgeEndpoint, *reasonings: str, **settings: Any) -> list[Judgement]:
    """What one judge says of reasonings, asked all at once; their ids are their texts."""

    async def judge() -> list[Judgement]:
        client = ChatClient(LLM(max_retries=0), endpoint.url)
        try:
            judging = EndpointJudge(client, Judge(model="m", **settings))
            return list(await asyncio.gather(*(judging.judge(reasoning, reasoning) for reasoning in reasonings)))
        finally:
            await client.aclose()

    return asyncio.run(judge())


def test_a_thinking_judge_is_asked_for_words_alone(endpoint: JudgeEndpoint) -> None:
    sampling = {"temperature": 0.6, "top_k": 20, "presence_penalty": None}
    assert judge_all(endpoint, "fine", sampling=sampling, max_tokens=99) == [Judgement(reasoning_id="fine", relevant=True)]
    (request,) = endpoint.requests
    del request["messages"]
    assert request == {"model": "m", "seed": 0, "max_tokens": 99, "temperature": 0.6, "top_k": 20}


def test_a_judge_that_does_not_think_chooses_and_its_probability_is_kept(endpoint: JudgeEndpoint) -> None:
    endpoint.knows_choices = True
    kept, dismissed = judge_all(endpoint, "fine", "search again", thinking=False)
    assert (kept.relevant, kept.relevance_probability) == (True, pytest.approx(0.75))
    assert (dismissed.relevant, dismissed.relevance_probability) == (False, pytest.approx(0.25))
    request = endpoint.requests[0]
    assert request["structured_outputs"] == {"choice": ["RELEVANT", "NOT_RELEVANT"]}
    assert request["chat_template_kwargs"] == {"enable_thinking": False}
    assert (request["temperature"], request["logprobs"], request["top_logprobs"]) == (0.0, True, 20)


def test_an_endpoint_that_refuses_the_constraint_is_asked_without_from_then_on(endpoint: JudgeEndpoint) -> None:
    got = judge_all(endpoint, "one", "two", "three, search again", thinking=False, concurrency=1)
    assert [(g.relevant, g.relevance_probability) for g in got] == [(True, None), (True, None), (False, None)]
    assert ["structured_outputs" in request for request in endpoint.requests] == [True, False, False, False]


def test_a_reasoning_that_is_refused_is_no_refusal_of_the_constraint(endpoint: JudgeEndpoint) -> None:
    endpoint.knows_choices = True
    refused, fine = judge_all(endpoint, "far too long", "fine", thinking=False, concurrency=1)
    assert refused.relevant is None and "the prompt is too long" in str(refused.error)
    assert fine.relevance_probability == pytest.approx(0.75)


def test_what_is_no_verdict_is_a_failure_with_its_reason(endpoint: JudgeEndpoint) -> None:
    rambling, endless = judge_all(endpoint, "Great", "endless thoughts")
    assert (rambling.relevant, endless.relevant) == (None, None)
    assert "ends with 'no idea'" in str(rambling.error)
    assert "ran out of tokens" in str(endless.error)


def test_as_many_requests_stand_at_once_as_are_allowed(endpoint: JudgeEndpoint) -> None:
    endpoint.wait_s = 0.05
    judge_all(endpoint, *map(str, range(12)), concurrency=3)
    assert endpoint.most_at_once == 3
