"""The two simulated judges. Each reads what its prompt carries: a post-browse reasoning, or answer and response."""

from __future__ import annotations

import json

from lrat_ray.quickstart.reading import mentions

_DISMISSALS = ("does not help", "not relevant", "irrelevant", "unrelated to")


class JudgeError(ValueError):
    """A request to the answer judge that does not carry the fields it compares."""


def judge_relevance(reasoning: str) -> str:
    """RELEVANT unless the reasoning plainly dismisses the document (LRAT section 3.2)."""
    thoughts = reasoning.lower()
    return "NOT_RELEVANT" if any(phrase in thoughts for phrase in _DISMISSALS) else "RELEVANT"


def judge_answer(message: str) -> str:
    """CORRECT iff the response mentions the answer or an alias as whole words, after normalisation.

    `message` is a JSON object with question, answer, aliases and response. Raises JudgeError for anything else.
    """
    try:
        data = json.loads(message)
        response, accepted = data["response"], [data["answer"], *data["aliases"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise JudgeError(
            f"the simulated answer judge needs a JSON object with question, answer, aliases and response: {error!r}"
        ) from error
    return "CORRECT" if any(mentions(response, answer) for answer in accepted) else "INCORRECT"
