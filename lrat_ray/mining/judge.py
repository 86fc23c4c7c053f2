"""Reasoning-aware positive filtering: does the post-browse reasoning say that the document was of use (LRAT section 3.2)?

The judge sees that reasoning and nothing else. It leans towards RELEVANT: only a plain dismissal makes a document
NOT_RELEVANT. A judge that fails is recorded as failed; no verdict is ever guessed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from lrat_ray.llm import TokenChoice
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

RELEVANT, NOT_RELEVANT = CHOICES = ("RELEVANT", "NOT_RELEVANT")
"""What a judge may answer."""
VERDICT_THRESHOLD = 0.5
"""From this probability of RELEVANT on a judge's verdict is RELEVANT; pairs may be made with another (judge.threshold)."""
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of judging one reasoning: a verdict, with the probability of RELEVANT where it is known, or an error."""

    reasoning_id: str
    relevant: bool | None = None
    relevance_probability: float | None = None
    error: str | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether it is relevant, or why judging failed."""
        return self.relevant if self.relevant is not None else str(self.error)


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
    if word not in CHOICES:
        end = (answer or "")[-_SHOWN_CHARACTERS:]
        raise VerdictError(f"the judge must end with RELEVANT or NOT_RELEVANT, but its answer ends with {end!r}")
    return word == RELEVANT


def rule_verdict(reasoning: str, pattern: str) -> bool:
    """The verdict of the rule backend: relevant unless `pattern` occurs, whatever its case."""
    return re.search(pattern, reasoning, re.IGNORECASE) is None


def relevance_probability(tokens: Iterable[TokenChoice]) -> float | None:
    """P(RELEVANT) of a judge that answered with one of the two words, from the log-probabilities of its tokens.

    Read at the first token at which the two words part: the mass of the tokens that begin (or go on with) RELEVANT, as a share
    of the mass on both words. Exact where the tokens before it could not be otherwise, as under a grammar that allows the two
    words alone; -inf counts as no mass. None where the answer leaves both words, or nothing is known of either.
    """
    written = ""
    for token in tokens:
        now = (written + token.text).lstrip()
        reachable = [word for word in CHOICES if _can_be(word, now)]
        if not reachable:
            return None
        if len(reachable) == 1:
            mass = dict.fromkeys(CHOICES, 0.0)
            for text, logprob in token.logprobs.items():
                words = [word for word in CHOICES if _can_be(word, (written + text).lstrip())]
                if len(words) == 1:
                    mass[words[0]] += math.exp(logprob)
            both = sum(mass.values())
            return mass[RELEVANT] / both if both > 0 else None
        written += token.text
    return None


def _can_be(word: str, written: str) -> bool:
    """Whether a text may become the word, or already is the word and more (the end of the message)."""
    return word.startswith(written) or written.startswith(word)


def judgement(
    reasoning_id: str, answer: str | None, tokens: Iterable[TokenChoice] = (), *, is_cut_off: bool = False
) -> Judgement:
    """The judgement that an answer of the judge is, strictly read; `tokens` are its tokens, if they are known.

    An answer that was cut off is a failure even where it ends in a verdict: amid its thoughts a model may name both.
    """
    try:
        if is_cut_off:
            end = (answer or "")[-_SHOWN_CHARACTERS:]
            raise VerdictError(
                f"the judge ran out of tokens before its verdict, its answer ends with {end!r}; raise judge.max_tokens, or "
                "pass judge.thinking=false for a model that does not think"
            )
        relevant = parse_verdict(answer)
    except VerdictError as error:
        return Judgement(reasoning_id=reasoning_id, error=str(error))
    probability = relevance_probability(tokens)
    if probability is not None:
        # Not the word itself: the likeliest first token may begin the less likely word, which has others to begin with.
        relevant = probability >= VERDICT_THRESHOLD
    return Judgement(reasoning_id=reasoning_id, relevant=relevant, relevance_probability=probability)


def id_of(reasoning: str) -> str:
    """What identifies a reasoning among all others: 128 bits of its hash, as 32 hexadecimal digits."""
    return hashlib.blake2b(reasoning.encode(), digest_size=16).hexdigest()


def with_verdict(browse: Browse, verdict: Verdict | None, probability: float | None = None) -> Browse:
    """The browse with its verdict, and with the probability of RELEVANT if there is one; None leaves it unjudged."""
    if isinstance(verdict, str):
        return replace(browse, relevant=None, relevance_probability=None, judge_status="failed", judge_error=verdict)
    status: Literal["judged", "unjudged"] = "unjudged" if verdict is None else "judged"
    return replace(browse, relevant=verdict, relevance_probability=probability, judge_status=status, judge_error=None)


def with_threshold(browse: Browse, threshold: float) -> Browse:
    """The browse with `relevant` decided anew: relevant from a probability of `threshold` on (0 to 1).

    A browse without a probability keeps the judge's verdict.
    """
    if browse.judge_status != "judged" or browse.relevance_probability is None:
        return browse
    return replace(browse, relevant=browse.relevance_probability >= threshold)


def can_be_judged(reasoning: str) -> bool:
    """Whether there is anything to judge: an agent that thought nothing after a browse dismissed nothing."""
    return bool(reasoning.strip())


def was_useful(browse: Browse) -> bool:
    """Whether a browse counts as relevant: judged so, or not judged at all."""
    return browse.judge_status == "unjudged" or browse.relevant is True


def was_useless(browse: Browse) -> bool:
    """Whether a browse was judged irrelevant. A failed judgement is neither useful nor useless."""
    return browse.relevant is False
