"""`lrat import corpus` and `lrat import questions`, from the command line to what they say and write."""

from __future__ import annotations

import json

import pytest

from lrat_ray import cli, questions
from lrat_ray.documents import DocumentStore


def run(capsys, *argv) -> tuple[int, str]:
    """(exit code, everything printed, on one line)."""
    code = cli.run([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        json.dumps({"_id": "d1", "title": "T", "text": "One two three four. " * 8}) + '\n{"_id": "d2", "text": ""}\n'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "who?"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    return folder


def test_a_beir_folder_in_chunks_with_its_questions(capsys, tmp_path, beir):
    store, asked = tmp_path / "store", tmp_path / "asked"
    code, printed = run(capsys, "import", "corpus", "--corpus", beir, "--chunk-tokens", 16, "--output", store)
    assert code == 0
    assert f"wrote {store} (documents: 2 in, 1 out, 1 rejected, 4 chunks)" in printed
    assert f"next: lrat index --corpus {store} index.passage_max_tokens=16 --output RELEASE" in printed
    assert DocumentStore.open(str(store)).resolve(["d1"]) == [["d1#0", "d1#1", "d1#2", "d1#3"]]

    code, printed = run(capsys, "import", "questions", "--questions", beir, "--corpus", store, "--output", asked)
    assert code == 0
    assert f"wrote {asked} (questions: 1 in, 1 out, 0 rejected)" in printed
    assert "1 questions have no answer: they can evaluate retrieval, not agents" in printed
    (question,) = questions.read(str(asked), need_answers=False)
    assert question.evidence_docids == ["d1#0", "d1#1", "d1#2", "d1#3"]

    code, printed = run(capsys, "rollout", f"questions.eval={asked}", "--output", tmp_path / "rollouts")
    assert code == 2


def test_a_tsv_with_qrels(capsys, tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": 1, "contents": "\\"T\\"\\nx"}\n')
    (tmp_path / "q.tsv").write_text("q1\twho?\tAnna\n")
    (tmp_path / "qrels.txt").write_text("q1 0 1 1\n")
    flags = ["--questions", tmp_path / "q.tsv", "--qrels", tmp_path / "qrels.txt", "--corpus", tmp_path / "c.jsonl"]
    code, printed = run(capsys, "import", "questions", *flags, "--output", tmp_path / "q", "--json")
    assert code == 0
    assert json.loads(printed)["metrics"]["qrels"]["used"] == 1
    (question,) = questions.read(str(tmp_path / "q"))
    assert (question.answer, question.evidence_docids) == ("Anna", ["1"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["corpus", "--chunk-tokens", "513"], "documents.chunk_tokens: Input should be less than or equal to 512"),
        (
            ["corpus", "--chunk-tokens", "few"],
            "documents.chunk_tokens: Input should be a valid integer, unable to parse string as an integer (got 'few')",
        ),
        (["corpus"], "corpus is not set"),
        (["questions"], "questions.eval is not set"),
        (["corpus", "--corpus", "nowhere", "--output", "o"], "nowhere does not exist"),
        (["questions", "--questions", "nowhere", "--output", "o"], "nowhere does not exist"),
    ],
)
def test_bad_input_exits_2(capsys, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    code, printed = run(capsys, "import", *flags)
    assert code == 2
    assert message in printed
    assert list(tmp_path.iterdir()) == []
