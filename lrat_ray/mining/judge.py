"""Reasoning-aware positive filtering: does the post-browse reasoning say that the document was of use (LRAT section 3.2)?

The judge sees that reasoning and nothing else. It leans towards RELEVANT: only a plain dismissal makes a document
NOT_RELEVANT. A judge that fails is recorded as failed; no verdict is ever guessed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from lrat_ray.llm import ChatClient, LLMError
from lrat_ray.schema import Browse

INSTRUCTIONS = """\
A search agent opened a document and then thought aloud. You are given those thoughts, not the document. Decide whether the \
document was of use to the agent.

Agents tend to go on searching even after a good find, so take their silence, their doubts and their next steps as no verdict. \
Answer NOT_RELEVANT only when the thoughts plainly dismiss the document: they call it irrelevant, unrelated or useless, or \
find that it is about something else and take nothing from it.
In every other case answer RELEVANT: the agent takes a fact, name or date from the document, finds it partly helpful or good \
as background, rules a candidate out with its help, or just plans its next search.

Answer with exactly one word on the last line: RELEVANT or NOT_RELEVANT."""

Verdict = bool | str
"""Whether the document is relevant, or, as a string, why judging failed."""

_WORDS = {"RELEVANT": True, "NOT_RELEVANT": False}
_SHOWN_CHARACTERS = 200
_SEED = 0


class VerdictError(ValueError):
    """An answer of the judge that is no verdict; the message quotes it."""


def judge_messages(reasoning: str) -> list[dict[str, Any]]:
    """The chat that asks for one verdict: the instructions, then the post-browse reasoning alone as the user's message."""
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": reasoning}]


def parse_verdict(answer: str | None) -> bool:
    """Whether the judge's answer says RELEVANT: its last line must be one of the two words, in capitals, and nothing else.

    Raises VerdictError for any other answer. ("RELEVANT" is part of "NOT_RELEVANT", so looking for the word is not enough.)
    """
    lines = (answer or "").strip().splitlines() or [""]
    word = lines[-1].strip(" \t`*\"'.")
    if word not in _WORDS:
        end = (answer or "")[-_SHOWN_CHARACTERS:]
        raise VerdictError(f"the judge must end with RELEVANT or NOT_RELEVANT, but its answer ends with {end!r}")
    return _WORDS[word]


def rule_verdict(reasoning: str, pattern: str) -> bool:
    """The verdict of the rule backend: relevant unless `pattern` occurs, whatever its case."""
    return re.search(pattern, reasoning, re.IGNORECASE) is None


async def endpoint_verdicts(client: ChatClient, model: str, reasonings: Iterable[str], concurrency: int) -> dict[str, Verdict]:
    """An LLM's verdict on each reasoning, asked once for each different one, at most `concurrency` requests at a time."""
    slots = asyncio.Semaphore(concurrency)

    async def judge(reasoning: str) -> Verdict:
        async with slots:
            try:
                messages = judge_messages(reasoning)
                reply = await client.complete(model=model, messages=messages, seed=_SEED, temperature=0.0)
                return parse_verdict(reply.content)
            except (LLMError, VerdictError) as error:
                return str(error)

    unique = list(dict.fromkeys(reasonings))
    return dict(zip(unique, await asyncio.gather(*map(judge, unique)), strict=True))


def with_verdict(browse: Browse, verdict: Verdict | None) -> Browse:
    """The browse with its verdict; None leaves it unjudged."""
    if isinstance(verdict, str):
        return replace(browse, relevant=None, judge_status="failed", judge_error=verdict)
    status: Literal["judged", "unjudged"] = "unjudged" if verdict is None else "judged"
    return replace(browse, relevant=verdict, judge_status=status, judge_error=None)


def can_be_judged(browse: Browse) -> bool:
    """Whether there is anything to judge: an agent that thought nothing after a browse dismissed nothing."""
    return bool(browse.reasoning.strip())


def was_useful(browse: Browse) -> bool:
    """Whether a browse counts as relevant: judged so, or not judged at all."""
    return browse.judge_status == "unjudged" or browse.relevant is True


def was_useless(browse: Browse) -> bool:
    """Whether a browse was judged irrelevant. A failed judgement is neither useful nor useless."""
    return browse.relevant is False
