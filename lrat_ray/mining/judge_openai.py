"""The openai backend of the judge: a compatible endpoint is asked, many requests at a time; its answers become judgements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import numpy as np

from lrat_ray.config import LLM, Judge
from lrat_ray.llm import ChatClient, ChatReply, LLMError
from lrat_ray.mining.judge import CHOICES, Judgement, judge_messages, judgement

_CPUS = 0.5  # it mostly waits
_SEED = 0
_MOST_LOGPROBS = 20  # what OpenAI's API allows; a grammar leaves 20 beginnings of the two words, too
_REFUSALS = frozenset({400, 422})  # what servers answer to a field that they do not know


class EndpointJudge:
    """Judges reasonings at an endpoint, at most `judge.concurrency` at a time.

    A model that does not think is asked for one of the two words and its log-probabilities, in the way of vLLM's server. Where
    that is refused, and only that, the judge asks from then on without.
    """

    def __init__(self, client: ChatClient, judge: Judge):
        self._client, self._judge = client, judge
        self._slots = asyncio.Semaphore(judge.concurrency)
        self._constrained = not judge.thinking

    async def judge(self, reasoning_id: str, reasoning: str) -> Judgement:
        """The judgement of one reasoning; a failure of the endpoint is one, too."""
        async with self._slots:
            try:
                reply = await self._ask(reasoning)
            except LLMError as error:
                return Judgement(reasoning_id=reasoning_id, error=str(error))
        return judgement(reasoning_id, reply.content, reply.tokens, is_cut_off=reply.is_cut_off)

    async def _ask(self, reasoning: str) -> ChatReply:
        if not self._constrained:
            return await self._complete(reasoning)
        constraint = {"structured_outputs": {"choice": list(CHOICES)}, "chat_template_kwargs": {"enable_thinking": False}}
        try:
            return await self._complete(reasoning, constraint, top_logprobs=_MOST_LOGPROBS)
        except LLMError as error:
            if error.status not in _REFUSALS:
                raise
            reply = await self._complete(reasoning)  # raises when it was the reasoning that is refused: too long, say
            self._constrained = False
            return reply

    async def _complete(self, reasoning: str, fields: dict[str, Any] | None = None, **options: Any) -> ChatReply:
        sampling = {"temperature": 0.0, **self._judge.sampling}
        body = {name: value for name, value in {**sampling, **(fields or {})}.items() if value is not None}
        return await self._client.complete(
            model=self._judge.model,
            messages=judge_messages(reasoning),
            seed=_SEED,
            max_tokens=self._judge.max_tokens,
            extra_body=body,
            **options,
        )


class _Asking:
    """What an actor does: batches of reasonings in, judgements out; its batches share one client and its slots."""

    def __init__(self, judge: Judge, llm: LLM, endpoint: str):
        self._judge = EndpointJudge(ChatClient(llm, endpoint), judge)

    async def __call__(self, batch: dict[str, np.ndarray]) -> AsyncIterator[dict[str, list[Any]]]:
        asked = zip(batch["reasoning_id"].tolist(), batch["reasoning"].tolist(), strict=True)
        judgements = await asyncio.gather(*(self._judge.judge(reasoning_id, reasoning) for reasoning_id, reasoning in asked))
        rows = [asdict(row) for row in judgements]
        yield {name: [row[name] for row in rows] for name in rows[0]}


def ask(reasonings: Any, judge: Judge, llm: LLM, endpoint: str, rows_per_batch: int, batches: int) -> Any:
    """Ray Data rows with reasoning_id and reasoning, in blocks of `rows_per_batch` -> rows with the fields of Judgement.

    `batches`: how many of them each actor holds at a time.
    """
    from ray.data import ActorPoolStrategy

    return reasonings.map_batches(
        _Asking,
        fn_constructor_args=(judge, llm, endpoint),
        batch_size=rows_per_batch,
        num_cpus=_CPUS,
        compute=ActorPoolStrategy(
            size=judge.replicas, max_concurrent_calls_per_actor=batches, max_tasks_in_flight_per_actor=2 * batches
        ),
    )
