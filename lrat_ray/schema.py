"""The contracts that pass between stages: one dataclass per row type, and the Arrow schema derived from it.

A dataclass here is the single definition of a row. `arrow_schema` turns its annotations into the Parquet schema, `to_table`
and `from_table` convert, so that pure code works on typed rows and every edge on Arrow. Names are final; new columns go at
the end of a dataclass, with a default, so that older files still load.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pyarrow as pa

SCHEMA_VERSION = 1

StepKind = Literal["reasoning", "search", "browse", "answer", "other"]
JudgeStatus = Literal["judged", "unjudged", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A passage of the corpus."""

    docid: str
    text: str
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subquestion:
    """One hop of a question. Only the simulated LLM reads it, and drops `docid` on loading."""

    question: str
    answer: str
    docid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that agents are asked, with the annotations that metrics (never agents) read."""

    query_id: str
    question: str
    answer: str
    source: str | None = None
    answer_aliases: list[str] = field(default_factory=list)
    evidence_docids: list[str] = field(default_factory=list)
    gold_docids: list[str] = field(default_factory=list)
    subquestions: list[Subquestion] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One candidate as the agent saw it; `rank` counts from 1."""

    docid: str
    rank: int
    score: float | None = None
    title: str | None = None
    snippet: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing an agent did. Which fields are set depends on `kind`; `output` keeps the tool's raw answer.

    search: `queries` as asked, `executed_query` as run, `results` as shown. browse: `docid`. reasoning and answer: `text`.
    `turn` counts LLM calls from 0; `tokens` is the length of `text` where the log records it; `error` says why a call failed.
    """

    turn: int
    kind: StepKind
    call_id: str | None = None
    text: str | None = None
    tokens: int | None = None
    queries: list[str] = field(default_factory=list)
    executed_query: str | None = None
    results: list[SearchResult] = field(default_factory=list)
    docid: str | None = None
    tool_name: str | None = None
    arguments: str | None = None
    output: str | None = None
    latency_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One agent run on one question. `status` is "completed", or why the run ended without an answer."""

    trajectory_id: str
    query_id: str
    question: str
    agent: str
    status: str
    steps: list[Step]
    seed: int = 0
    release_id: str | None = None
    protocol: str | None = None
    final_answer: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """A document that an agent opened, and what it thought next. `browse_step` and `search_step` index Trajectory.steps.

    `search_step` is the most recent search that showed the document, `rank` its rank there, `query` that search's query,
    `search_reasoning` what the agent thought just before it, `reasoning` the post-browse reasoning (LRAT section 3.2).
    """

    trajectory_id: str
    query_id: str
    agent: str
    browse_step: int
    docid: str
    search_step: int
    rank: int
    query: str
    question: str
    reasoning: str
    search_reasoning: str | None = None
    reasoning_tokens: int = 0
    relevant: bool | None = None
    relevance_probability: float | None = None
    judge_status: JudgeStatus = "unjudged"
    judge_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A training example: a query, the document that answered it, documents that did not, and its relevance intensity.

    `weight` has mean 1 over the pairs with `relevant=True` (LRAT eq. 3) and is 0 for the others, which training leaves out.
    """

    pair_id: str
    trajectory_id: str
    query_id: str
    agent: str
    question: str
    query: str
    positive_docid: str
    positive_rank: int
    negative_docids: list[str]
    browse_step: int
    relevant: bool
    reasoning_tokens: int
    weight: float
    search_reasoning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An input row that could not be used: where it stood and why. `reason` is a short code, `detail` a sentence."""

    source: str
    position: str
    reason: str
    detail: str


Row = TypeVar("Row")

_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@functools.cache
def arrow_schema(row_type: type) -> pa.Schema:
    """The Parquet schema of a row dataclass: `T | None` is a nullable column, a nested dataclass a struct."""
    return pa.schema(_arrow_fields(row_type))


def _arrow_fields(row_type: type) -> list[pa.Field]:
    hints = typing.get_type_hints(row_type)
    return [pa.field(f.name, *_arrow_type(hints[f.name])) for f in dataclasses.fields(row_type)]


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """(Arrow type, nullable) of a type annotation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [a for a in args if a is not types.NoneType]
        return _arrow_type(inner)[0], True
    if origin is list:
        return pa.list_(_arrow_type(args[0])[0]), False
    if origin is Literal:
        return pa.string(), False
    if dataclasses.is_dataclass(hint):
        return pa.struct(_arrow_fields(typing.cast(type, hint))), False
    return _ARROW_TYPES[hint], False


def to_table(rows: Iterable[Any], row_type: type) -> pa.Table:
    """Rows of one dataclass as an Arrow table in its schema (also for no rows at all)."""
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=arrow_schema(row_type))


def from_table(table: pa.Table, row_type: type[Row]) -> Iterator[Row]:
    """The rows of `table` as dataclasses. Columns that the dataclass does not have are ignored, absent ones take its default.

    Raises ValueError naming the columns that are missing and the ones that were found.
    """
    known = dataclasses.fields(typing.cast(Any, row_type))
    names = [f.name for f in known if f.name in table.column_names]
    required = [f.name for f in known if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in names]:
        raise ValueError(
            f"{row_type.__name__} rows need the columns {', '.join(required)}; missing: {', '.join(missing)}; "
            f"found: {', '.join(table.column_names) or 'none'}"
        )
    for batch in table.select(names).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            yield from_dict(row, row_type)


def from_dict(row: dict[str, Any], row_type: type[Row]) -> Row:
    """One row from its dict form, nested dataclasses included; a null list reads as an empty one."""
    values = {}
    for name, convert, has_factory in _converters(typing.cast(Any, row_type)):
        if name not in row:
            continue
        value = row[name]
        if value is None and has_factory:
            continue
        values[name] = convert(value) if convert is not None and value is not None else value
    return row_type(**values)


@functools.cache
def _converters(row_type: type) -> list[tuple[str, Any, bool]]:
    """(field, function that rebuilds its nested dataclasses or None, whether it defaults to an empty list)."""
    hints = typing.get_type_hints(row_type)
    out = []
    for f in dataclasses.fields(row_type):
        hint = hints[f.name]
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            (hint,) = [a for a in typing.get_args(hint) if a is not types.NoneType]
        convert = None
        if typing.get_origin(hint) is list and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            convert = functools.partial(_convert_list, row_type=typing.get_args(hint)[0])
        out.append((f.name, convert, f.default_factory is not dataclasses.MISSING))
    return out


def _convert_list(values: list[dict[str, Any]], row_type: type) -> list[Any]:
    return [from_dict(value, row_type) for value in values]
