"""What the simulated agent does next: a rule over the conversation so far (question, results shown, documents read).

The rule sees what a model would see. It knows the plan of its question, but no evidence docid; ranks and scores are not in
the conversation at all. All noise is a hash of (question, sub-question, attempt, passage text, agent, seed), so that two
retrievers which show the same passage get the same behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lrat_ray.quickstart.plans import Hop, Plan
from lrat_ray.quickstart.reading import content_words, mentions, normal, share, uniform

BROWSES_PER_SEARCH = 2
BROWSE_THRESHOLD = 0.3
_SNIPPET_SHARE, _TITLE_SHARE = 0.6, 0.4

Finding = Literal["found", "on topic", "off topic"]


@dataclass(frozen=True)
class Strength:
    """What tells a strong agent from a weak one.

    `searches` per sub-question before it moves on (N), `steps` in all (T), the noise of its browse choice, and the share of a
    sub-question's content words that a document must hold before the agent recognises the answer in it.
    """

    searches: int = 2
    steps: int = 16
    browse_noise: float = 0.25
    reading_threshold: float = 0.4


STRENGTHS = {
    "": Strength(),
    "4B": Strength(searches=1, steps=12, browse_noise=0.40, reading_threshold=0.5),
    "8B": Strength(searches=2, steps=12, browse_noise=0.35, reading_threshold=0.5),
    "30B": Strength(),
    "120B": Strength(searches=2, steps=20, browse_noise=0.20),
    "229B": Strength(searches=3, steps=24, browse_noise=0.20, reading_threshold=0.35),
    "358B": Strength(searches=4, steps=32, browse_noise=0.15, reading_threshold=0.3),
}
"""By the suffix of the model's name: stand-ins for the paper's backbones of that size, simulated like everything here."""


@dataclass(frozen=True)
class Agent:
    """Who acts: the query style family and the strength are the agent, the seed is one rollout of it."""

    name: str
    styles: tuple[str, ...]
    seed: int
    strength: Strength = Strength()


@dataclass(frozen=True)
class Candidate:
    """One search result as the agent sees it. `docid` serves to open it and to know it again, nothing else."""

    docid: str
    title: str
    snippet: str


@dataclass(frozen=True)
class Searched:
    """A finished search call and what it showed."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Browsed:
    """A finished browse call; `text` holds title and text, or the tool's error."""

    docid: str
    text: str


@dataclass
class Memory:
    """What the conversation so far amounts to for the agent.

    `hop` is what the last search was for; `finding` what the document opened in the last step turned out to be (None after a
    search), and `about` the hop that this finding is about: the one it answered, if any, otherwise `hop`.
    """

    found: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    hop: int | None = None
    candidates: list[Candidate] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    finding: Finding | None = None
    about: int | None = None
    steps: int = 0


@dataclass(frozen=True)
class Search:
    """Search for the answer of a hop; `attempt` counts from 0."""

    hop: int
    attempt: int


@dataclass(frozen=True)
class Open:
    """Open a candidate."""

    candidate: Candidate


@dataclass(frozen=True)
class Answer:
    """Stop and say `text`."""

    text: str


Action = Search | Open | Answer


def recall_events(plan: Plan, agent: Agent, events: Sequence[Searched | Browsed]) -> Memory:
    """Go through the conversation once more: the agent keeps nothing between two requests."""
    memory = Memory()
    for event in events:
        memory.steps += 1
        if isinstance(event, Searched):
            _take_in_search(plan, agent, memory, event)
        else:
            _take_in_document(plan, agent, memory, event)
    return memory


def next_action(plan: Plan, agent: Agent, memory: Memory, *, must_answer: bool = False) -> Action:
    """Open the next candidate of the running search, or search for the first sub-question that can be asked, or answer."""
    target = _target(plan, agent, memory)
    if must_answer or memory.steps >= agent.strength.steps or (target is None and not memory.candidates):
        return Answer(plan.answer if len(memory.found) == len(plan.hops) else "unknown")
    if memory.candidates:
        return Open(memory.candidates[0])
    assert target is not None
    return Search(target, memory.attempts.get(target, 0))


def query_style(plan: Plan, agent: Agent, search: Search) -> str:
    """The style of a query: a hash that no retriever can influence (common random numbers)."""
    draw = uniform("style", plan.question, plan.hops[search.hop].question, search.attempt, agent.name, agent.seed)
    return agent.styles[int(draw * len(agent.styles))]


def _target(plan: Plan, agent: Agent, memory: Memory) -> int | None:
    """The first hop that is neither answered nor given up and whose needs are met."""
    for i, hop in enumerate(plan.hops):
        given_up = memory.attempts.get(i, 0) >= agent.strength.searches
        if i not in memory.found and not given_up and all(j in memory.found for j in hop.needs):
            return i
    return None


def _take_in_search(plan: Plan, agent: Agent, memory: Memory, event: Searched) -> None:
    memory.finding, memory.candidates = None, []
    memory.hop = _target(plan, agent, memory)
    if memory.hop is None:
        return
    hop, attempt = plan.hops[memory.hop], memory.attempts.get(memory.hop, 0)
    memory.attempts[memory.hop] = attempt + 1
    appeal = {c: _appeal(plan, hop, attempt, c, agent) for c in event.candidates if c.docid not in memory.read}
    worth_opening = [c for c in appeal if appeal[c] >= BROWSE_THRESHOLD]
    memory.candidates = sorted(worth_opening, key=lambda c: (-appeal[c], c.title, c.snippet))[:BROWSES_PER_SEARCH]


def _appeal(plan: Plan, hop: Hop, attempt: int, candidate: Candidate, agent: Agent) -> float:
    """How much a result looks like the answer's place, from title and snippet alone: no rank, no score, no label."""
    in_snippet = share(hop.content, content_words(candidate.snippet))
    in_title = share(content_words(candidate.title), hop.content)
    seen = f"{candidate.title}\n{candidate.snippet}"
    noise = normal("browse", plan.question, hop.question, attempt, seen, agent.name, agent.seed)
    return _SNIPPET_SHARE * in_snippet + _TITLE_SHARE * in_title + agent.strength.browse_noise * noise


def _take_in_document(plan: Plan, agent: Agent, memory: Memory, event: Browsed) -> None:
    memory.read[event.docid] = event.text
    memory.candidates = [c for c in memory.candidates if c.docid != event.docid]
    known_before = set(memory.found)
    _recognise_answers(plan, agent, memory)
    settled = sorted(memory.found.keys() - known_before)
    memory.about = memory.hop if memory.hop in settled or not settled else settled[0]
    if settled:
        memory.finding = "found"
    elif memory.hop is not None and _is_on_topic(plan.hops[memory.hop], agent, event.text):
        memory.finding = "on topic"
    else:
        memory.finding = "off topic"
    if memory.hop in memory.found:
        memory.candidates = []


def _recognise_answers(plan: Plan, agent: Agent, memory: Memory) -> None:
    """Answer every sub-question that can be asked by now from all that was read: a document may settle more than one."""
    for i, hop in enumerate(plan.hops):
        if i in memory.found or any(j not in memory.found for j in hop.needs):
            continue
        if any(_is_on_topic(hop, agent, text) and mentions(text, hop.answer) for text in memory.read.values()):
            memory.found[i] = hop.answer


def _is_on_topic(hop: Hop, agent: Agent, text: str) -> bool:
    return share(hop.content, content_words(text)) >= agent.strength.reading_threshold
