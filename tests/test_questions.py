"""Questions are checked before anything is asked; the unfit ones are listed with the reason."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrat_ray import artifacts, documents, questions
from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import Config


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
        "line 10": "malformed JSON",
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


@pytest.fixture
def chunked_store(tmp_path):
    """d1 in three chunks, d2 whole."""
    pq.write_table(pa.table({"docid": ["d1", "d2"], "text": ["One two three four. " * 8, "y"]}), tmp_path / "k.parquet")
    config = Config().replace(documents__chunk_tokens=16)
    return documents.build(str(tmp_path / "k.parquet"), str(tmp_path / "chunked"), config=config).uri


def beir(folder, *, qrels="q1\td1\t1\nq2\td2\t2\nq1\td2\t0\n", name="test.tsv"):
    (folder / "qrels").mkdir(parents=True)
    (folder / "qrels" / name).write_text("query-id\tcorpus-id\tscore\n" + qrels)
    write(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"what {n}?", "metadata": {}} for n in (1, 2, 3)])
    write(folder / "corpus.jsonl", [{"_id": "d1", "title": "", "text": "x"}])
    return str(folder)


def test_a_beir_folder_brings_its_qrels_and_no_answers(tmp_path, store):
    manifest = questions.build(beir(tmp_path / "beir"), str(tmp_path / "q"), documents=store)
    assert manifest.rows == {"in": 3, "out": 2, "rejected": 1}
    assert manifest.metrics == {
        "without_answer": 2,
        "qrels": {"in": 3, "used": 2, "not_relevant": 1, "repeated_or_of_no_question_kept": 0},
        "rejected_by_reason": {"not in qrels": 1},
    }
    read = questions.read(manifest.uri, need_answers=False)
    assert [(q.query_id, q.question, q.answer, q.evidence_docids) for q in read] == [
        ("q1", "what 1?", "", ["d1"]),
        ("q2", "what 2?", "", ["d2"]),
    ]


def test_who_needs_answers_is_told_that_there_are_none(tmp_path):
    uri = questions.build(beir(tmp_path / "beir"), str(tmp_path / "q")).uri
    with pytest.raises(ArtifactError, match=r"2 of 2 questions have no answer \(the first: 'q1'\)"):
        questions.read(uri)


def test_a_beir_folder_without_test_qrels_says_what_there_is(tmp_path):
    folder = beir(tmp_path / "beir", name="dev.tsv")
    with pytest.raises(ArtifactError, match=r"no qrels/test.tsv \(found: dev.tsv\); name a file with --qrels"):
        questions.build(folder, str(tmp_path / "q"))
    assert questions.build(folder, str(tmp_path / "q"), qrels=f"{folder}/qrels/dev.tsv").rows["out"] == 2


@pytest.mark.parametrize("header", ["", "query_id\tquestion\tanswer\n"])
def test_a_tsv_with_trec_qrels(tmp_path, store, header):
    (tmp_path / "q.tsv").write_text(f"{header}q1\twho?\tAnna\nq2\twhen?\nq3\n\nq4\twhere?\tRome\n")
    (tmp_path / "qrels.txt").write_text(
        "q1 0 d1 1\nq1 0 d2 0\nq1 0 d1 1\nq2 Q0 d2 1\nq2 0 d1\nq9 0 d1 1\nq4 0 d9 1\n" + "bad\n"
    )
    (tmp_path / "gold.txt").write_text("q1 0 d2 1\n")
    manifest = questions.build(
        str(tmp_path / "q.tsv"),
        str(tmp_path / "q"),
        qrels=str(tmp_path / "qrels.txt"),
        gold_qrels=str(tmp_path / "gold.txt"),
        documents=store,
    )
    assert manifest.rows == {"in": 6, "out": 2, "rejected": 4}  # four questions and two broken lines of qrels
    read = questions.read(manifest.uri, need_answers=False)
    assert [(q.query_id, q.answer, q.evidence_docids, q.gold_docids) for q in read] == [
        ("q1", "Anna", ["d1"], ["d2"]),
        ("q2", "", ["d2"], []),
    ]
    after = 1 if header else 0
    assert {(r.source.rpartition("/")[2], r.position): r.reason for r in artifacts.read_rejected(manifest.uri)} == {
        ("qrels.txt", "line 5"): "malformed qrels",
        ("qrels.txt", "line 8"): "malformed qrels",
        ("q.tsv", f"line {3 + after}"): "malformed row",
        ("q.tsv", f"line {5 + after}"): "evidence not in corpus",
    }
    assert manifest.metrics["without_answer"] == 1
    assert manifest.metrics["qrels"] == {"in": 6, "used": 2, "not_relevant": 1, "repeated_or_of_no_question_kept": 3}
    assert manifest.metrics["gold_qrels"]["used"] == 1


def test_without_qrels_a_question_needs_its_answer(tmp_path):
    (tmp_path / "q.tsv").write_text("q1\twho?\tAnna\nq2\twhen?\n")
    manifest = questions.build(str(tmp_path / "q.tsv"), str(tmp_path / "q"))
    assert manifest.rows == {"in": 2, "out": 1, "rejected": 1}
    (bad,) = artifacts.read_rejected(manifest.uri)
    assert (bad.position, bad.detail) == ("line 2", "question 'q2' has no answer (found: query_id, question)")


def test_qrels_come_after_the_evidence_of_the_question_itself(tmp_path):
    path = write(tmp_path / "q.jsonl", [question("q", evidence_docids=["d2", "d1"])])
    (tmp_path / "qrels.tsv").write_text("q\td1\t1\nq\td3\t1\n")
    (read,) = questions.read(questions.build(path, str(tmp_path / "q"), qrels=str(tmp_path / "qrels.tsv")).uri)
    assert read.evidence_docids == ["d2", "d1", "d3"]


def test_golden_answers_are_the_answer_and_its_aliases(tmp_path):
    rows = [{"id": 1, "question": "who?", "golden_answers": ["Anna", "Ann"]}, {"id": 2, "question": "?", "golden_answers": []}]
    manifest = questions.build(write(tmp_path / "q.jsonl", rows), str(tmp_path / "q"))
    assert manifest.rows["rejected"] == 1
    (read,) = questions.read(manifest.uri)
    assert (read.query_id, read.answer, read.answer_aliases) == ("1", "Anna", ["Ann"])


def test_a_list_of_answers_is_the_answer_and_its_aliases(tmp_path):
    rows = [
        question("1", answer=["Anna", "Ann", 7]),
        question("2", question="when?", answer=[1984]),
        question("3", question="where?", answer=["Rome", "Roma"], answer_aliases=["Urbs"]),
        question("4", question="why?", answer=[], golden_answers=["so"]),
        question("5", question="how?", answer=[]),
    ]
    manifest = questions.build(write(tmp_path / "q.jsonl", rows), str(tmp_path / "q"))
    assert [(q.answer, q.answer_aliases) for q in questions.read(manifest.uri)] == [
        ("Anna", ["Ann", "7"]),
        ("1984", []),
        ("Rome", ["Urbs"]),
        ("so", []),
    ]
    (bad,) = artifacts.read_rejected(manifest.uri)
    assert bad.position == "line 5" and "has no answer" in bad.detail


def test_values_of_a_wrong_type_are_rejected_by_name(tmp_path):
    """They stopped the import while it wrote, and docids were taken from str(None) and str(["z"])."""
    hop = {"question": "a", "answer": "b"}
    rows = [
        question("good", source=None, subquestions=[{**hop, "docid": None}]),
        question("1", source=5),
        question("2", subquestions=[hop, {**hop, "question": 1}]),
        question("3", subquestions=[{**hop, "docid": ["d1"]}]),
        question("4", evidence_docids=[None, ["z"]]),
        question("5", gold_docids=[["z"]]),
        question("6", answer_aliases=[True]),
        question("7", evidence_docids=[1.5]),
    ]
    manifest = questions.build(write(tmp_path / "q.jsonl", rows), str(tmp_path / "q"))
    assert manifest.rows == {"in": 8, "out": 1, "rejected": 7}
    assert [bad.detail for bad in artifacts.read_rejected(manifest.uri)] == [
        "question '1': source is no string but int",
        "question '2': subquestions[1].question is no string but int",
        "question '3': subquestions[0].docid is no string but list",
        "question '4': evidence_docids holds None, which is no string",
        "question '5': gold_docids holds ['z'], which is no string",
        "question '6': answer_aliases holds True, which is no string",
        "question '7': evidence_docids holds 1.5, which is no string",
    ]


def test_a_document_in_chunks_is_evidence_by_all_of_them(tmp_path, chunked_store):
    rows = [
        question("parent", evidence_docids=["d2", "d1"], gold_docids=["d1", "elsewhere"]),
        question("chunk", question="!", evidence_docids=["d1#1"]),
        question("no chunk", evidence_docids=["d1#9"]),
    ]
    manifest = questions.build(write(tmp_path / "q.jsonl", rows), str(tmp_path / "q"), documents=chunked_store)
    chunks = ["d1#0", "d1#1", "d1#2", "d1#3"]
    assert [(q.evidence_docids, q.gold_docids) for q in questions.read(manifest.uri)] == [
        (["d2", *chunks], [*chunks, "elsewhere"]),
        (["d1#1"], []),
    ]
    assert [r.reason for r in artifacts.read_rejected(manifest.uri)] == ["evidence not in corpus"]


def test_evidence_shared_with_training_is_seen_through_chunks(tmp_path, chunked_store):
    train = write(tmp_path / "t.jsonl", [question("t", question="then", evidence_docids=["d1"])])
    trained = questions.build(train, str(tmp_path / "t"), documents=chunked_store).uri
    rows = [question("leak", evidence_docids=["d1"]), question("good", evidence_docids=["d2"])]
    path = write(tmp_path / "e.jsonl", rows)
    manifest = questions.build(path, str(tmp_path / "e"), documents=chunked_store, disjoint_from=trained)
    assert [r.reason for r in artifacts.read_rejected(manifest.uri)] == ["evidence shared with training"]


def test_packed_files(tmp_path):
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(json.dumps(question("a")).encode()))
    (tmp_path / "r.tsv.gz").write_bytes(gzip.compress(b"b\twho?\tAnna\n"))
    for name, query_id in (("q.jsonl.gz", "a"), ("r.tsv.gz", "b")):
        (read,) = questions.read(questions.build(str(tmp_path / name), str(tmp_path / query_id)).uri)
        assert read.query_id == query_id


def test_missing_qrels(tmp_path):
    path = write(tmp_path / "q.jsonl", [question()])
    with pytest.raises(ArtifactError, match="qrels: .*nowhere.tsv does not exist"):
        questions.build(path, str(tmp_path / "q"), qrels=str(tmp_path / "nowhere.tsv"))
