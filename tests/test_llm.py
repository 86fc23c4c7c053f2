"""The chat client against a real HTTP server that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lrat_ray import llm
from lrat_ray.config import LLM
from lrat_ray.llm import ChatClient, ChatReply, LLMError, TokenChoice, ToolCall


class Endpoint:
    """Answers requests with the queued (status, body) pairs, the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_GET()

            def do_GET(self) -> None:
                status, body = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if data.startswith(b"<") else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(llm, "_FIRST_WAIT_S", 0.001)
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever)
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    thread.join()
    endpoint.server.server_close()


def completion(**message: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }


def ask(url: str, *, max_retries: int = 2, **options: Any) -> ChatReply:
    async def call() -> ChatReply:
        client = ChatClient(LLM(max_retries=max_retries), url)
        try:
            return await client.complete(model="m", messages=[{"role": "user", "content": "hi"}], **options)
        finally:
            await client.aclose()

    return asyncio.run(call())


def test_reply_has_content_tool_calls_and_token_counts(endpoint: Endpoint) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"query": "x"}'}}
    endpoint.answers = [(200, completion(content="I look.", tool_calls=[call]))]
    assert ask(endpoint.url) == ChatReply("I look.", None, (ToolCall("c1", "search", '{"query": "x"}'),), 7, 5)


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": "42", "reasoning": "six times seven"}, "42", "six times seven"),
        ({"content": "42", "reasoning_content": "six times seven"}, "42", "six times seven"),
        ({"content": "<think>six times seven</think>\n42"}, "42", "six times seven"),
        ({"content": "six times seven</think>42"}, "42", "six times seven"),
        ({"content": "42 < 43"}, "42 < 43", None),
        ({"content": "", "reasoning": "nothing to say"}, None, "nothing to say"),
    ],
)
def test_reasoning_is_found_wherever_the_server_puts_it(
    endpoint: Endpoint, message: dict[str, Any], content: str | None, reasoning: str | None
) -> None:
    endpoint.answers = [(200, completion(**message))]
    reply = ask(endpoint.url)
    assert (reply.content, reply.reasoning) == (content, reasoning)


def test_options_that_are_none_are_left_to_the_server(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, completion(content="ok"))]
    ask(endpoint.url, seed=0, temperature=0.5)
    assert endpoint.requests == [{"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 0, "temperature": 0.5}]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_transient_errors_are_tried_again(endpoint: Endpoint, status: int) -> None:
    error = {"error": {"message": "later"}}
    endpoint.answers = [(status, error), (status, error), (200, completion(content="ok"))]
    assert ask(endpoint.url).content == "ok"
    assert len(endpoint.requests) == 3


def test_retries_are_bounded(endpoint: Endpoint) -> None:
    endpoint.answers = [(503, {"error": {"message": "busy"}})]
    with pytest.raises(LLMError, match=r"model m: status 503 after 3 attempts: .*busy.*lower the concurrency"):
        ask(endpoint.url)
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(("status", "fix"), [(400, "refuses"), (401, "OPENAI_API_KEY"), (404, "ends in /v1")])
def test_other_errors_are_final_and_say_what_to_do(endpoint: Endpoint, status: int, fix: str) -> None:
    endpoint.answers = [(status, {"error": {"message": "no"}})]
    with pytest.raises(LLMError, match=fix) as caught:
        ask(endpoint.url)
    assert endpoint.url in str(caught.value)
    assert caught.value.status == status
    assert len(endpoint.requests) == 1


def test_nobody_there() -> None:
    with pytest.raises(LLMError, match="APIConnectionError.*check that the endpoint is running"):
        ask("http://127.0.0.1:9/v1", max_retries=0)


NOT_CHAT = [b"<html>Sign in</html>", b"{cut off", [], None, {"detail": "hello"}]


@pytest.mark.parametrize(
    "answer",
    [*NOT_CHAT, {**completion(), "choices": []}, {**completion(), "choices": [{"message": "hi"}]}, completion(content=[1])],
)
def test_success_that_is_no_completion_is_an_error_that_shows_it(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answers = [(200, answer)]
    with pytest.raises(LLMError, match="model m: answered with success, but not as a chat API: .*ends in /v1"):
        ask(endpoint.url)


def models(url: str) -> tuple[str, ...]:
    async def call() -> tuple[str, ...]:
        client = ChatClient(LLM(), url)
        try:
            return await client.model_names()
        finally:
            await client.aclose()

    return asyncio.run(call())


def test_the_models_on_offer(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]})]
    assert models(endpoint.url) == ("a", "b")


@pytest.mark.parametrize("answer", [*NOT_CHAT, {"data": ["a"]}])
def test_a_list_of_models_that_is_none_is_an_error(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answers = [(200, answer)]
    with pytest.raises(LLMError, match="list of models.: answered with success, but not as a chat API"):
        models(endpoint.url)


def test_half_characters_are_replaced(endpoint: Endpoint) -> None:
    """Arrow and URLs refuse them, and would only do so when the whole run is over."""
    call = {"id": "c\ud800", "type": "function", "function": {"name": "s\ud800", "arguments": "{\udc00"}}
    endpoint.answers = [(200, completion(content="cut \ud83d", reasoning="whole \ud83d\ude00", tool_calls=[call]))]
    reply = ask(endpoint.url)
    assert (reply.content, reply.reasoning) == ("cut \ufffd", "whole \U0001f600")
    assert reply.tool_calls == (ToolCall("c\ufffd", "s\ufffd", "{\ufffd"),)


def test_an_endpoint_on_this_machine_is_reached_without_the_proxy(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    endpoint.answers = [(200, completion(content="ok"))]
    assert ask(endpoint.url).content == "ok"


def test_log_probabilities_come_token_by_token(endpoint: Endpoint) -> None:
    other = {"token": "N", "logprob": -1.2}
    first = {"token": "R", "logprob": -0.4, "top_logprobs": [{"token": "R", "logprob": -0.4}, other]}
    answer = completion(content="R")
    answer["choices"][0] |= {"finish_reason": "length", "logprobs": {"content": [first, {"token": "!", "logprob": -2}]}}
    endpoint.answers = [(200, answer)]
    reply = ask(endpoint.url, top_logprobs=2, extra_body={"top_k": 1})
    assert reply.tokens == (TokenChoice("R", {"R": -0.4, "N": -1.2}), TokenChoice("!", {"!": -2.0}))
    assert reply.is_cut_off
    assert {name: endpoint.requests[0][name] for name in ("logprobs", "top_logprobs", "top_k")} == {
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": 1,
    }


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": [1]}, {"content": 3}, {"tokens": ["R"]}, []])
def test_log_probabilities_of_another_form_are_none(endpoint: Endpoint, logprobs: Any) -> None:
    answer = completion(content="R")
    answer["choices"][0]["logprobs"] = logprobs
    endpoint.answers = [(200, answer)]
    assert ask(endpoint.url).tokens == ()
