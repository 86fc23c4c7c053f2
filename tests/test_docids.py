"""The rows of docids: as a dict would find them, whatever the docids are and however their hashes collide."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray import docids
from lrat_ray.docids import Lookup, hash_docid, hash_docids, lookup_table, repeated

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
MANY = st.lists(st.one_of(TEXTS, st.sampled_from(["", "0", "a", "a\x00", "aa", "12345678", "123456789"])), max_size=40)


def column(names: list[str], chunk: int = 3) -> pa.ChunkedArray:
    chunks = [pa.array(names[i : i + chunk], pa.large_string()) for i in range(0, len(names), chunk)]
    return pa.chunked_array([*chunks, pa.array([], pa.large_string())])


def lookup(names: list[str]) -> Lookup:
    table = lookup_table(docids.hash_docids(pa.array(names, pa.large_string())))
    return Lookup(pa.Table.from_batches([table]), column(names))


@pytest.fixture(params=["as it is", "two values", "one value"])
def collisions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of 64, 1 and 0 bits: real docids never collide, which is why collisions are made here."""
    bits = {"as it is": 2**64 - 1, "two values": 1, "one value": 0}[request.param]
    one, many = hash_docid, hash_docids
    monkeypatch.setattr(docids, "hash_docid", lambda docid: one(docid) & bits)
    monkeypatch.setattr(docids, "hash_docids", lambda values: many(values) & np.uint64(bits))


@pytest.mark.usefixtures("collisions")
@pytest.mark.parametrize("names", [[], ["a"], ["b", "a", "c"], [str(i) for i in range(100)], ["", "é", "日本", "x" * 2000]])
def test_rows_are_those_of_a_dict(names):
    found = lookup(names)
    expected = {docid: row for row, docid in enumerate(names)}
    asked = [*reversed(names), "absent", "", "a", "a", "x" * 1999]
    assert found.rows(asked).tolist() == [expected.get(docid, -1) for docid in asked]
    assert [found.row(docid) for docid in asked] == [expected.get(docid, -1) for docid in asked]


@settings(deadline=None)
@given(names=MANY.map(lambda names: list(dict.fromkeys(names))), asked=MANY)
def test_any_docids_are_found_as_in_a_dict(names, asked):
    expected = {docid: row for row, docid in enumerate(names)}
    found = lookup(names)
    for form in (asked, pa.array(asked, pa.string()), pa.chunked_array([pa.array(asked, pa.large_string())])):
        assert found.rows(form).tolist() == [expected.get(docid, -1) for docid in asked]
    assert [found.row(docid) for docid in asked] == [expected.get(docid, -1) for docid in asked]


@settings(deadline=None)
@given(names=MANY)
def test_one_docid_has_the_hash_that_many_have(names):
    expected = [hash_docid(name) for name in names]
    array = pa.array(["before", *names, "after"], pa.large_string())
    assert hash_docids(array[1:-1]).tolist() == expected  # a slice begins inside its buffers


def test_hashes_are_the_same_for_ever():
    """They are in files; another function would need another layout version."""
    assert [hash_docid(name) for name in ("", "1", "12345678", "12345678a")] == [
        0,
        12566222843529443483,
        1999315258433069449,
        2203231433705389620,
    ]


def test_hashes_of_long_docids_read_length_and_beginning():
    long = "https://example.org/" + "x" * 1000
    assert len({hash_docid(name) for name in (long, long + "y", "H" + long[1:])}) == 3


@pytest.mark.usefixtures("collisions")
def test_a_repeated_docid_is_one_that_stands_earlier():
    names = ["a", "b", "a", "c", "b", "b", "d", "c", "a", ""]
    hashes = docids.hash_docids(pa.array(names, pa.large_string()))
    assert np.flatnonzero(repeated(hashes, column(names))).tolist() == [2, 4, 5, 7, 8]


@settings(deadline=None)
@given(names=MANY)
def test_repeated_docids_are_those_that_a_set_has_seen(names):
    seen: set[str] = set()
    expected = [name in seen or bool(seen.add(name)) for name in names]
    assert repeated(hash_docids(pa.array(names, pa.large_string())), column(names)).tolist() == expected


def test_what_cannot_be_a_docid_is_not_there():
    found = lookup(["a"])
    assert found.row("\ud800") == -1
    assert found.rows(pa.array(["a", None])).tolist() == [0, -1]
