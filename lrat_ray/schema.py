"""The contracts that pass between stages: one dataclass per row type, and the Arrow schema derived from it.

A dataclass here is the single definition of a row. `arrow_schema` turns its annotations into the Parquet schema, `to_table`
and `from_table` convert, so that pure code works on typed rows and every edge on Arrow. Names are final; new columns go at
the end of a dataclass, with a default, so that older files still load.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
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
    """A passage of the corpus. `parent_docid` names the document that a chunk was cut from; None is a whole document."""

    docid: str
    text: str
    title: str | None = None
    parent_docid: str | None = None


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
    `raw` is the entry of a run file as JSON, only where the other fields would not write it back as it was.
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
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One agent run on one question. `status` is "completed", or why the run ended without an answer.

    `metadata` is a JSON object: what the log says beyond these columns, as a run file holds it at its top level.
    """

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
    metadata: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """A document that an agent opened, and what it thought next. `browse_step` and `search_step` index Trajectory.steps.

    `search_step` is the most recent search that showed the document, `rank` its rank there, `query` that search's query,
    `search_reasoning` what the agent thought just before it, `reasoning` the post-browse reasoning (LRAT section 3.2).
    `reasoning_tokens` is the length of `reasoning`, or the browse's share of it where `shared_by` browses have it in common.
    `run_position` (from 0) and `run_length` place it in its run: browses that follow each other without a search between.
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
    shared_by: int = 1
    run_position: int = 0
    run_length: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSets:
    """What a trajectory's searches showed: all that negatives are made from, so that pairs need no second look at the log.

    `browses` is the number of its rows among the browses. `kinds` has the first letter of each step's kind (reasoning, search,
    browse, answer, other). The lists have one entry per search step, in order: its executed query, and the docids that it
    showed, by rank.
    """

    trajectory_id: str
    browses: int
    correct: bool | None
    kinds: str
    queries: list[str]
    candidates: list[list[str]]


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
    all_rows = list(rows)
    try:
        return pa.Table.from_arrays(_columns(all_rows, row_type), schema=arrow_schema(row_type))
    except pa.ArrowCapacityError:  # one Arrow array holds 2 GiB of text; a table may have several for each column
        if len(all_rows) < 2:
            raise
        middle = len(all_rows) // 2
        return pa.concat_tables([to_table(all_rows[:middle], row_type), to_table(all_rows[middle:], row_type)])


def _columns(rows: list[Any], row_type: type) -> list[pa.Array]:
    """One Arrow array for each field, without a dict for each row: a part of trajectories has 100,000 nested ones."""
    return [_to_array([getattr(row, f.name) for row in rows], f) for f in arrow_schema(row_type)]


def _to_array(values: list[Any], field_: pa.Field) -> pa.Array:
    item_type = _item_type(values)
    if not pa.types.is_list(field_.type) or item_type is None:
        array = pa.array(values, field_.type)
        if isinstance(array, pa.ChunkedArray):
            raise pa.ArrowCapacityError(f"the column {field_.name} is larger than 2 GiB")
        return array
    items = [item for value in values if value is not None for item in value]
    struct = pa.StructArray.from_arrays(_columns(items, item_type), fields=list(arrow_schema(item_type)))
    offsets = [0, *itertools.accumulate(0 if value is None else len(value) for value in values)]
    nulls = pa.array([value is None for value in values])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct, type=field_.type, mask=nulls)


def _item_type(values: list[Any]) -> type | None:
    """The dataclass whose rows the lists in a column hold; None for texts, numbers and lists of texts, or no rows at all."""
    first = next((value[0] for value in values if isinstance(value, list) and value), None)
    return type(first) if dataclasses.is_dataclass(first) else None


def from_table(table: pa.Table, row_type: type[Row]) -> Iterator[Row]:
    """The rows of `table` as dataclasses. Columns that the dataclass does not have are ignored, absent ones take its default.

    A null list reads as an empty one, unless None is its default. Raises ValueError naming the columns that are missing and
    the ones that were found.
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
        yield from _rows(names, batch.columns, batch.num_rows, row_type)


def _rows(names: list[str], arrays: list[pa.Array], count: int, row_type: type[Row]) -> list[Row]:
    """`count` rows from one Arrow array for each of the fields `names`."""
    kinds = _fields_of(typing.cast(Any, row_type))
    columns = []
    for name, array in zip(names, arrays, strict=True):
        item_type, is_never_null = kinds[name]
        values = _to_list(array, item_type)
        columns.append([[] if value is None else value for value in values] if is_never_null else values)
    if not columns:
        return [row_type() for _ in range(count)]
    return [row_type(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def _to_list(array: pa.Array, item_type: type | None) -> list[Any]:
    """The values of an Arrow array; structs in lists as rows of `item_type`. By way of numpy: `to_pylist` is slower by far."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.to_numpy(zero_copy_only=False).tolist()
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return array.to_pylist()
    items = array.flatten()
    if item_type is not None and pa.types.is_struct(items.type):
        known = _fields_of(item_type)
        names = [f.name for f in items.type if f.name in known]
        arrays = dict(zip((f.name for f in items.type), items.flatten(), strict=True))
        values = _rows(names, [arrays[name] for name in names], len(items), item_type)
    else:
        values = _to_list(items, None)
    lists: list[Any] = []
    start = 0
    for length in array.value_lengths().to_pylist():
        if length is None:
            lists.append(None)
        else:
            lists.append(values[start : start + length])
            start += length
    return lists


def from_dict(row: dict[str, Any], row_type: type[Row]) -> Row:
    """One row from its dict form, nested dataclasses included; a null list reads as an empty one."""
    values = {}
    for name, (item_type, is_never_null) in _fields_of(typing.cast(Any, row_type)).items():
        if name not in row:
            continue
        value = row[name]
        if value is None and is_never_null:
            continue
        values[name] = [from_dict(item, item_type) for item in value] if item_type is not None and value is not None else value
    return row_type(**values)


@functools.cache
def _fields_of(row_type: Any) -> dict[str, tuple[type | None, bool]]:
    """Field -> (dataclass of the rows in its list or None, whether it defaults to an empty list)."""
    hints = typing.get_type_hints(row_type)
    out = {}
    for f in dataclasses.fields(row_type):
        hint = hints[f.name]
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            (hint,) = [a for a in typing.get_args(hint) if a is not types.NoneType]
        (item_type, *_) = typing.get_args(hint) or (None,)
        is_nested = typing.get_origin(hint) is list and dataclasses.is_dataclass(item_type)
        out[f.name] = (typing.cast(type, item_type) if is_nested else None, f.default_factory is not dataclasses.MISSING)
    return out
