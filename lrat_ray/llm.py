"""One way to reach an LLM: an OpenAI-compatible chat endpoint, with retries of our own and answers as typed records.

Agents, the relevance judge and the answer judge all speak through `ChatClient`: to a hosted API, `vllm serve`, `ray.serve.llm`
or the simulated LLM of the quickstart, which differ in `base_url` alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lrat_ray.config import LLM
from lrat_ray.loopback import NO_PROXY
from lrat_ray.text import without_lone_surrogates

if TYPE_CHECKING:
    from openai import APIError
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionMessage
    from openai.types.chat.chat_completion import Choice

_RETRIED_STATUS = frozenset({408, 409, 429})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_SHOWN_CHARACTERS = 200


class LLMError(ValueError):
    """A chat request that failed for good; the message names endpoint, model, what came back and what to do.

    `status` is the HTTP status of the refusal; None when none came back.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class TokenChoice(NamedTuple):
    """A token that a model wrote, and the tokens it had to choose from, with their log-probabilities in nats."""

    text: str
    logprobs: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called. `arguments` is the JSON text as the model wrote it, not yet checked."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer of a chat model: what it said, what it thought, what it wants called, and the tokens it used.

    `is_cut_off`: the answer ran into its limit of tokens. `tokens` are those of the content where log-probabilities were asked
    for and given.
    """

    content: str | None
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]
    prompt_tokens: int
    completion_tokens: int
    is_cut_off: bool = False
    tokens: tuple[TokenChoice, ...] = ()


class ChatClient:
    """Asynchronous client of one endpoint; safe to share between the coroutines of one event loop."""

    def __init__(self, config: LLM, base_url: str):
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self._config = config
        self._base_url = base_url
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(config.api_key_env) or "EMPTY",
            timeout=config.timeout_s,
            max_retries=0,  # `complete` retries: it must also count 409 and name the endpoint when it gives up
            http_client=DefaultAsyncHttpxClient(mounts=NO_PROXY),
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
        top_logprobs: int | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> ChatReply:
        """One chat completion. An option that is None is left to the server; `extra_body` has fields beside OpenAI's own.

        Connection errors, timeouts and the statuses 408, 409, 429 and 5xx are tried again, at most `llm.max_retries` times,
        with exponential waits and jitter. Raises LLMError for anything else, or when the retries are used up.
        """
        from openai import APIError

        options = {
            "tools": tools,
            "seed": seed,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "logprobs": None if top_logprobs is None else True,
            "top_logprobs": top_logprobs,
            "extra_body": extra_body,
        }
        request: dict[str, Any] = {"model": model, "messages": messages, **{k: v for k, v in options.items() if v is not None}}
        for attempt in range(self._config.max_retries + 1):
            try:
                completion: Any = await self._client.chat.completions.create(**request)
            except json.JSONDecodeError as error:
                raise LLMError(self._not_an_answer(model, error.doc)) from error
            except APIError as error:
                if not _is_transient(error) or attempt == self._config.max_retries:
                    status = getattr(error, "status_code", None)
                    raise LLMError(self._explain(model, error, attempt + 1), status) from error
            else:
                if (message := _message(completion)) is None:
                    raise LLMError(self._not_an_answer(model, completion))
                return _reply(message, completion.choices[0], completion.usage)
            await asyncio.sleep(_wait_s(attempt))
        raise AssertionError("the loop returns or raises in its last turn")

    async def model_names(self) -> tuple[str, ...]:
        """The models that the endpoint offers: a check to make before long work.

        Raises LLMError when the endpoint cannot be reached, or answers with something else.
        """
        from openai import APIError

        asked = "(list of models)"
        try:
            # As text: the package's own reading of it fails with an AttributeError for a web page.
            answer = (await self._client.models.with_raw_response.list()).http_response.text
        except APIError as error:
            raise LLMError(self._explain(asked, error, 1)) from error
        try:
            return tuple(str(model["id"]) for model in json.loads(answer)["data"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise LLMError(self._not_an_answer(asked, answer)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _not_an_answer(self, model: str, found: object) -> str:
        shown = repr(found)[:_SHOWN_CHARACTERS]
        fix = "check that llm.base_url is that of an OpenAI-compatible endpoint and ends in /v1"
        return f"LLM endpoint {self._base_url}, model {model}: answered with success, but not as a chat API: {shown}; {fix}"

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


def _message(completion: object) -> ChatCompletionMessage | None:
    """The message of a completion; None for what is none. The package does not check what it is sent against its types."""
    from openai.types.chat import ChatCompletion, ChatCompletionMessage

    if not isinstance(completion, ChatCompletion) or not isinstance(completion.choices, list) or not completion.choices:
        return None
    message = getattr(completion.choices[0], "message", None)
    if not isinstance(message, ChatCompletionMessage) or not isinstance(message.content, str | None):
        return None
    return message


def _reply(message: ChatCompletionMessage, choice: Choice, usage: CompletionUsage | None) -> ChatReply:
    content, reasoning = _split_reasoning(message)
    calls = tuple(
        ToolCall(
            without_lone_surrogates(call.id),
            without_lone_surrogates(call.function.name),
            without_lone_surrogates(call.function.arguments or ""),
        )
        for call in message.tool_calls or ()
        if call.type == "function"
    )
    prompt_tokens, completion_tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    is_cut_off = choice.finish_reason == "length"
    return ChatReply(content, reasoning, calls, prompt_tokens, completion_tokens, is_cut_off, _tokens(choice))


def _tokens(choice: Choice) -> tuple[TokenChoice, ...]:
    try:
        content: Iterable[Any] = (choice.logprobs and choice.logprobs.content) or ()
        return tuple(
            TokenChoice(token.token, {top.token: float(top.logprob) for top in [token, *(token.top_logprobs or ())]})
            for token in content
        )
    except (AttributeError, TypeError, ValueError):
        return ()  # the package does not check what it is sent, and a server may have probabilities of another form


def _split_reasoning(message: ChatCompletionMessage) -> tuple[str | None, str | None]:
    """(content, reasoning) wherever the server put the reasoning: its own field, that field's old name, or `<think>` tags.

    A chat template may open `<think>` in the prompt, so that only the closing tag is in the answer.
    """
    content = message.content
    reasoning = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
    if not reasoning and content and "</think>" in content:
        thought, _, content = content.partition("</think>")
        reasoning = thought.partition("<think>")[2] if "<think>" in thought else thought
    return _clean(content), _clean(reasoning)


def _clean(text: str | None) -> str | None:
    return without_lone_surrogates((text or "").strip()) or None
