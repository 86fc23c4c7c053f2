"""Training tables made from examples alone: every text is as many words as its tokens, and a token says where it comes from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st

from lrat_ray.config import Train
from lrat_ray.documents import DocumentStore
from lrat_ray.training import tokens
from lrat_ray.training.examples import Example
from lrat_ray.training.tokens import TrainingTable


class Passages:
    """In place of a doc store: document d has 1 + d * 7 % 12 tokens, all of them d."""

    def passages(self, rows: Sequence[int]) -> list[str]:
        return [" ".join([str(row)] * document_length(row)) for row in rows]


def document_length(row: int) -> int:
    return 1 + row * 7 % 12


def tokenize(texts: list[str]) -> list[list[int]]:
    return [[int(word) for word in text.split()] for text in texts]


def query_texts(example: Example, variants: int) -> list[str]:
    """Variant v of example `p12` has 1 + (12 * 5 + v) % 9 tokens, all of them 12 * 10 + v."""
    number = int(example.pair_id[1:])
    return [" ".join([str(number * 10 + v)] * (1 + (number * 5 + v) % 9)) for v in range(variants)]


def example(i: int, *, positive: int, negatives: Sequence[int] = (), relevant: Sequence[int] = (), **changes: Any) -> Example:
    """Example i; its positive is always among what is relevant."""
    values: dict[str, Any] = {
        "pair_id": f"p{i}",
        "query": f"query {i}",
        "question": f"question {i}",
        "search_reasoning": None,
        "positive": positive,
        "negatives": list(negatives),
        "relevant": sorted({positive, *relevant}),
        "weight": 0.5 + i % 3,
        "held_out": False,
    }
    return Example(**{**values, **changes})


def make_table(examples: Sequence[Example], *, part: tokens.Part = "examples", variants: int = 1) -> TrainingTable:
    """A table of these examples, which stays readable after its files are gone: they are mapped."""
    with tempfile.TemporaryDirectory() as folder:
        rows = tokens.write_examples(folder, examples, queries=lambda e: query_texts(e, variants), tokenize=tokenize)
        tokens.write_documents(folder, rows, cast(DocumentStore, Passages()), tokenize)
        return TrainingTable(folder, part)


def train(**changes: Any) -> Train:
    return Train(**{"batch_size": 4, "group_size": 4, **changes})


@st.composite
def example_lists(draw: st.DrawFn, *, most: int = 14, documents: int = 40) -> list[Example]:
    """Examples of a few questions; documents known to help one are no negatives of it, as `examples.join` leaves them."""
    seed, count, questions = draw(st.integers(0, 10_000)), draw(st.integers(2, most)), draw(st.integers(2, 6))
    rng = np.random.default_rng(seed)
    asked = rng.integers(questions, size=count)
    positives = rng.integers(documents, size=count)
    relevant = [set(positives[asked == question].tolist()) for question in range(questions)]
    return [
        example(
            i,
            positive=int(positives[i]),
            relevant=sorted(relevant[asked[i]]),
            negatives=[
                int(row)
                for row in rng.choice(documents, rng.integers(0, 8), replace=False)
                if int(row) not in relevant[asked[i]]
            ],
            weight=float(rng.exponential()),
        )
        for i in range(count)
    ]
