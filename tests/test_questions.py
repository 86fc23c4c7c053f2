"""Questions are checked before anything is asked; the unfit ones are listed with the reason."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrat_ray import artifacts, documents, questions
from lrat_ray.artifacts import ArtifactError


@pytest.fixture
def store(tmp_path):
    pq.write_table(pa.table({"docid": ["d1", "d2"], "text": ["x", "y"]}), tmp_path / "c.parquet")
    return documents.build(str(tmp_path / "c.parquet"), str(tmp_path / "store")).uri


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def question(query_id="q", **changes):
    return {"query_id": query_id, "question": "?", "answer": "!", "evidence_docids": ["d1"], **changes}


def test_every_unfit_question_is_listed_with_its_reason(tmp_path, store):
    training = [question("t", question="what then", evidence_docids=["d2"])]
    train = questions.build(write(tmp_path / "t.jsonl", training), str(tmp_path / "t"))
    rows = [
        question("good", subquestions=[{"question": "a", "answer": "b", "docid": "d1"}]),
        question("good"),
        question("elsewhere", evidence_docids=["d9"]),
        question("leak", evidence_docids=["d2"]),
        question("plain"),
        question("again", question="What, then?", evidence_docids=[]),
        question("string", evidence_docids="d1"),
        question("mute", answer=""),
        question("odd", subquestions=["a string"]),
        "{broken",
    ]
    manifest = questions.build(
        write(tmp_path / "e.jsonl", rows),
        str(tmp_path / "e"),
        documents=store,
        disjoint_from=train.uri,
        need_subquestions=True,
    )
    assert manifest.rows == {"in": 10, "out": 1, "rejected": 9}
    assert [q.query_id for q in questions.read(manifest.uri)] == ["good"]
    found = {r.position: r.reason for r in artifacts.read_rejected(manifest.uri)}
    assert found == {
        "line 2": "repeated query_id",
        "line 3": "evidence not in corpus",
        "line 4": "evidence shared with training",
        "line 5": "no sub-questions",
        "line 6": "question of training",
        "line 7": "malformed row",
        "line 8": "malformed row",
        "line 9": "malformed row",
        "line 10": "malformed row",
    }


def test_integer_ids_become_strings(tmp_path):
    path = write(tmp_path / "q.jsonl", [question(7, evidence_docids=[1, 2])])
    (read,) = questions.read(questions.build(path, str(tmp_path / "q")).uri)
    assert (read.query_id, read.evidence_docids) == ("7", ["1", "2"])


def test_no_usable_question_is_an_error_that_shows_the_first(tmp_path, store):
    path = write(tmp_path / "q.jsonl", [question(evidence_docids=["d9"])])
    with pytest.raises(ArtifactError, match="none of the 1 questions .* evidence d9 is not in the corpus"):
        questions.build(path, str(tmp_path / "q"), documents=store)


def test_missing_file(tmp_path):
    with pytest.raises(ArtifactError, match="questions: .*nowhere.jsonl does not exist"):
        questions.build(str(tmp_path / "nowhere.jsonl"), str(tmp_path / "q"))


def test_the_real_questions(tmp_path, wiki_multihop):
    """HotpotQA has no sub-questions (100 of 275 rows); nothing leaks from train to dev."""
    train = questions.build(str(wiki_multihop / "questions-train.parquet"), str(tmp_path / "t"), need_subquestions=True)
    dev = questions.build(
        str(wiki_multihop / "questions-dev.parquet"), str(tmp_path / "d"), need_subquestions=True, disjoint_from=train.uri
    )
    assert train.rows == {"in": 700, "out": 600, "rejected": 100}
    assert dev.rows == {"in": 275, "out": 175, "rejected": 100}
    assert dev.metrics == {"rejected_by_reason": {"no sub-questions": 100}}
