"""A made world: an encyclopaedia of a country that does not exist, with questions that take several articles to answer.

Every entity is computed from (seed, kind, number) alone, so that millions of articles can be streamed without holding any. A
third of the people have the name of another, novels share titles with films, and three in ten articles are distractors: they
use the words of an entity's article and hold none of its facts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice
from typing import NamedTuple

import pyarrow.parquet as pq

from lrat_ray import artifacts
from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config
from lrat_ray.quickstart.freeze import world_hash
from lrat_ray.quickstart.reading import mentions
from lrat_ray.quickstart.vocabulary import (
    ADJECTIVES,
    CALLED,
    COLOUR,
    COMPARED,
    CRAFTS,
    DESCRIBED,
    DISTRACTORS,
    FIRST_NAMES,
    MOTTO_WORDS,
    MOUNTAINS,
    NOUNS,
    OPENINGS,
    REGIONS,
    RELATIONS,
    RIVER_SYLLABLES,
    STARTS,
    SURNAME_SYLLABLES,
    TOWN_SYLLABLES,
    TRAITS,
    Relation,
)
from lrat_ray.schema import Document, Question, Subquestion, arrow_schema, to_table

_LAYOUT = [
    *("person", "town", "film", "distractor", "company", "person", "distractor", "town", "novel", "person"),
    *("distractor", "person", "river", "film", "distractor", "person", "town", "school", "distractor", "distractor"),
]
"""Kinds of twenty consecutive articles; the whole world repeats this row."""
_SHORTEST, _LONGEST = 45, 112
_HOPS = (2, 2, 2, 2, 3, 3, 3, 4, 4)
_COMPARISON_SHARE, _DESCRIPTION_SHARE = 0.1, 0.4
_TRIES_PER_QUESTION = 400
_ROWS_PER_BATCH = 8192


class WorldError(ValueError):
    """A world too small for the questions that are wanted; the message says which setting to change."""


class Entity(NamedTuple):
    """Something that has an article: its kind and its number among its kind."""

    kind: str
    number: int


@dataclass(frozen=True)
class World:
    """An encyclopaedia and two sets of questions about it, disjoint in questions and in evidence documents."""

    encyclopaedia: Encyclopaedia
    train: list[Question]
    eval: list[Question]

    def documents(self) -> Iterator[Document]:
        """Every article, one at a time."""
        return self.encyclopaedia.documents()


def make_world(articles: int, train_questions: int, eval_questions: int, seed: int) -> World:
    """The world of a seed: the same on every machine.

    Raises WorldError when `articles` are too few for that many questions with disjoint evidence.
    """
    encyclopaedia = Encyclopaedia(articles, seed)
    evaluation = _questions(encyclopaedia, "eval", eval_questions, taken=[])
    train = _questions(encyclopaedia, "train", train_questions, taken=evaluation)
    return World(encyclopaedia=encyclopaedia, train=train, eval=evaluation)


def build(config: Config) -> Manifest:
    """Write the world of `config.quickstart` to `config.output`: corpus, training and evaluation questions, as Parquet."""
    output = config.require("output", "the made world needs a directory to be written to")
    work = artifacts.begin(output, kind="world", config=config.only("quickstart"), inputs={}, force=config.force)
    if work.manifest:
        return work.manifest
    size = config.quickstart
    world = make_world(size.articles, size.train_questions, size.eval_questions, size.seed)
    documents = world.documents()
    corpus = artifacts.join(output, "corpus.parquet")
    with artifacts.atomic_write(corpus) as file, pq.ParquetWriter(file, arrow_schema(Document)) as writer:
        while batch := list(islice(documents, _ROWS_PER_BATCH)):
            writer.write_table(to_table(batch, Document))
    work.write_rows("questions-train.parquet", world.train, Question)
    work.write_rows("questions-eval.parquet", world.eval, Question)
    return work.finish(
        parts=["corpus.parquet", "questions-train.parquet", "questions-eval.parquet"],
        rows={"in": 0, "out": size.articles, "rejected": 0, "train": len(world.train), "eval": len(world.eval)},
        protocol={"world_hash": world_hash()},
    )


class Encyclopaedia:
    """The articles and the facts in them, computed when asked for."""

    def __init__(self, articles: int, seed: int):
        self.articles = articles
        self.seed = seed
        rounds, rest = divmod(articles, len(_LAYOUT))
        self._counts = {kind: rounds * _LAYOUT.count(kind) + _LAYOUT[:rest].count(kind) for kind in set(_LAYOUT)}
        self.name = lru_cache(maxsize=1 << 16)(self._name)

    def __len__(self) -> int:
        return self.articles

    def documents(self) -> Iterator[Document]:
        """Every article, in order of its docid."""
        numbers = dict.fromkeys(self._counts, 0)
        for i in range(self.articles):
            kind = _LAYOUT[i % len(_LAYOUT)]
            entity = Entity(kind, numbers[kind])
            numbers[kind] += 1
            yield self._distractor(entity) if kind == "distractor" else self.article(entity)

    def article(self, entity: Entity) -> Document:
        """The article of an entity: an opening, a sentence for each of its relations in some order, and colour."""
        name, rng = self.name(entity), self._rng("article", entity)
        facts = [rng.choice(r.said).format(x=name, y=self.object_text(entity, r)) for r in _relations(entity.kind)]
        rng.shuffle(facts)
        colour = list(COLOUR[entity.kind])
        rng.shuffle(colour)
        trait = self.trait(entity)
        opening = rng.choice(OPENINGS[entity.kind]).format(
            x=name, trait=trait, a_trait=_with_article(trait), region=self.region(entity)
        )
        sentences = [opening, *facts]
        wanted = rng.randint(_SHORTEST, _LONGEST - 12)
        while colour and len(" ".join(sentences).split()) < wanted:
            sentences.insert(rng.randint(1, len(sentences)), colour.pop())
        text = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
        return Document(docid=self.docid(entity), title=self._title(entity), text=text)

    def target(self, entity: Entity, relation: Relation) -> Entity:
        """The entity that a relation with a target leads to."""
        assert relation.target is not None
        if relation.name == "spouse":
            partner = entity.number ^ 1
            return Entity("person", partner if partner < self._counts["person"] else entity.number)
        return self.pick(relation.target, self._rng(relation.name, entity))

    def object_text(self, entity: Entity, relation: Relation) -> str:
        """What the article gives as the object of a relation: a name or a plain value."""
        if relation.target is not None:
            return self.name(self.target(entity, relation))
        rng = self._rng(relation.name, entity)
        if relation.name == "craft":
            return rng.choice(CRAFTS)
        if relation.name == "source":
            return " ".join(rng.choice(words) for words in MOUNTAINS)
        if relation.name == "motto":
            return " ".join(rng.choice(words) for words in MOTTO_WORDS)
        return str(self.year(entity))

    def year(self, entity: Entity) -> int:
        """The one year that an article gives: of birth, foundation, release or publication."""
        return self._rng("year", entity).randint(1832, 1968)

    def trait(self, entity: Entity) -> str:
        """A profession, a subject or a product; empty for kinds that have none."""
        return self._rng("trait", entity).choice(TRAITS.get(entity.kind, ("",)))

    def region(self, entity: Entity) -> str:
        return self._rng("region", entity).choice(REGIONS)

    def pick(self, kind: str, rng: random.Random) -> Entity:
        return Entity(kind, rng.randrange(self._counts[kind]))

    def docid(self, entity: Entity) -> str:
        """Docids count the articles."""
        per_round = _LAYOUT.count(entity.kind)
        rounds, place = divmod(entity.number, per_round)
        slots = [slot for slot, kind in enumerate(_LAYOUT) if kind == entity.kind]
        return f"{rounds * len(_LAYOUT) + slots[place]:08d}"

    def _rng(self, *key: object) -> random.Random:
        return random.Random(f"{self.seed}/{'/'.join(map(str, key))}")

    def _name(self, entity: Entity) -> str:
        kind, number = entity
        if kind == "person" and number % 3 == 2:
            return self.name(Entity(kind, number - 2))  # a namesake
        rng = self._rng("name", entity)
        if kind == "person":
            return f"{rng.choice(FIRST_NAMES)} {self._surname(rng)}"
        if kind == "town":
            return self._town_name(rng)
        if kind == "river":
            return "".join(rng.choice(syllables) for syllables in RIVER_SYLLABLES)
        if kind == "company":
            town = self.name(self.pick("town", rng))
            one, other = self._surname(rng), self._surname(rng)
            return rng.choice((f"{one} & {other}", f"{town} Works", f"{one} Brothers"))
        if kind == "school":
            town = self.name(self.pick("town", rng))
            return rng.choice((f"{self._surname(rng)} College", f"{town} Academy", f"Saint {rng.choice(FIRST_NAMES)} School"))
        if kind == "film" and rng.random() < 0.3:
            return self.name(self.pick("novel", rng))
        noun, other = rng.sample(NOUNS, 2)
        adjective = rng.choice(ADJECTIVES)
        return rng.choice((f"The {adjective} {noun}", f"The {noun} of {self._town_name(rng)}", f"{adjective} {noun}, {other}"))

    def _surname(self, rng: random.Random) -> str:
        start, middle, end = SURNAME_SYLLABLES
        more = rng.choice(middle) if self._counts["person"] > 20_000 else ""
        return f"{rng.choice(start)}{more}{rng.choice(middle)}{rng.choice(end)}"

    def _town_name(self, rng: random.Random) -> str:
        prefixes, stems, endings = TOWN_SYLLABLES
        more = rng.choice(stems).lower() if self._counts["town"] > 4_000 else ""
        prefix = rng.choice(prefixes) if rng.random() < 0.4 else ""
        return f"{prefix}{rng.choice(stems)}{more}{rng.choice(endings)}"

    def _title(self, entity: Entity) -> str:
        """The name; half of the articles on people, films and novels say which one they mean."""
        name = self.name(entity)
        if entity.kind not in ("person", "film", "novel") or self._rng("title", entity).random() < 0.5:
            return name
        return f"{name} ({self.trait(entity) if entity.kind == 'person' else entity.kind})"

    def _distractor(self, entity: Entity) -> Document:
        rng = self._rng("distractor", entity)
        about = self.pick(rng.choice(sorted(DISTRACTORS)), rng)
        title, text = rng.choice(DISTRACTORS[about.kind])
        names = {
            "x": self.name(about),
            "a_trait": _with_article(self.trait(about)),
            "town": self.name(self.pick("town", rng)),
            "town2": self.name(self.pick("town", rng)),
            "person": self.name(self.pick("person", rng)),
        }
        colour = rng.choice(COLOUR[about.kind])
        return Document(docid=self.docid(entity), title=title.format(**names), text=f"{text.format(**names)} {colour}")


def _with_article(noun: str) -> str:
    return f"{'an' if noun.startswith(tuple('aeiou')) else 'a'} {noun}"


@cache
def _relations(kind: str) -> tuple[Relation, ...]:
    return tuple(relation for relation in RELATIONS if relation.kind == kind)


def _questions(world: Encyclopaedia, split: str, count: int, *, taken: list[Question]) -> list[Question]:
    """`count` different questions, none of whose evidence is evidence of the `taken` ones."""
    rng = random.Random(f"{world.seed}/questions/{split}")
    forbidden = {docid for question in taken for docid in question.evidence_docids}
    made: dict[str, Question] = {}
    for _ in range(_TRIES_PER_QUESTION * count):
        if len(made) == count:
            break
        draft = _comparison(world, rng) if rng.random() < _COMPARISON_SHARE else _chain(world, rng)
        if draft is not None and draft.question not in made and forbidden.isdisjoint(draft.evidence_docids):
            made[draft.question] = draft
    if len(made) < count:
        raise WorldError(
            f"{world.articles} articles carry only {len(made)} of the {count} {split} questions with disjoint evidence: raise "
            f"quickstart.articles or lower quickstart.{split}_questions"
        )
    numbered = zip(range(count), made.values(), strict=True)
    return [replace(question, query_id=f"world-{split}-{i:05d}") for i, question in numbered]


def _chain(world: Encyclopaedia, rng: random.Random) -> Question | None:
    """A question over 2 to 4 relations in a row, or None where the draw does not make a sound one."""
    entity = world.pick(rng.choice(sorted(STARTS)), rng)
    described = _start(world, entity, rng)
    hops = rng.choice(_HOPS)
    parts: list[Subquestion] = []
    visited = {entity}
    subject, nested = described, described
    for hop in range(hops):
        is_last = hop == hops - 1
        relation = rng.choice([r for r in _relations(entity.kind) if is_last or r.phrase])
        answer = world.object_text(entity, relation)
        parts.append(_part(world, entity, relation, subject, answer, rng))
        if is_last:
            return _question(f"{hops}hop", rng.choice(relation.asked).format(x=nested), answer, parts)
        entity = world.target(entity, relation)
        if entity in visited:
            return None
        visited.add(entity)
        subject, nested = _called(entity, answer), rng.choice(relation.phrase).format(x=nested)
    return None


def _comparison(world: Encyclopaedia, rng: random.Random) -> Question | None:
    """A question about which of two things came first, or None where the draw does not make a sound one."""
    kind = rng.choice(sorted(COMPARED))
    one, other = world.pick(kind, rng), world.pick(kind, rng)
    if world.year(one) == world.year(other):
        return None
    relation = _relations(kind)[-1]
    parts = [_part(world, e, relation, _called(e, world.name(e)), str(world.year(e)), rng) for e in (one, other)]
    text = rng.choice(COMPARED[kind]).format(a=world.name(one), b=world.name(other))
    older = min(one, other, key=world.year)
    return _question("compare", text, world.name(older), parts, answer_is_named=True)


def _start(world: Encyclopaedia, entity: Entity, rng: random.Random) -> str:
    """How the question speaks of the entity it starts from: by name, or by its attributes."""
    by_attributes = entity.kind in DESCRIBED and rng.random() < _DESCRIPTION_SHARE
    wordings = DESCRIBED if by_attributes else STARTS
    return rng.choice(wordings[entity.kind]).format(x=world.name(entity), trait=world.trait(entity), year=world.year(entity))


def _called(entity: Entity, name: str) -> str:
    return CALLED.get(entity.kind, "{x}").format(x=name)


def _part(
    world: Encyclopaedia, entity: Entity, relation: Relation, subject: str, answer: str, rng: random.Random
) -> Subquestion:
    return Subquestion(question=rng.choice(relation.asked).format(x=subject), answer=answer, docid=world.docid(entity))


def _question(
    source: str, text: str, answer: str, parts: list[Subquestion], *, answer_is_named: bool = False
) -> Question | None:
    """The question, unless it gives away an answer (a comparison names its own) or two hops read the same document."""
    text = text[0].upper() + text[1:]
    docids = [str(part.docid) for part in parts]
    if len(set(docids)) < len(docids) or len({part.answer for part in parts}) < len(parts):
        return None
    if any(mentions(text, part.answer) for part in parts) or (not answer_is_named and mentions(text, answer)):
        return None
    return Question(
        query_id="",
        source=f"world-{source}",
        question=text,
        answer=answer,
        evidence_docids=docids,
        gold_docids=docids[-1:],
        subquestions=parts,
    )
