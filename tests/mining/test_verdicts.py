"""The verdict store: what is written is read, failures are asked again, a reasoning is asked once over all parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lrat_ray.mining import verdicts
from lrat_ray.mining.judge import Judgement, id_of

A, B, C, D = (id_of(text) for text in "abcd")


def ids(*values: str) -> np.ndarray:
    return verdicts.unpack(verdicts.pack(values))


def asked(parts: list[np.ndarray], judgements: pa.Table) -> list[list[str]]:
    return [[reasoning_id.decode() for reasoning_id in part] for part in verdicts.to_ask(parts, judgements)]


def kept(uri: Path) -> dict[str, Judgement]:
    return verdicts.by_id(verdicts.read(str(uri)))


def test_what_is_written_is_read_and_a_verdict_counts_more_than_a_failure(tmp_path: Path) -> None:
    assert kept(tmp_path / "none") == {}
    judged = [Judgement(reasoning_id=A, relevant=True, relevance_probability=0.9), Judgement(reasoning_id=B, relevant=False)]
    failed = [Judgement(reasoning_id=C, error="down"), Judgement(reasoning_id=D, error="down")]
    verdicts.write(str(tmp_path), [judged[0], failed[0]])
    verdicts.write(str(tmp_path), [judged[1], failed[1]])
    assert kept(tmp_path) == {row.reasoning_id: row for row in judged + failed}
    cured = Judgement(reasoning_id=C, relevant=True)
    verdicts.write(str(tmp_path), [cured])
    assert kept(tmp_path) == {row.reasoning_id: row for row in [*judged, cured, failed[1]]}


def test_the_same_reasonings_asked_again_take_the_place_of_the_first_answer(tmp_path: Path) -> None:
    verdicts.write(str(tmp_path), [Judgement(reasoning_id=A, error="down"), Judgement(reasoning_id=B, error="down")])
    verdicts.write(str(tmp_path), [Judgement(reasoning_id=B, relevant=True), Judgement(reasoning_id=A, error="still down")])
    assert len(list(tmp_path.iterdir())) == 1
    assert {row.error for row in kept(tmp_path).values()} == {None, "still down"}


def test_a_reasoning_is_asked_by_the_first_part_that_has_it_until_it_is_judged(tmp_path: Path) -> None:
    parts = [ids(A, B), ids(), ids(B, C), ids(A, C, D)]
    nothing = verdicts.read(str(tmp_path / "none"))
    assert asked(parts, nothing) == [[A, B], [], [C], [D]]
    verdicts.write(str(tmp_path), [Judgement(reasoning_id=A, relevant=False), Judgement(reasoning_id=C, error="down")])
    known = verdicts.read(str(tmp_path))
    assert asked(parts, known) == [[B], [], [C], [D]]
    assert asked([], known) == []


def test_a_part_gets_the_judgements_that_it_asked_for(tmp_path: Path) -> None:
    verdicts.write(str(tmp_path), [Judgement(reasoning_id=i, relevant=True) for i in (A, B, C)])
    known = verdicts.read(str(tmp_path))
    assert set(verdicts.by_id(verdicts.only(known, ids(C, A, C)))) == {A, C}
    assert verdicts.only(known, ids()).num_rows == 0
    for table in (known, verdicts.read(str(tmp_path / "none"))):
        with pytest.raises(AssertionError, match="was not judged"):
            verdicts.only(table, ids(D))
