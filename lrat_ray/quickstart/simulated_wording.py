"""What the simulated agent says: queries in the style of a reasoning agent or of a keyword searcher, and its reasoning.

Post-browse reasoning is drawn given what was read: a lognormal length, and a sentence that says what was found or that the
page does not help. So lengths and verdicts follow the reading, and nothing downstream can learn more from them than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lrat_ray.quickstart.plans import Plan
from lrat_ray.quickstart.reading import is_content_word, normal, uniform
from lrat_ray.quickstart.simulated_agent import Action, Agent, Candidate, Finding, Memory, Open, Search

STYLES = {
    "V": ("thought", "thought2", "mainkw", "keyword"),
    "W": ("note", "verify", "main"),
    "X": ("keyword", "plain"),
}
"""Query styles of each agent. V's trajectories are mined; W shares no style with it; X is plain."""

MEDIAN_TOKENS: dict[Finding, int] = {"found": 160, "on topic": 95, "off topic": 60}
SIGMA = 0.7
P_RELEVANT: dict[Finding, float] = {"found": 0.97, "on topic": 0.55, "off topic": 0.20}
_LONGEST = 1200

_HELPS = {
    "found": (
        "This page answers it: {answer}. I was looking for this: {subquestion}",
        "Here it is. {subquestion} The page says {answer}.",
        "Good, this settles one part. {subquestion} It is {answer}.",
    ),
    "on topic": (
        "This page is about the right thing and gives background, though I still have to find out: {subquestion}",
        "A useful page on the subject. It narrows things down for my next search: {subquestion}",
    ),
    "off topic": (
        "This page is partly about something else, but it gives me a lead for this: {subquestion}",
        "Some of this may be worth keeping in mind. Still open: {subquestion}",
    ),
}
_DOES_NOT_HELP = (
    "This page does not help with this: {subquestion}",
    "Not relevant, I still do not know this: {subquestion}",
    "This is unrelated to what I am looking for. Still open: {subquestion}",
)
_MUSINGS = (
    "Let me keep in mind what is asked in the end: {question}",
    "I should be careful not to mix up things that share a name.",
    "What I know so far: {known}",
    "I compare what is written here with what I have read before, sentence by sentence, to be sure that it is the same one.",
    "The order of work is to settle one part after the other and to put them together when all of them are known.",
    "Names and dates are easily confused, so I go over this part once more before I go on.",
    "The question has {hops} parts, and {done} of them are settled by now.",
)


def query(style: str, plan: Plan, memory: Memory, hop: int) -> str:
    """The text of a search for a hop in one of the styles of STYLES."""
    return _STYLES[style](plan, memory, hop)


def reasoning(plan: Plan, agent: Agent, memory: Memory, action: Action, *, read: str) -> str:
    """What the agent thinks before its next action; `read` is the document it opened in its last step, or empty."""
    plans = _intention(plan, action)
    if memory.finding is None or memory.about is None:
        return plans
    verdict = _verdict(plan, agent, memory, memory.finding, read)
    return _stretched(plan, memory, verdict, plans, _length(plan, agent, memory, memory.finding, read))


def _verdict(plan: Plan, agent: Agent, memory: Memory, finding: Finding, read: str) -> str:
    key = _circumstances(plan, agent, memory, read)
    choices = _HELPS[finding] if uniform("verdict", *key) < P_RELEVANT[finding] else _DOES_NOT_HELP
    assert memory.about is not None
    hop = plan.hops[memory.about]
    return _pick(choices, "wording", *key).format(subquestion=hop.question, answer=hop.answer)


def _length(plan: Plan, agent: Agent, memory: Memory, finding: Finding, read: str) -> int:
    """Tokens (words here) of the post-browse reasoning."""
    draw = normal("length", *_circumstances(plan, agent, memory, read))
    return min(_LONGEST, round(MEDIAN_TOKENS[finding] * math.exp(SIGMA * draw)))


def _circumstances(plan: Plan, agent: Agent, memory: Memory, read: str) -> tuple[object, ...]:
    assert memory.about is not None
    hop = plan.hops[memory.about]
    return plan.question, hop.question, memory.attempts.get(memory.about, 0), read, agent.name, agent.seed


def _stretched(plan: Plan, memory: Memory, verdict: str, plans: str, tokens: int) -> str:
    """Verdict first, intention last, thoughts between them until there are `tokens` words."""
    room = tokens - len(verdict.split()) - len(plans.split())
    facts = {"question": plan.question, "known": _known(plan, memory) or "nothing certain.", "hops": len(plan.hops)}
    thoughts: list[str] = []
    while room > 0:
        thought = _MUSINGS[len(thoughts) % len(_MUSINGS)].format(**facts, done=len(memory.found)).split()
        thoughts.append(" ".join(thought[:room]) + (" ..." if len(thought) > room else ""))
        room -= len(thought)
    return " ".join([verdict, *thoughts, plans])


def _intention(plan: Plan, action: Action) -> str:
    if isinstance(action, Search):
        again = "I search again, in other words" if action.attempt else "Next I search"
        return f"{again}: {plan.hops[action.hop].question}"
    if isinstance(action, Open):
        return f"I open {_name(action.candidate)}."
    return "I have all parts of the answer." if action.text != "unknown" else "I could not find every part, so I stop here."


def _name(candidate: Candidate) -> str:
    return f"the page on {candidate.title}" if candidate.title else "the next page"


def _pick(choices: tuple[str, ...], *key: object) -> str:
    return choices[int(uniform(*key) * len(choices))]


def _known(plan: Plan, memory: Memory) -> str:
    """Facts found so far, in the order of the plan."""
    return " ".join(f"{plan.hops[i].question.rstrip(' ?')}? {memory.found[i]}." for i in sorted(memory.found))


def _answers(memory: Memory) -> str:
    return " ".join(memory.found[i] for i in sorted(memory.found))


def _keywords(text: str) -> str:
    kept = (word.strip('.,;:?!"()') for word in text.split())
    return " ".join(word for word in kept if word and is_content_word(word))


def _thought(plan: Plan, memory: Memory, hop: int) -> str:
    known = f" So far I know this. {_known(plan, memory)}" if memory.found else ""
    return f"I have to answer the question: {plan.question}{known} Next I need to find out: {plan.hops[hop].question}"


def _thought2(plan: Plan, memory: Memory, hop: int) -> str:
    known = f"My findings until now are these. {_known(plan, memory)}" if memory.found else "I have found nothing yet."
    return (
        f"What is missing is this: {plan.hops[hop].question} {known} With that I can go on with what is asked: {plan.question}"
    )


def _main_keywords(plan: Plan, memory: Memory, hop: int) -> str:
    return f"{_keywords(plan.question)} {_answers(memory)}".strip()


def _keyword(plan: Plan, memory: Memory, hop: int) -> str:
    return _keywords(plan.hops[hop].question)


def _note(plan: Plan, memory: Memory, hop: int) -> str:
    known = f" Notes: {_known(plan, memory)}" if memory.found else ""
    return f"Task: {plan.question}{known} Open point: {plan.hops[hop].question}"


def _verify(plan: Plan, memory: Memory, hop: int) -> str:
    given = f" I take as given: {_known(plan, memory)}" if memory.found else ""
    return f"I want to verify {plan.hops[hop].question}{given} This is for: {plan.question}"


def _main(plan: Plan, memory: Memory, hop: int) -> str:
    return plan.question


def _plain(plan: Plan, memory: Memory, hop: int) -> str:
    return plan.hops[hop].question


_STYLES: dict[str, Callable[[Plan, Memory, int], str]] = {
    "thought": _thought,
    "thought2": _thought2,
    "mainkw": _main_keywords,
    "keyword": _keyword,
    "note": _note,
    "verify": _verify,
    "main": _main,
    "plain": _plain,
}
