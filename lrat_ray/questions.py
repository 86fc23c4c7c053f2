"""Questions with their annotations: read, checked against the corpus, and written as an artifact; unfit ones are rejected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import fsspec

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Question, Rejected, from_dict

_REQUIRED = ("query_id", "question", "answer")
_PART = "part-00000.parquet"


def build(
    questions: str,
    output: str,
    *,
    documents: str | None = None,
    disjoint_from: str | None = None,
    need_subquestions: bool = False,
    force: bool = False,
) -> Manifest:
    """Write a questions artifact at `output` from Parquet or JSONL files in schema Question.

    Rejected are: malformed rows, repeated query_ids, questions whose evidence is not in the `documents` artifact, questions
    that stand in the questions artifact `disjoint_from` or share evidence with it (training would leak), and, for the
    simulated agent (`need_subquestions`), questions without sub-questions. Raises ArtifactError if `questions` is missing, is
    neither format, or if no question is left.
    """
    work = artifacts.begin(
        output,
        kind="questions",
        config={"need_subquestions": need_subquestions},
        inputs={"questions": questions, "documents": documents, "disjoint_from": disjoint_from},
        force=force,
    )
    if work.manifest:
        return work.manifest
    store = DocumentStore.open(documents) if documents else None
    others = _Others(read(disjoint_from) if disjoint_from else [])
    kept: dict[str, Question] = {}
    rejected: list[Rejected] = []
    rows_in = 0
    for source, position, row in _rows(questions):
        rows_in += 1
        found = _question(row)
        if isinstance(found, Question):
            reason = _unfit(found, kept, store, others, need_subquestions)
            if reason is None:
                kept[found.query_id] = found
                continue
        else:
            reason = found
        rejected.append(Rejected(source=source, position=position, reason=reason[0], detail=reason[1]))
    if not kept:
        example = f"; the first: {rejected[0].detail}" if rejected else ""
        raise ArtifactError(f"questions: none of the {rows_in} questions in {questions} can be used{example}")
    work.write_rows(_PART, kept.values(), Question)
    return work.finish(
        parts=[_PART],
        rows={"in": rows_in, "out": len(kept), "rejected": work.write_rejected("questions", rejected)},
        metrics={"rejected_by_reason": _count(rejected)},
    )


def read(uri: str) -> list[Question]:
    """The questions of a questions artifact. Raises ArtifactError if `uri` is none."""
    return list(artifacts.read_rows(uri, Question, "questions"))


def ensure(questions: str, scratch: str, *, documents: str | None = None) -> str:
    """The URI of a questions artifact: `questions` itself where it is one, otherwise built (or found) at `scratch`."""
    if artifacts.is_artifact(questions, "questions"):
        return questions
    return build(questions, scratch, documents=documents).uri


class _Others:
    """What questions of another set must not share."""

    def __init__(self, questions: list[Question]):
        self.query_ids = {other.query_id for other in questions}
        self.texts = {_words(other.question) for other in questions}
        self.evidence = {docid for other in questions for docid in other.evidence_docids}


def _words(question: str) -> tuple[str, ...]:
    """A question without case, punctuation and spacing."""
    return tuple(re.findall(r"\w+", question.casefold()))


def _question(row: Any) -> Question | tuple[str, str]:
    """The question in a row, or (reason code, sentence) why there is none."""
    if not isinstance(row, dict):
        return "malformed row", "the row is not a JSON object"
    row = dict(row)
    if isinstance(row.get("query_id"), int):
        row["query_id"] = str(row["query_id"])
    for name in ("evidence_docids", "gold_docids", "answer_aliases"):
        if row.get(name) is not None and not isinstance(row[name], list):
            return "malformed row", f"question {row.get('query_id')!r}: {name} is no list but {type(row[name]).__name__}"
        row[name] = [str(value) for value in row.get(name) or []]  # docids are often integers
    if missing := [name for name in _REQUIRED if not isinstance(row.get(name), str) or not row[name].strip()]:
        return "malformed row", f"question {row.get('query_id')!r} has no {' and no '.join(missing)} (found: {', '.join(row)})"
    try:
        return from_dict(row, Question)
    except (TypeError, AttributeError) as error:
        return "malformed row", f"question {row['query_id']!r} does not fit the schema Question: {error}"


def _unfit(
    question: Question,
    kept: dict[str, Question],
    store: DocumentStore | None,
    others: _Others,
    need_subquestions: bool,
) -> tuple[str, str] | None:
    """Why a well-formed question cannot be asked in this experiment: (code, sentence), or None."""
    name = f"question {question.query_id!r}"
    if question.query_id in kept:
        return "repeated query_id", f"{name} stands earlier in the file; the first row was kept"
    if store is not None and (absent := [d for d in question.evidence_docids if d not in store]):
        return (
            "evidence not in corpus",
            f"{name}: evidence {', '.join(absent)} is not in the corpus {store.uri} (config key: corpus)",
        )
    if question.query_id in others.query_ids or _words(question.question) in others.texts:
        return "question of training", f"{name} is a training question"
    if shared := others.evidence.intersection(question.evidence_docids):
        return "evidence shared with training", f"{name} shares evidence {', '.join(sorted(shared))} with a training question"
    if need_subquestions and not question.subquestions:
        return "no sub-questions", f"{name} has no sub-questions, which the simulated agent plans by"
    return None


def _rows(uri: str) -> Iterator[tuple[str, str, Any]]:
    """(file, position in it, row as a dict; None where a line is not JSON)."""
    if artifacts.is_artifact(uri, "questions"):
        files = artifacts.read_manifest(uri).part_uris()
    else:
        if not artifacts.exists(uri):
            raise ArtifactError(f"questions: {uri} does not exist")
        files = [f for f in artifacts.list_files(uri) if f.endswith((".parquet", ".jsonl"))]
    if not files:
        raise ArtifactError(f"questions: {uri} holds no .parquet or .jsonl file")
    for path in files:
        if path.endswith(".parquet"):
            for i, row in enumerate(artifacts.read_table(path).to_pylist()):
                yield path, f"row {i}", row
        else:
            with fsspec.open(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    yield path, f"line {number}", _json(line)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def _count(rejected: list[Rejected]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rejected:
        counts[row.reason] = counts.get(row.reason, 0) + 1
    return counts
