"""A question as the simulated agent plans it: hops in order, what each needs to be known first, and no docids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from lrat_ray.quickstart.reading import content_words, mentions, normalised
from lrat_ray.schema import Question

_TRIPLE = re.compile(r"\s*>>\s*")
_TRIPLE_QUESTIONS = {
    "author": "Who is the author of {}?",
    "capital of": "What is {} the capital of?",
    "cast member": "Who is a cast member of {}?",
    "child": "Who is a child of {}?",
    "composer": "Who is the composer of {}?",
    "conflict": "In which conflict was {}?",
    "country": "In which country is {}?",
    "creator": "Who is the creator of {}?",
    "crosses": "What does {} cross?",
    "director": "Who is the director of {}?",
    "educated at": "Where was {} educated at?",
    "father": "Who is the father of {}?",
    "follows": "What does {} follow?",
    "licensed to broadcast to": "Where is {} licensed to broadcast to?",
    "located in or next to body of water": "What body of water is {} located in or next to?",
    "located in the administrative territorial entity": "In which administrative territorial entity is {} located?",
    "member of": "What is {} a member of?",
    "member of political party": "Which political party is {} a member of?",
    "member of sports team": "Which sports team is {} a member of?",
    "owned by": "Who is {} owned by?",
    "part of": "What is {} part of?",
    "performer": "Who is the performer of {}?",
    "position held": "What position was held by {}?",
    "producer": "Who is the producer of {}?",
    "shares border with": "What shares a border with {}?",
    "sibling": "Who is the sibling of {}?",
    "spouse": "Who is the spouse of {}?",
}


@dataclass(frozen=True)
class Hop:
    """One sub-question, worded as a question, and the earlier hops whose answers it mentions."""

    question: str
    answer: str
    needs: tuple[int, ...]

    @cached_property
    def content(self) -> frozenset[str]:
        return content_words(self.question)


@dataclass(frozen=True)
class Plan:
    """How a question is to be answered."""

    question: str
    answer: str
    hops: tuple[Hop, ...]


class PlanError(ValueError):
    """A question that the simulated agent has no plan for; the message says which."""


class Plans:
    """Plans by the text of their question, which is all that a chat request carries."""

    def __init__(self, questions: Iterable[Question]):
        """Questions without sub-questions get no plan. The sub-questions' docids are dropped here and go nowhere."""
        self._plans = {normalised(q.question): plan(q) for q in questions if q.subquestions}

    def __len__(self) -> int:
        return len(self._plans)

    def find(self, question: str) -> Plan:
        """Raises PlanError for a question that is not among those this was made from."""
        try:
            return self._plans[normalised(question)]
        except KeyError:
            raise PlanError(
                f"the simulated LLM has no plan for the question {question[:200]!r} (it knows {len(self)}); start it with the "
                "questions that the agent is asked, with sub-questions"
            ) from None


def plan(question: Question) -> Plan:
    """The plan of a question. A hop needs every earlier answer that it mentions, unless the question itself names it."""
    parts = question.subquestions or []
    hops = []
    for i, part in enumerate(parts):
        needs = tuple(
            j
            for j, earlier in enumerate(parts[:i])
            if mentions(part.question, earlier.answer) and not mentions(question.question, earlier.answer)
        )
        hops.append(Hop(question=worded(part.question), answer=part.answer, needs=needs))
    return Plan(question=question.question, answer=question.answer, hops=tuple(hops))


def worded(subquestion: str) -> str:
    """A sub-question as a person would ask it; MuSiQue writes many as triples, `Van Hook Township >> capital`."""
    if ">>" not in subquestion:
        return subquestion
    subject, relation = _TRIPLE.split(subquestion.strip(), maxsplit=1)
    return _TRIPLE_QUESTIONS.get(relation, f"What is the {relation} of {{}}?").format(subject)
