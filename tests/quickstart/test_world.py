from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lrat_ray import artifacts
from lrat_ray.config import Config, Quickstart
from lrat_ray.quickstart.freeze import world_hash
from lrat_ray.quickstart.plans import plan
from lrat_ray.quickstart.reading import content_words, mentions, share
from lrat_ray.quickstart.world import Encyclopaedia, World, WorldError, build, make_world
from lrat_ray.schema import Document, Question, from_table

FREEZE = Path(__file__).parents[2] / "docs" / "simulation-freeze.txt"


@pytest.fixture(scope="module")
def world() -> World:
    size = Quickstart()
    return make_world(size.articles, size.train_questions, size.eval_questions, size.seed)


@pytest.fixture(scope="module")
def articles(world: World) -> dict[str, Document]:
    return {document.docid: document for document in world.documents()}


def asked(world: World) -> list[Question]:
    return world.train + world.eval


def test_sizes(world: World, articles: dict[str, Document]) -> None:
    assert (len(articles), len(world.train), len(world.eval)) == (3000, 300, 120)
    assert all(40 <= len(document.text.split()) <= 120 for document in articles.values())


def test_the_same_seed_gives_the_same_world(world: World, articles: dict[str, Document]) -> None:
    again = make_world(3000, 300, 120, Quickstart().seed)
    assert (again.train, again.eval) == (world.train, world.eval)
    assert list(again.documents()) == list(articles.values())
    assert make_world(3000, 300, 120, 1).eval != world.eval


def test_training_and_evaluation_share_neither_question_nor_evidence(world: World) -> None:
    assert not {q.question for q in world.train} & {q.question for q in world.eval}
    assert not {d for q in world.train for d in q.evidence_docids} & {d for q in world.eval for d in q.evidence_docids}
    assert len({q.question for q in asked(world)}) == len({q.query_id for q in asked(world)}) == 420


def test_every_subanswer_stands_in_its_article(world: World, articles: dict[str, Document]) -> None:
    for question in asked(world):
        assert [part.docid for part in question.subquestions or []] == question.evidence_docids
        for part in question.subquestions or []:
            assert mentions(articles[str(part.docid)].text, part.answer)


def test_nearly_every_answer_can_be_recognised_where_it_stands(world: World, articles: dict[str, Document]) -> None:
    """The agent wants 40% of a sub-question's content words in the article; paraphrase may hide few answers from it."""
    shares = [
        share(content_words(part.question), content_words(articles[str(part.docid)].text))
        for question in asked(world)
        for part in question.subquestions or []
    ]
    assert sum(s >= 0.4 for s in shares) / len(shares) > 0.95


def test_later_subquestions_need_the_earlier_answers(world: World) -> None:
    for question in asked(world):
        needs = [hop.needs for hop in plan(question).hops]
        if question.source == "world-compare":
            assert needs == [(), ()]
        else:
            assert needs[0] == () and all(i in hop for i, hop in enumerate(needs[1:]))


def test_questions_do_not_give_away_their_answers(world: World) -> None:
    for question in asked(world):
        named = [part.answer for part in question.subquestions or [] if mentions(question.question, part.answer)]
        assert not named


def test_hops_are_as_many_as_the_source_says(world: World) -> None:
    counts = Counter((q.source, len(q.subquestions or [])) for q in asked(world))
    assert set(counts) == {("world-2hop", 2), ("world-3hop", 3), ("world-4hop", 4), ("world-compare", 2)}


def test_there_are_namesakes(articles: dict[str, Document]) -> None:
    names = Counter((document.title or "").partition(" (")[0] for document in articles.values())
    assert sum(count for count in names.values() if count > 1) > 300


def test_articles_are_computed_one_by_one() -> None:
    """A million articles cost no more to begin with than three thousand."""
    large = list(islice(Encyclopaedia(1_000_000, seed=1).documents(), 100))
    assert len({document.docid for document in large}) == 100


def test_a_world_too_small_for_its_questions() -> None:
    """Four hundred evaluation questions leave no evidence for training questions."""
    with pytest.raises(WorldError, match=r"200 articles carry only \d+ of the 20 train questions.*raise quickstart.articles"):
        make_world(200, 20, 400, seed=1)


def test_build_writes_an_artifact(tmp_path: Path) -> None:
    config = Config(output=str(tmp_path / "world"), quickstart=Quickstart(articles=200, train_questions=8, eval_questions=4))
    manifest = build(config)
    corpus, train, evaluation = (pq.read_table(uri) for uri in manifest.part_uris())
    assert (corpus.num_rows, train.num_rows, evaluation.num_rows) == (200, 8, 4)
    made = make_world(200, 8, 4, config.quickstart.seed)
    assert list(from_table(corpus, Document)) == list(made.documents())
    assert list(from_table(evaluation, Question)) == made.eval
    assert artifacts.read_manifest(manifest.uri, "world").protocol == {"world_hash": world_hash()}
    assert build(config) == manifest


def test_the_world_and_its_llm_are_frozen() -> None:
    """Tuned arms have been run on this world. Changing it now would let one adjust it until they win (docs say what to do)."""
    assert f"sha256 {world_hash()}" in FREEZE.read_text()
