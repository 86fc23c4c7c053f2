"""Held-out ranking: metrics against the definitions, blocks against one worker, a collapsed encoder at the bottom."""

from __future__ import annotations

import dataclasses
import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.training import validation
from lrat_ray.training.examples import Example
from lrat_ray.training.validation import (
    METRICS,
    Block,
    measure,
    rank_of_positive,
    ranking_metrics,
    ranking_sums,
    validation_blocks,
)
from tests.training.tables import example, example_lists, make_table

DIM = 6


def embed(sequences: list[np.ndarray], cuts: list[slice]) -> np.ndarray:
    """A made-up encoder: a unit vector that follows from the first token alone."""
    vectors = np.stack([np.random.default_rng(int(sequence[0])).normal(size=DIM) for sequence in sequences])
    assert cuts[-1].stop == len(sequences)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def vector(token: int) -> np.ndarray:
    return embed([np.array([token])], [slice(0, 1)])[0]


# --- ranks and metrics --------------------------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    metrics = ranking_metrics(ranking_sums(np.array([1, 2, 7, 11])))
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / 3) / 4)  # rank 7: 1 / log2(8); rank 11: nothing
    assert metrics["recall@1"] == 0.25 and metrics["recall@5"] == 0.5
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 7 + 1 / 11) / 4)
    assert metrics["pairs"] == 4 and list(metrics) == [*METRICS, "pairs"]


@given(ranks=st.lists(st.integers(1, 40), min_size=1, max_size=30), data=st.data())
def test_sums_of_workers_add_up(ranks: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(ranks)))
    together = ranking_sums(np.array(ranks[:cut])) + ranking_sums(np.array(ranks[cut:]))
    assert ranking_metrics(together) == pytest.approx(ranking_metrics(ranking_sums(np.array(ranks))))


def test_metrics_of_nothing_are_unknown() -> None:
    with pytest.raises(ValueError, match="no held-out pair was ranked"):
        ranking_metrics(ranking_sums(np.array([])))


def test_ties_and_scores_that_are_no_numbers_rank_ahead() -> None:
    scores = np.array([[0.5, 0.4, 0.6], [0.5, 0.5, 0.5], [math.nan, 0.1, 0.1], [0.5, math.nan, 0.1], [0.5, 0.9, 0.9]])
    is_candidate = np.ones((5, 3), bool)
    is_candidate[4, 1:] = False
    assert rank_of_positive(scores, is_candidate).tolist() == [2, 3, 3, 2, 1]


@given(scores=st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_a_rank_counts_those_as_high(scores: list[float]) -> None:
    (rank,) = rank_of_positive(np.array([scores]), np.ones((1, len(scores)), bool))
    assert rank == sum(score >= scores[0] for score in scores)


# --- blocks -------------------------------------------------------------------------------------------------------------------


def held_out(
    examples: list[Example], *, variants: int = 1, variant: int = 0, workers: int = 1, tokens: int = 50
) -> list[list[Block]]:
    table = make_table([dataclasses.replace(e, held_out=True) for e in examples], part="validation", variants=variants)
    return [validation_blocks(table, r, workers, tokens, variant=variant, pairs_per_block=3) for r in range(workers)]


def slow_metrics(examples: list[Example]) -> dict[str, float]:
    """Pair by pair; query i is token 10 i, document d is token d (tables.py)."""
    ranks = []
    for e in examples:
        if e.negatives:
            query = vector(int(e.pair_id[1:]) * 10)
            scores = [float(query @ vector(row)) for row in (e.positive, *e.negatives)]
            ranks.append(sum(score >= scores[0] for score in scores))
    return ranking_metrics(ranking_sums(np.array(ranks)))


@settings(max_examples=30)
@given(examples=example_lists(), workers=st.sampled_from([1, 2, 4]), tokens=st.integers(1, 60))
def test_workers_measure_what_one_measures(examples: list[Example], workers: int, tokens: int) -> None:
    blocks = held_out(examples, workers=workers, tokens=tokens)
    if not any(e.negatives for e in examples):
        assert blocks == [[]] * workers
        return
    sums = sum(measure(embed, own) for own in blocks)
    assert isinstance(sums, np.ndarray)
    assert ranking_metrics(sums) == pytest.approx(slow_metrics(examples))


@settings(max_examples=30)
@given(examples=example_lists(), workers=st.sampled_from([1, 2, 4]), tokens=st.integers(1, 60))
def test_workers_encode_in_step(examples: list[Example], workers: int, tokens: int) -> None:
    blocks = held_out(examples, workers=workers, tokens=tokens)
    assert len({len(own) for own in blocks}) == 1
    for at_once in zip(*blocks, strict=True):
        assert len({str((block.query_cuts, block.document_cuts)) for block in at_once}) == 1
        for block in at_once:
            assert len(block.queries) == len(block.candidates) == len(block.counts) <= 3
            for sequences, cuts in ((block.queries, block.query_cuts), (block.documents, block.document_cuts)):
                assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(len(sequences)))
                assert [len(s) for s in sequences] == sorted(len(s) for s in sequences)
                padded = [max(map(len, sequences[cut])) * len(sequences[cut]) for cut in cuts]
                assert all(n <= tokens or cut.stop - cut.start == 1 for n, cut in zip(padded, cuts, strict=True))


def test_a_block_by_hand() -> None:
    examples = [example(0, positive=5, negatives=[6, 7]), example(1, positive=6, negatives=[5]), example(2, positive=9)]
    ((block,),) = held_out(examples)
    assert sorted(int(document[0]) for document in block.documents) == [
        5,
        6,
        7,
    ]  # each once; a pair without negatives is left out
    found = {
        int(query[0]) // 10: [int(block.documents[place][0]) for place in places if place >= 0]
        for query, places in zip(block.queries, block.candidates, strict=True)
    }
    assert found == {0: [5, 6, 7], 1: [6, 5]}
    assert block.counts.all()


def test_fewer_pairs_than_workers() -> None:
    blocks = held_out([example(0, positive=5, negatives=[6])], workers=4)
    assert [own[0].counts.tolist() for own in blocks] == [[True], [False], [False], [False]]
    assert sum(measure(embed, own)[-1] for own in blocks) == 1


def test_the_variant_of_the_queries() -> None:
    ((block,),) = held_out([example(4, positive=5, negatives=[6])], variants=4, variant=3)
    assert [int(query[0]) for query in block.queries] == [43]


def test_a_collapsed_encoder_finds_nothing() -> None:
    def collapsed(sequences: list[np.ndarray], _: list[slice]) -> np.ndarray:
        return np.ones((len(sequences), DIM)) / math.sqrt(DIM)

    examples = [example(i, positive=i, negatives=range(20, 31)) for i in range(5)]
    (blocks,) = held_out(examples)
    metrics = ranking_metrics(measure(collapsed, blocks))
    assert (metrics["ndcg@10"], metrics["recall@1"], metrics["recall@5"]) == (0, 0, 0)
    assert metrics["mrr"] == pytest.approx(1 / 12)


def test_docstring_examples() -> None:
    assert doctest.testmod(validation).failed == 0
