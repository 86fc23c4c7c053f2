"""The command line: bad input ends in exit code 2 and a sentence that says what to do."""

from __future__ import annotations

import pytest

from lrat_ray import cli


def run(capsys, *argv: str) -> tuple[int, str]:
    """(exit code, everything printed, on one line)."""
    code = cli.run(list(argv))  # not main: it stops Ray, which other tests share
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["mine"], "output is not set"),
        (["mine", "--output", "o", "--trajectories", "nowhere"], "nowhere does not exist"),
        (["mine", "minning.protocol=window"], "unknown config key 'minning.protocol'; did you mean 'mining.protocol'"),
        (["mine", "--config", "nowhere.yaml"], "config file nowhere.yaml does not exist"),
        (["train", "--output", "o"], "train.pairs is not set"),
        (["index", "--output", "o"], "corpus is not set"),
        (["serve"], "serve.release is not set"),
        (["serve", "--release", "nowhere"], "nowhere does not exist"),
        (["rollout", "--output", "o"], "questions.eval is not set"),
        (["evaluate", "--output", "o", "questions.eval=q"], "evaluate.runs is empty"),
        (["flywheel", "--output", "o"], "corpus is not set"),
        (["minee"], "No such command 'minee'"),
    ],
)
def test_bad_input_is_named_and_exits_2(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    code, printed = run(capsys, *argv)
    assert code == 2
    assert message in printed


def test_import_says_what_it_wrote_and_what_comes_next(capsys, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"docid": "1", "text": "a"}\n{"docid": "1", "text": "b"}\n')
    code, printed = run(capsys, "import", "corpus", "--corpus", str(corpus), "--output", str(tmp_path / "documents"))
    assert code == 0
    assert "2 in, 1 out, 1 rejected" in printed
    assert f"rejected rows and their reasons: {tmp_path}/documents/rejected/" in printed
    assert "next: lrat index" in printed


def test_import_questions_can_start_over(capsys, tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"docid": "1", "text": "a"}\n')
    (tmp_path / "q.jsonl").write_text('{"query_id": "q", "question": "?", "answer": "!", "evidence_docids": ["1"]}\n')
    command = ["import", "questions", f"questions.eval={tmp_path}/q.jsonl", f"corpus={tmp_path}/corpus.jsonl"]
    assert run(capsys, *command, "--output", str(tmp_path / "out"))[0] == 0
    assert run(capsys, *command, "--output", str(tmp_path / "out"), "--force")[0] == 0


def test_help_lists_every_command(capsys):
    code, printed = run(capsys, "--help")
    assert code == 0
    for command in "import mine train index serve promote serve-llm rollout evaluate report flywheel quickstart".split():
        assert command in printed
