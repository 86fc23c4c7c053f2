"""Docids are looked up in whatever form the corpus has."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrat_ray import documents
from lrat_ray.artifacts import ArtifactError
from lrat_ray.trajectories.corpus_match import in_corpus


def test_every_form_of_a_corpus(tmp_path: Path) -> None:
    jsonl, parquet = tmp_path / "c.jsonl", tmp_path / "c.parquet"
    jsonl.write_text('{"docid": 1, "text": "a"}\n{"docid": "b", "text": "b"}\nnot JSON\n')
    pq.write_table(pa.table({"docid": ["1", "b"], "text": ["a", "b"]}), parquet)
    store = documents.build(str(parquet), str(tmp_path / "store"))
    for corpus in (str(jsonl), str(parquet), store.uri):
        assert in_corpus({"1", "b", "c"}, corpus) == {"1", "b"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "nowhere does not exist"), ("empty", "holds no file"), ("c.parquet", "no column 'text'")],
)
def test_what_is_no_corpus(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "c.parquet")
    with pytest.raises(ArtifactError, match=message):
        in_corpus({"1"}, str(tmp_path / name))
