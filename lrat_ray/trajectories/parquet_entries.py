"""The rows of a Parquet file: trajectories in our schema, or rows of any other log as the records that its columns spell.

A foreign row becomes the object that a JSON log would hold: a column of JSON text (`messages`, say) is parsed, fields of
structs that are null are left out (Parquet gives every message the fields of all), dates and decimals become text.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lrat_ray.schema import Trajectory, from_table
from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.json_entries import Entry

Row = TypeVar("Row")

_ROWS_PER_BATCH = 64
_NOT_UTF8 = (UnicodeDecodeError, pa.ArrowException)  # to Python, and (as an unknown error) to NumPy
_REQUIRED = frozenset(
    f.name
    for f in dataclasses.fields(Trajectory)
    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
)


def open_parquet(stream: BinaryIO) -> pq.ParquetFile:
    """A Parquet file. Raises LogError for what is none."""
    try:
        return pq.ParquetFile(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise LogError("the footer", f"not a Parquet file ({error})") from error


def holds_trajectories(parquet: pq.ParquetFile) -> bool:
    """Whether a file's rows are in schema Trajectory."""
    schema = parquet.schema_arrow
    if not _REQUIRED.issubset(schema.names):
        return False
    steps = schema.field("steps").type
    return (pa.types.is_list(steps) or pa.types.is_large_list(steps)) and pa.types.is_struct(steps.value_type)


def slices(parquet: pq.ParquetFile, rows: int) -> list[tuple[int, int]]:
    """The rows [start, stop) of consecutive row groups, taken together until they are `rows` or more."""
    ends = [0]
    for end in itertools.accumulate(_group_sizes(parquet)):
        if end - ends[-1] >= rows:
            ends.append(end)
    if parquet.metadata.num_rows > ends[-1]:
        ends.append(parquet.metadata.num_rows)
    return list(itertools.pairwise(ends))


def trajectories(parquet: pq.ParquetFile, start: int = 0, stop: int | None = None) -> Iterator[Trajectory]:
    """The rows [start, stop) of a file in schema Trajectory; start and stop are as `slices` says.

    Raises LogError where the file is damaged, or a step lacks what every step has; for rows whose text is not UTF-8, once the
    others were given.
    """
    row = start
    bad_rows: list[str] = []
    try:
        for batch in _batches(parquet, start, stop):
            for trajectory in _by_row(batch, _as_trajectories):
                if isinstance(trajectory, Exception):
                    bad_rows.append(str(row))
                else:
                    yield trajectory
                row += 1
    except (pa.ArrowInvalid, OSError, TypeError) as error:
        raise LogError(f"row {row}", f"the rows from here on cannot be read ({error})") from error
    if bad_rows:
        raise LogError(f"row {', '.join(bad_rows)}", "a text there is not UTF-8; the other rows are read")


def entries(parquet: pq.ParquetFile, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
    """The rows [start, stop) of any other file as records; start and stop are as `slices` says."""
    row = start
    try:
        for batch in _batches(parquet, start, stop):
            for values in _by_row(batch, _as_dicts):
                yield Entry(f"row {row}", str(row), _record(values))
                row += 1
    except (pa.ArrowInvalid, OSError) as error:
        yield Entry(f"row {row}", str(row), LogError("", f"the Parquet file is damaged from here on ({error})"))


def _by_row(batch: pa.RecordBatch, convert: Callable[[pa.RecordBatch], list[Row]]) -> Iterator[Row | Exception]:
    """The rows of a batch; one that cannot be converted (a text that is not UTF-8) is the error that says why."""
    try:
        yield from convert(batch)
        return
    except _NOT_UTF8:
        pass
    for row in range(batch.num_rows):
        try:
            yield from convert(batch.slice(row, 1))
        except _NOT_UTF8 as error:
            yield error


def _as_trajectories(batch: pa.RecordBatch) -> list[Trajectory]:
    return list(from_table(pa.Table.from_batches([batch]), Trajectory))


def _as_dicts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return batch.to_pylist(maps_as_pydicts="lossy")


def _record(values: dict[str, Any] | Exception) -> dict[str, Any] | LogError:
    if isinstance(values, Exception):
        return LogError("", f"not UTF-8 ({values})")
    return {name: _column(value) for name, value in values.items() if value is not None}


def _batches(parquet: pq.ParquetFile, start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    firsts = itertools.accumulate([0, *_group_sizes(parquet)])
    groups = [g for g, first in zip(range(parquet.num_row_groups), firsts, strict=False) if _is_in(first, start, stop)]
    return parquet.iter_batches(_ROWS_PER_BATCH, row_groups=groups)


def _group_sizes(parquet: pq.ParquetFile) -> list[int]:
    return [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]


def _is_in(row: int, start: int, stop: int | None) -> bool:
    return start <= row and (stop is None or row < stop)


def _column(value: Any) -> Any:
    """A value of a top-level column: JSON text of an object, or of a list of objects, is what it says."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return _plain(value)
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    is_structure = isinstance(found, dict) or (isinstance(found, list) and found and isinstance(found[0], dict))
    return found if is_structure else value


def _plain(value: Any) -> Any:
    """A value as JSON would hold it, without fields that are null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, str | int | float) else str(value)
