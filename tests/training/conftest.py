"""A tiny random BERT bi-encoder and a small world to train it on, both made by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lrat_ray import artifacts, documents
from lrat_ray.config import Config
from lrat_ray.schema import Document, Pair
from tests.training import families
from tests.training.families import WORDS


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence-transformers folder: 3 layers of 32 dimensions, mean pooling, a query prompt, random weights."""
    return families.build("bert", tmp_path_factory.mktemp("tiny") / "encoder")


def passage_text(i: int) -> str:
    return " ".join(WORDS[(i * step) % len(WORDS)] for step in range(1, 3 + i % 5)) + f" {i}"


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A documents artifact of 40 short passages d0 .. d39."""
    folder = tmp_path_factory.mktemp("store")
    work = artifacts.begin(str(folder / "raw"), kind="raw", config={}, inputs={})
    work.write_rows(
        "corpus.parquet",
        [Document(docid=f"d{i}", title=f"{WORDS[i % 12]} {i}", text=passage_text(i)) for i in range(40)],
        Document,
    )
    return documents.build(artifacts.join(work.uri, "corpus.parquet"), str(folder / "documents")).uri


def pair(i: int, **changes: object) -> Pair:
    """Pair i: asks for passage i, with three negatives."""
    values: dict[str, object] = {
        "pair_id": f"p{i}",
        "trajectory_id": f"t{i}",
        "query_id": f"q{i}",
        "agent": "test",
        "question": f"which {WORDS[i % 12]} {i}",
        "query": f"{WORDS[i % 12]} {WORDS[(i * 5) % 12]} {i}",
        "positive_docid": f"d{i}",
        "positive_rank": 1,
        "negative_docids": [f"d{(i + k) % 40}" for k in (7, 11, 13)],
        "browse_step": 1,
        "relevant": True,
        "reasoning_tokens": 100,
        "weight": 0.5 + i % 3,
    }
    return Pair(**{**values, **changes})  # type: ignore[arg-type]


def write_pairs(folder: Path, pairs: list[Pair]) -> str:
    """A pairs artifact."""
    work = artifacts.begin(str(folder), kind="pairs", config={}, inputs={})
    work.write_rows("part-00000.parquet", pairs, Pair)
    return work.finish(parts=["part-00000.parquet"], rows={"in": len(pairs), "out": len(pairs), "rejected": 0}).uri


@pytest.fixture
def tiny_config(tmp_path: Path, tiny_encoder: str, store_uri: str) -> Callable[..., Config]:
    """A configuration that trains the tiny encoder on 16 pairs, in fp32, 4 steps an epoch; keywords change dotted keys."""
    pairs = write_pairs(tmp_path / "pairs", [pair(i) for i in range(16)])

    def make(**changes: object) -> Config:
        config = Config().replace(
            corpus=store_uri,
            output=str(tmp_path / "encoder"),
            train__base_model=tiny_encoder,
            train__pairs=pairs,
            train__batch_size=4,
            train__group_size=4,
            train__learning_rate=1e-3,
            train__freeze_layers=1,
            train__precision="fp32",
            train__temperature=0.1,
            train__validation_share=0.0,
        )
        return config.replace(**changes)

    return make
