"""One way to reach an LLM: an OpenAI-compatible chat endpoint, with retries of our own and answers as typed records.

Agents, the relevance judge and the answer judge all speak through `ChatClient`: to a hosted API, `vllm serve`, `ray.serve.llm`
or the simulated LLM of the quickstart, which differ in `base_url` alone.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrat_ray.config import LLM

if TYPE_CHECKING:
    from openai import APIError

_RETRIED_STATUS = frozenset({408, 409, 429})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


class LLMError(ValueError):
    """A chat request that failed for good; the message names endpoint, model, what came back and what to do."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called. `arguments` is the JSON text as the model wrote it, not yet checked."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer of a chat model: what it said, what it thought, what it wants called, and the tokens it used."""

    content: str | None
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]
    prompt_tokens: int
    completion_tokens: int


class ChatClient:
    """Asynchronous client of one endpoint; safe to share between the coroutines of one event loop."""

    def __init__(self, config: LLM, base_url: str):
        from openai import AsyncOpenAI

        self._config = config
        self._base_url = base_url
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(config.api_key_env) or "EMPTY",
            timeout=config.timeout_s,
            max_retries=0,  # `complete` retries: it must also count 409 and name the endpoint when it gives up
        )

    async def complete(
        self,
        *,
        model: str,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> ChatReply:
        """One chat completion. An option that is None is left to the server.

        Connection errors, timeouts and the statuses 408, 409, 429 and 5xx are tried again, at most `llm.max_retries` times,
        with exponential waits and jitter. Raises LLMError for anything else, or when the retries are used up.
        """
        from openai import APIError

        options = {"tools": tools, "seed": seed, "temperature": temperature, "max_tokens": max_tokens}
        request: dict[str, Any] = {"model": model, "messages": messages, **{k: v for k, v in options.items() if v is not None}}
        for attempt in range(self._config.max_retries + 1):
            try:
                completion = await self._client.chat.completions.create(**request)
            except APIError as error:
                if not _is_transient(error) or attempt == self._config.max_retries:
                    raise LLMError(self._explain(model, error, attempt + 1)) from error
            else:
                if not completion.choices:
                    raise LLMError(f"LLM endpoint {self._base_url}, model {model}: answered without a choice: {completion}")
                return _reply(completion)
            await asyncio.sleep(_wait_s(attempt))
        raise AssertionError("the loop returns or raises in its last turn")

    async def model_names(self) -> tuple[str, ...]:
        """The models that the endpoint offers. Raises LLMError when it cannot be reached: a check to make before long work."""
        from openai import APIError

        try:
            return tuple(model.id for model in (await self._client.models.list()).data)
        except APIError as error:
            raise LLMError(self._explain("(list of models)", error, 1)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _explain(self, model: str, error: APIError, attempts: int) -> str:
        status = getattr(error, "status_code", None)
        if status is None:
            fix = "check that the endpoint is running and that llm.base_url is right, or raise llm.timeout_s"
        elif status in (401, 403):
            fix = f"put the key into the environment variable {self._config.api_key_env} (llm.api_key_env)"
        elif status == 404:
            fix = "check the model's name and that llm.base_url ends in /v1"
        elif _is_transient(error):
            fix = "the endpoint is overloaded or broken: lower the concurrency (rollout, judge), or raise llm.max_retries"
        else:
            fix = "the endpoint refuses this request: check that it knows the model and supports tool calls"
        found = f"status {status}" if status is not None else type(error).__name__
        times = f" after {attempts} attempts" if attempts > 1 else ""
        return f"LLM endpoint {self._base_url}, model {model}: {found}{times}: {error.message}; {fix}"


def _is_transient(error: APIError) -> bool:
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.status_code in _RETRIED_STATUS or error.status_code >= 500
    return isinstance(error, APIConnectionError)  # timeouts included


def _wait_s(attempt: int) -> float:
    """Doubling waits with full jitter, so that clients which failed together do not come back together."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**attempt)


def _reply(completion: Any) -> ChatReply:
    message = completion.choices[0].message
    content, reasoning = _split_reasoning(message)
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments or "")
        for call in message.tool_calls or ()
        if call.type == "function"
    )
    usage = completion.usage
    return ChatReply(content, reasoning, calls, usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0)


def _split_reasoning(message: Any) -> tuple[str | None, str | None]:
    """(content, reasoning) wherever the server put the reasoning: its own field, that field's old name, or `<think>` tags.

    A chat template may open `<think>` in the prompt, so that only the closing tag is in the answer.
    """
    content = message.content
    reasoning = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
    if not reasoning and content and "</think>" in content:
        thought, _, content = content.partition("</think>")
        reasoning = thought.partition("<think>")[2] if "<think>" in thought else thought
    return (content or "").strip() or None, (reasoning or "").strip() or None
