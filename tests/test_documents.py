"""The doc store keeps corpus order, finds every docid, and says what became of every row."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray import artifacts, documents
from lrat_ray.artifacts import ArtifactError
from lrat_ray.documents import DocumentStore, passage, snippet
from lrat_ray.schema import Document


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_documents_are_found_by_docid_and_row(tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", docid=["b", "a", "c"], title=["B", None, "C"], text=["x", "y", "z"])
    store = DocumentStore.open(documents.build(corpus, str(tmp_path / "store")).uri)
    assert len(store) == 3
    assert [store.docid(row) for row in range(3)] == ["b", "a", "c"]
    assert [store.row(docid) for docid in "abc"] == [1, 0, 2]
    assert store.get("a") == Document(docid="a", text="y")
    assert store.passages([0, 1]) == ["B\nx", "y"]
    assert [d.docid for d in store.documents()] == ["b", "a", "c"]
    assert "b" in store
    for absent in ("", "0", "bb", "z"):
        assert absent not in store
        with pytest.raises(KeyError):
            store.row(absent)


def test_a_store_pickles_as_its_path(tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", docid=["1"], text=["x" * 100_000])
    store = DocumentStore.open(documents.build(corpus, str(tmp_path / "store")).uri)
    assert len(pickle.dumps(store)) < 1000
    assert pickle.loads(pickle.dumps(store)).get("1") == store.get("1")


def test_unusable_rows_are_rejected_with_their_position(tmp_path):
    rows = [{"docid": 1, "text": "a"}, {"docid": 1, "text": "b"}, {"docid": 2, "text": " "}, {"docid": None, "text": "c"}]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    manifest = documents.build(str(path), str(tmp_path / "store"))
    assert manifest.rows == {"in": 5, "out": 1, "rejected": 4}
    found = [(r.position, r.reason) for r in artifacts.read_rejected(manifest.uri)]
    assert found == [("row 1", "repeated docid"), ("row 2", "no text"), ("row 3", "no docid"), ("row 4", "no docid")]
    assert DocumentStore.open(manifest.uri).get("1").text == "a"


def test_integer_docids_become_strings(tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", docid=[7, 8], text=["a", "b"])
    assert DocumentStore.open(documents.build(corpus, str(tmp_path / "store")).uri).docid(1) == "8"


def test_a_directory_of_files_is_one_corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    write_parquet(tmp_path / "corpus" / "1.parquet", docid=["a"], text=["x"])
    write_parquet(tmp_path / "corpus" / "2.parquet", docid=["b"], text=["y"])
    assert documents.build(str(tmp_path / "corpus"), str(tmp_path / "store")).rows["out"] == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "corpus: .* does not exist"),
        (lambda p: write_parquet(p, id=["1"], text=["a"]), r"no column 'docid' \(found: id, text\)"),
        (lambda p: write_parquet(p, id=["1"]), "no column 'docid' and no column 'text'"),
        (lambda p: p.write_text("hello"), "is not a Parquet file"),
    ],
)
def test_an_unfit_corpus_is_named(tmp_path, make, message):
    path = tmp_path / "c.parquet"
    make(path)
    with pytest.raises(ArtifactError, match=message):
        documents.build(str(path), str(tmp_path / "store"))


def test_ensure_builds_once_and_takes_an_artifact_as_it_is(tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", docid=["a"], text=["x"])
    built = documents.ensure(corpus, str(tmp_path / "store"))
    assert documents.ensure(built, str(tmp_path / "other")) == built
    assert not (tmp_path / "other").exists()


@given(text=st.text(), tokens=st.integers(1, 20))
def test_a_snippet_is_a_prefix_of_at_most_so_many_tokens(text, tokens):
    cut = snippet(Document(docid="1", text=text), tokens)
    assert text.startswith(cut)
    assert len(cut.split()) <= tokens


def test_snippet_counts_words_and_marks():
    document = Document(docid="1", title="T", text="One, two (three) four.")
    assert snippet(document, 3) == "One, two"
    assert snippet(document, 64) == document.text
    assert passage(document) == "T\nOne, two (three) four."


def test_the_real_corpus(tmp_path, wiki_multihop):
    manifest = documents.build(str(wiki_multihop / "corpus.parquet"), str(tmp_path / "store"))
    assert manifest.rows == {"in": 17588, "out": 17588, "rejected": 0}
    store = DocumentStore.open(manifest.uri)
    assert all(store.row(store.docid(row)) == row for row in range(0, len(store), 97))
