"""Question sets as they come: Parquet, JSONL or TSV, or a BEIR folder with its qrels; each row a question or a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from fsspec.core import url_to_fs

from lrat_ray import artifacts, lines
from lrat_ray.artifacts import ArtifactError, join
from lrat_ray.lines import BadLine
from lrat_ray.schema import Question, from_dict

_NAMES = {"query_id": ("query_id", "_id", "id", "qid"), "question": ("question", "text", "query")}
_LISTS = ("evidence_docids", "gold_docids", "answer_aliases")
_TSV_HEADERS = ("query_id", "query-id", "qid", "id", "_id")
_JSONL, _TSV = ((ending, *(ending + packed for packed in lines.PACKED)) for ending in (".jsonl", ".tsv"))
_SUFFIXES = (".parquet", *_JSONL, *_TSV)


@dataclass(frozen=True)
class Source:
    """The files of a question set, and the qrels that say where its evidence is."""

    files: list[str]
    qrels: str | None


def source(uri: str, qrels: str | None) -> Source:
    """What a question set is read from: a file, a directory, a questions artifact, or a BEIR folder, with its qrels/test.tsv.

    Raises ArtifactError when nothing is there, and for a BEIR folder without test qrels if `qrels` names no other.
    """
    if artifacts.is_artifact(uri, "questions"):
        return Source(artifacts.read_manifest(uri).part_uris(), qrels)
    if not artifacts.exists(uri):
        raise ArtifactError(f"questions: {uri} does not exist")
    if beir := [file for suffix in _JSONL if artifacts.exists(file := join(uri, f"queries{suffix}"))]:
        return Source(beir[:1], qrels or _beir_qrels(uri))
    if not (files := [file for file in artifacts.list_files(uri) if file.endswith(_SUFFIXES)]):
        raise ArtifactError(f"questions: {uri} holds no file whose name ends in {', '.join(_SUFFIXES)}")
    return Source(files, qrels)


def rows(found: Source) -> Iterator[tuple[str, str, dict[str, Any] | BadLine]]:
    """(file, position in it, row) of each row. Raises ArtifactError for a file that is missing or damaged."""
    for path in found.files:
        if path.endswith(".parquet"):
            for i, row in enumerate(artifacts.read_table(path).to_pylist()):
                yield path, f"row {i}", row
            continue
        for block in lines.blocks(path, "questions"):
            for number, line in block.numbered():
                if path.endswith(_JSONL):
                    yield path, f"line {number}", lines.parse_object(line)
                elif (row := _tsv_row(line, number)) is not None:
                    yield path, f"line {number}", row


def question(row: dict[str, Any] | BadLine, *, need_answer: bool) -> Question | BadLine:
    """The question in a row; without an answer it has the answer "", unless it needs one."""
    if isinstance(row, BadLine):
        return row
    values = dict(row)
    for ours, names in _NAMES.items():
        values[ours] = next((row[name] for name in names if row.get(name) is not None), None)
    query_id = values["query_id"] = _as_text(values["query_id"])
    _take_answers(values)
    for name in _LISTS:
        if values.get(name) is not None and not isinstance(values[name], list):
            return BadLine("malformed row", f"question {query_id!r}: {name} is no list but {type(values[name]).__name__}")
        values[name] = [_as_text(value) for value in values.get(name) or []]  # docids are often integers
        if wrong := [value for value in values[name] if not isinstance(value, str)]:
            return BadLine("malformed row", f"question {query_id!r}: {name} holds {wrong[0]!r}, which is no string")
    if values.get("answer") is None and not need_answer:
        values["answer"] = ""
    required = ("query_id", "question", "answer") if need_answer else ("query_id", "question")
    if missing := [name for name in required if not isinstance(values[name], str) or not values[name].strip()]:
        return BadLine("malformed row", f"question {query_id!r} has no {' and no '.join(missing)} (found: {', '.join(row)})")
    if not isinstance(values["answer"], str):
        return BadLine("malformed row", f"question {query_id!r}: answer is no string but {type(values['answer']).__name__}")
    try:
        parsed = from_dict(values, Question)
    except (TypeError, AttributeError) as error:
        return BadLine("malformed row", f"question {query_id!r} does not fit the schema Question: {error}")
    if wrong := _not_strings(parsed):
        return BadLine("malformed row", f"question {query_id!r}: {wrong[0]}")
    return parsed


def _as_text(value: Any) -> Any:
    """An integer as text; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _not_strings(asked: Question) -> list[str]:
    """What is neither a string nor absent in the source and the sub-questions, each as a clause."""
    named = [("source", asked.source)]
    for i, part in enumerate(asked.subquestions or []):
        named += [(f"subquestions[{i}].{name}", value) for name, value in asdict(part).items()]
    return [f"{name} is no string but {type(value).__name__}" for name, value in named if not isinstance(value, str | None)]


def _take_answers(values: dict[str, Any]) -> None:
    """A list of what is accepted becomes the answer and its aliases; Search-R1 and FlashRAG call it `golden_answers`."""
    if values.get("answer") in (None, []):
        values["answer"] = values.get("golden_answers") if isinstance(values.get("golden_answers"), list) else None
    if isinstance(values["answer"], list):
        first, *aliases = values["answer"] or [None]
        values["answer"] = _as_text(first)
        values["answer_aliases"] = values.get("answer_aliases") or aliases


def _tsv_row(line: bytes, number: int) -> dict[str, Any] | BadLine | None:
    """query_id, question and (optional) answer; None for a line that names the columns."""
    text = lines.parse_text(line)
    if isinstance(text, BadLine):
        return text
    fields = [value.strip() for value in text.split("\t")]
    if number == 1 and fields[0].lower() in _TSV_HEADERS:
        return None
    if len(fields) not in (2, 3):
        return BadLine("malformed row", f"{len(fields)} tab-separated fields; a line is query_id, question and perhaps answer")
    return dict(zip(("query_id", "question", "answer"), fields, strict=False))


def _beir_qrels(folder: str) -> str:
    """The test qrels of a BEIR folder."""
    qrels = join(folder, "qrels", "test.tsv")
    if artifacts.exists(qrels):
        return qrels
    fs, path = url_to_fs(join(folder, "qrels"))
    there = ", ".join(sorted(name.rpartition("/")[2] for name in fs.ls(path, detail=False))) if fs.exists(path) else "none"
    raise ArtifactError(f"questions: the BEIR folder {folder} has no qrels/test.tsv (found: {there}); name a file with --qrels")
