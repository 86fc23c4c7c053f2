"""The formats in which agents' runs are logged, by name; a record's format is told from its content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import anthropic, chat, events, react, responses, run_files, spans
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.grouping import Group, Row, group_events, group_spans


@dataclass(frozen=True)
class Format:
    """A format of one record per trajectory. `matches` looks at a record's keys; `parse` raises LogError for what is none.

    list_key: where the record holds its steps; a bare list is read as a record with this key alone.
    """

    matches: Callable[[dict[str, Any]], bool]
    parse: Callable[[Any, str, Dialect], Trajectory]
    list_key: str


# In this order a record's format is looked for: chat is last, because the messages of others look like chat, too.
FORMATS: dict[str, Format] = {
    "run-file": Format(run_files.matches, run_files.parse, "result"),
    "spans": Format(spans.matches, spans.parse, "spans"),
    "events": Format(events.matches, events.parse, "events"),
    "responses": Format(responses.matches, responses.parse, "items"),
    "anthropic": Format(anthropic.matches, anthropic.parse, "messages"),
    "react": Format(react.matches, react.parse, "messages"),
    "chat": Format(chat.matches, chat.parse, "messages"),
}


def parse(record: Any, trajectory_id: str, name: str, dialect: Dialect) -> Trajectory:
    """A record (an object, or a bare list of messages) as a trajectory. Raises LogError for what is none, and nothing else.

    name: a format of FORMATS, or "auto" for the first that matches.
    """
    try:
        if name != "auto":
            format_ = FORMATS[name]
            return format_.parse(_as_object(record, format_), trajectory_id, dialect)
        if not isinstance(record, dict | list):
            raise LogError("top level", f"expected an object, found {type(record).__name__}")
        for format_ in FORMATS.values():
            candidate = _as_object(record, format_)
            if format_.matches(candidate):
                return format_.parse(candidate, trajectory_id, dialect)
    except RecursionError:
        raise LogError("top level", "the record is nested too deeply") from None
    keys = f"keys: {', '.join(record) or 'none'}" if isinstance(record, dict) else "a list"
    raise LogError("top level", f"no known format ({keys}); docs/formats.md shows them, and --format names one")


def row_format(row: dict[str, Any]) -> str | None:
    """The format of which this row is only a part of a trajectory ("spans": a span or an OTLP export request, "events": an
    event with a trajectory_id), else None."""
    if spans.is_row(row):
        return "spans"
    return "events" if events.is_row(row) else None


def group(name: str, rows: Iterable[Row]) -> Iterator[Group]:
    """The rows of a log brought together: (position, row) pairs to (key, record for `parse` under the same name).

    name: what `row_format` says of the rows. Key: the events' trajectory_id; the spans' `gen_ai.conversation.id`, which one
    span of a trace says for all, else their trace id. All rows are read before the first record comes. Records come in the
    order in which their first row does; events keep the order of the log, spans are sorted by start time. A row that belongs
    to no trajectory comes as (its position, LogError), before the records; the others go on. Raises KeyError for another name.
    """
    return {"spans": group_spans, "events": group_events}[name](rows)


def _as_object(record: Any, format_: Format) -> Any:
    return {format_.list_key: record} if isinstance(record, list) else record
