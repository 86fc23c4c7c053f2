"""The simulated LLM: an OpenAI chat-completions request in, a response out, nothing kept in between.

    simulated-V, simulated-W, simulated-X           search agents that differ in how they word queries
    simulated-V-4B ... simulated-V-358B             the same, weaker or stronger (a stand-in, not a model of any backbone)
    simulated-relevance-judge                       reads a post-browse reasoning
    simulated-answer-judge                          compares a response with the reference answer

What an agent knows is read from the messages of the request, each time anew. Every response is labelled as simulated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lrat_ray.quickstart.plans import Plan, Plans
from lrat_ray.quickstart.simulated_agent import (
    STRENGTHS,
    Agent,
    Answer,
    Browsed,
    Candidate,
    Open,
    Searched,
    next_action,
    query_style,
    recall_events,
)
from lrat_ray.quickstart.simulated_judges import judge_answer, judge_relevance
from lrat_ray.quickstart.simulated_wording import STYLES, query, reasoning

SIMULATED = "simulated"
"""`system_fingerprint` of every response."""
_JUDGES: dict[str, Callable[[str], str]] = {
    "simulated-relevance-judge": judge_relevance,
    "simulated-answer-judge": judge_answer,
}
_CHARACTERS_PER_TOKEN = 4

Message = Mapping[str, Any]


class RequestError(ValueError):
    """A request that the simulated LLM cannot answer; the message says why and what would do."""


def model_names() -> list[str]:
    """Every model that `respond` knows."""
    agents = [f"simulated-{family}{f'-{size}' if size else ''}" for family in STYLES for size in STRENGTHS]
    return [*agents, *_JUDGES]


def respond(request: Message, plans: Plans) -> dict[str, Any]:
    """The chat completion for a request, both in the OpenAI format. Fields for sampling other than `seed` have no effect.

    Raises RequestError for an unknown model or messages that are no conversation of a search agent, PlanError for a question
    without a plan, JudgeError for an answer judge's prompt without its fields.
    """
    model, messages = request.get("model"), request.get("messages")
    if not isinstance(model, str) or not isinstance(messages, list) or not messages:
        raise RequestError("a chat request needs a model and messages")
    if model in _JUDGES:
        message: dict[str, Any] = {"role": "assistant", "content": _JUDGES[model](_text(messages[-1]))}
    else:
        message = _act(_agent(model, int(request.get("seed") or 0)), messages, plans)
    return _completion(model, messages, message)


@lru_cache(maxsize=1024)
def _agent(model: str, seed: int) -> Agent:
    prefix, _, rest = model.partition("-")
    family, _, size = rest.partition("-")
    if prefix != SIMULATED or family not in STYLES or size not in STRENGTHS:
        raise RequestError(f"unknown model {model!r}; the simulated LLM offers {', '.join(model_names())}")
    return Agent(name=model, styles=STYLES[family], seed=seed, strength=STRENGTHS[size])


def _act(agent: Agent, messages: Sequence[Message], plans: Plans) -> dict[str, Any]:
    """The agent's turn: it thinks, then calls one tool or answers."""
    plan = plans.find(_question(messages))
    events = _events(messages)
    memory = recall_events(plan, agent, events)
    is_told_to_stop = bool(events) and messages[-1].get("role") == "user"
    action = next_action(plan, agent, memory, must_answer=is_told_to_stop)
    last = events[-1] if events else None
    thought = reasoning(plan, agent, memory, action, read=last.text if isinstance(last, Browsed) else "")
    if isinstance(action, Answer):
        return {"role": "assistant", "content": action.text, "reasoning": thought}
    if isinstance(action, Open):
        name, arguments = "get_document", {"docid": action.candidate.docid}
    else:
        name, arguments = "search", {"query": query(query_style(plan, agent, action), plan, memory, action.hop)}
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    call = {"id": f"call_{_digest(plan, agent)}_{len(events)}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "reasoning": thought, "tool_calls": [call]}


def _question(messages: Sequence[Message]) -> str:
    for message in messages:
        if message.get("role") == "user":
            return _text(message)
    raise RequestError("no message has the role user; the simulated agent takes the first one as its question")


def _events(messages: Sequence[Message]) -> list[Searched | Browsed]:
    """The finished tool calls of a conversation, in order, each with what came back."""
    calls: dict[str, Message] = {}
    events: list[Searched | Browsed] = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            calls[call["id"]] = call["function"]
        if message.get("role") == "tool":
            function = calls.get(message.get("tool_call_id", ""))
            if function is None:
                raise RequestError(f"the tool message for call {message.get('tool_call_id')!r} answers no call made before it")
            if function["name"] == "search":
                events.append(Searched(_candidates(_text(message))))
            else:
                docid = json.loads(function["arguments"]).get("docid", "")
                events.append(Browsed(docid, _document_text(_text(message))))
    return events


@lru_cache(maxsize=1 << 14)
def _candidates(output: str) -> tuple[Candidate, ...]:
    """The results in a search tool's output: blocks `DocID:<id>`, `[title]`, snippet (see agents/tools.py)."""
    candidates = []
    for block in f"\n\n{output}".split("\n\nDocID:")[1:]:
        docid, _, rest = block.partition("\n")
        first, _, snippet = rest.partition("\n")
        has_title = first.startswith("[") and first.endswith("]")
        candidates.append(Candidate(docid.strip(), first[1:-1] if has_title else "", snippet if has_title else rest))
    return tuple(candidates)


def _document_text(output: str) -> str:
    """Title and text in a document tool's output: without its first line, which names the docid."""
    return output.partition("\n")[2]


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _completion(model: str, messages: Sequence[Message], message: dict[str, Any]) -> dict[str, Any]:
    """The response around a message. Token counts are estimated from the number of characters."""
    called = "tool_calls" in message
    written = (message["content"] or "") + message.get("reasoning", "")
    written += message["tool_calls"][0]["function"]["arguments"] if called else ""
    prompt_tokens = sum(len(_text(m)) for m in messages) // _CHARACTERS_PER_TOKEN
    completion_tokens = len(written) // _CHARACTERS_PER_TOKEN
    return {
        "id": f"chatcmpl-{SIMULATED}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "system_fingerprint": SIMULATED,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if called else "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


@lru_cache(maxsize=4096)
def _digest(plan: Plan, agent: Agent) -> str:
    return hashlib.sha256(f"{plan.question}\x1f{agent.name}\x1f{agent.seed}".encode()).hexdigest()[:12]
