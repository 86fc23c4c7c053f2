"""Relevance judgements (qrels) as TREC and BEIR write them: which documents hold the evidence of a question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lrat_ray import lines
from lrat_ray.lines import BadLine
from lrat_ray.schema import Rejected

_FORMS = "`query_id 0 docid relevance` (TREC) or, tab-separated, `query_id docid relevance` (BEIR)"


@dataclass
class Qrels:
    """query_id -> the docids judged relevant (relevance > 0), in the order of the file; and what the file held besides."""

    relevant: dict[str, list[str]] = field(default_factory=dict)
    judgements: int = 0
    not_relevant: int = 0
    rejected: list[Rejected] = field(default_factory=list)


def read_qrels(path: str, option: str) -> Qrels:
    """The judgements in a file (gzip and Zstandard are unpacked); a line of neither form is rejected.

    option: the config key that errors name. Raises ArtifactError for a file that is missing or damaged.
    """
    qrels = Qrels()
    for number, line in _numbered(path, option):
        found = _judgement(line)
        if isinstance(found, BadLine):
            if number == 1 and _is_header(line):
                continue
            bad = Rejected(source=path, position=f"line {number}", reason=found.reason, detail=found.detail)
            qrels.rejected.append(bad)
            continue
        query_id, docid, relevance = found
        qrels.judgements += 1
        if relevance > 0:
            docids = qrels.relevant.setdefault(query_id, [])
            if docid not in docids:
                docids.append(docid)
        else:
            qrels.not_relevant += 1
    return qrels


def _numbered(path: str, option: str) -> Iterator[tuple[int, bytes]]:
    for block in lines.blocks(path, option):
        yield from block.numbered()


def _judgement(line: bytes) -> tuple[str, str, float] | BadLine:
    """(query_id, docid, relevance)."""
    text = lines.parse_text(line)
    if isinstance(text, BadLine):
        return text
    fields = _fields(text)
    if len(fields) not in (3, 4) or not all(fields):
        return BadLine("malformed qrels", f"{len(fields)} fields; a line is {_FORMS}")
    try:
        return fields[0], fields[-2], float(fields[-1])
    except ValueError:
        return BadLine("malformed qrels", f"relevance {fields[-1]!r} is no number; a line is {_FORMS}")


def _fields(text: str) -> list[str]:
    return [value.strip() for value in text.split("\t")] if "\t" in text else text.split()


def _is_header(line: bytes) -> bool:
    """Whether a line that is no judgement names the fields of one: BEIR's `query-id corpus-id score`."""
    text = lines.parse_text(line)
    return isinstance(text, str) and len(_fields(text)) in (3, 4)
