"""The control arm's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lrat_ray import artifacts
from lrat_ray.config import Config
from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair
from lrat_ray.training.control import build_control
from lrat_ray.training.examples import TrainingDataError


def test_titles_ask_for_texts_that_do_not_hold_them(tiny_config: Callable[..., Config], tmp_path: Path, store_uri: str) -> None:
    config = tiny_config(output=str(tmp_path / "control"))
    manifest = build_control(config, pairs=6, seed=3)
    corpus = DocumentStore.open(store_uri)
    own = DocumentStore.open(str(tmp_path / "control" / "documents"))
    pairs = list(artifacts.read_rows(manifest.uri, Pair, "pairs"))
    assert len({pair.positive_docid for pair in pairs}) == 6
    for pair in pairs:
        assert pair.query == corpus.get(pair.positive_docid).title
        assert (pair.weight, pair.relevant, len(set(pair.negative_docids))) == (1.0, True, config.train.group_size - 1)
        assert pair.positive_docid not in pair.negative_docids
    named = {docid for pair in pairs for docid in (pair.positive_docid, *pair.negative_docids)}
    assert {document.docid for document in own.documents()} == named
    assert all(document.title is None and document.text == corpus.get(document.docid).text for document in own.documents())
    assert not (tmp_path / "control" / "scratch").exists()


def test_the_same_seed_gives_the_same_pairs(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    def pairs(name: str, seed: int) -> list[Pair]:
        return list(
            artifacts.read_rows(build_control(tiny_config(output=str(tmp_path / name)), pairs=5, seed=seed).uri, Pair, "pairs")
        )

    assert pairs("a", 1) == pairs("b", 1) != pairs("c", 2)


def test_too_few_titles(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="needs 41 documents with a title; .* has 40"):
        build_control(tiny_config(output=str(tmp_path / "control")), pairs=41, seed=1)
