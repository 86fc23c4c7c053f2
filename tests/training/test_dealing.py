"""Sequences dealt out and cut up: what batches and validation rest on."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.training import dealing
from lrat_ray.training.dealing import common_cuts, deal, places_in, short_to_long, stack, sub_batches
from tests.training.tables import document_length, example, make_table

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def test_docstring_examples() -> None:
    assert doctest.testmod(dealing).failed == 0


def test_documents_stand_once_from_short_to_long() -> None:
    table = make_table([example(0, positive=3, negatives=[1, 2, 4, 12])])
    rows = short_to_long(table, np.array([[3, 1], [12, 3]]))
    assert sorted(rows.tolist()) == [1, 3, 12]
    assert [document_length(row) for row in rows.tolist()] == [1, 8, 10]


@given(items=st.lists(st.integers(0, 99), min_size=1, max_size=30, unique=True), workers=st.integers(1, 5))
def test_dealing_keeps_everything(items: list[int], workers: int) -> None:
    shares = deal(np.array(items), workers)
    missing = -len(items) % workers
    assert shares.shape == (workers, (len(items) + missing) // workers)
    assert shares.T.reshape(-1).tolist() == [items[0]] * missing + items  # as `gather_interleaved` puts them together
    assert shares.T.reshape(-1)[places_in(shares.T.reshape(-1), np.array(items))].tolist() == items


@given(lengths=LENGTHS, tokens=st.integers(1, 100))
def test_sub_batches_hold_everything_within_their_tokens(lengths: list[int], tokens: int) -> None:
    parts = list(sub_batches(lengths, tokens))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        assert max(lengths[part]) * len(lengths[part]) <= tokens or len(lengths[part]) == 1
        if following:  # as long as it can be
            longer = lengths[part.start : part.stop + 1]
            assert max(longer) * len(longer) > tokens


@given(shares=st.lists(LENGTHS.map(sorted), min_size=1, max_size=4), tokens=st.integers(1, 100))
def test_common_cuts_hold_on_every_worker(shares: list[list[int]], tokens: int) -> None:
    lengths = stack([np.array(share) for share in shares])
    cuts = common_cuts(lengths, tokens)
    for worker, share in zip(lengths.tolist(), shares, strict=True):
        assert worker[len(worker) - len(share) :] == share
        assert all(max(worker[cut]) * len(worker[cut]) <= tokens or len(worker[cut]) == 1 for cut in cuts)
