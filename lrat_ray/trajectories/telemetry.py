"""Spans of one shape, from however they were exported: OTLP JSON, an SDK's own JSON, Phoenix's columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.json_text import as_text, expect, first, from_json, number

_REDACTED = "__REDACTED__"  # what OpenInference writes where inputs or outputs are hidden
_CONVERSATION = "gen_ai.conversation.id"
_OTLP_VALUES = ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d+)")  # of a second; a datetime would cut it to microseconds
_MAX_DIGITS = 30

Start = tuple[int, float, str]
"""When a span started, comparable: (0, nanoseconds, "") where the time is understood, else (1, 0, the text)."""


@dataclass(frozen=True)
class Span:
    """One operation of an agent. `attributes` is a tree: `gen_ai.tool.name` is found by its parts, however it was logged."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: Start
    attributes: dict[str, Any]
    failed: bool
    position: str

    def get(self, *names: str) -> Any:
        """The value of the first of these attributes that was captured, else None."""
        for name in names:
            value: Any = self.attributes
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None and value not in ("", _REDACTED):
                return value
        return None

    def text(self, *names: str) -> str:
        """The same as text, "" when there is none."""
        return as_text(self.get(*names))

    @property
    def conversation(self) -> str:
        """What the spans of one trajectory have in common, where the agent says so; else ""."""
        return self.text(_CONVERSATION)


def read_spans(row: Any, position: str) -> list[Span]:
    """The spans of a logged row: one, or all of an OTLP export request. Raises LogError for what is none."""
    return [_span(span, place) for span, place in unpacked(expect(row, dict, position), position)]


def unpacked(row: dict[str, Any], position: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The spans of a row as they were logged, each with its position. Raises LogError for a broken export request."""
    if "resourceSpans" not in row:
        yield row, position
        return
    for i, resource in enumerate(expect(row["resourceSpans"], list, f"{position}.resourceSpans")):
        place = f"{position}.resourceSpans[{i}]"
        for j, scope in enumerate(expect(expect(resource, dict, place).get("scopeSpans") or [], list, place)):
            inner = f"{place}.scopeSpans[{j}]"
            for k, span in enumerate(expect(expect(scope, dict, inner).get("spans") or [], list, inner)):
                yield expect(span, dict, f"{inner}.spans[{k}]"), f"{inner}.spans[{k}]"


def is_span(row: dict[str, Any]) -> bool:
    """Whether a row looks like a span. Records of other formats may name a trace, too, but have neither attributes nor ids."""
    has_attributes = any(name.startswith("attributes") for name in row)
    return bool(trace_id_of(row)) and (has_attributes or not row.keys().isdisjoint(("spanId", "span_id", "context")))


def trace_id_of(row: dict[str, Any]) -> str:
    """The trace that a logged span belongs to, "" when it does not say."""
    context = from_json(row.get("context"))
    inner = first(context, ["trace_id", "traceId"]) if isinstance(context, dict) else None
    return first(row, ["traceId", "trace_id", "context.trace_id"]) or inner or ""


def listed(value: Any) -> list[Any]:
    """A list, which attributes may hold as JSON text or as keys 0, 1, ...; anything else gives an empty one."""
    value = from_json(value)
    if isinstance(value, dict) and value and all(key.isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value if isinstance(value, list) else []


def _span(row: dict[str, Any], position: str) -> Span:
    trace_id = trace_id_of(row)
    if not trace_id:
        raise LogError(position, "the span has no trace id (looked for traceId, trace_id, context.trace_id)")
    context = from_json(row.get("context"))
    context = context if isinstance(context, dict) else {}
    attributes: dict[str, Any] = {}
    for event in listed(row.get("events")):
        # Content was first recorded as events, each with one attribute; the newest convention has one event for all of it.
        if isinstance(event, dict):
            _grow(attributes, _plain(event.get("attributes")))
    _grow(attributes, _plain(from_json(row.get("attributes"))))
    columns = {name.removeprefix("attributes."): value for name, value in row.items() if name.startswith("attributes.")}
    _grow(attributes, columns)
    status = row.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else row.get("status_code")
    return Span(
        trace_id=trace_id,
        span_id=first(row, ["spanId", "span_id", "context.span_id"]) or first(context, ["span_id", "spanId"]) or "",
        parent_id=first(row, ["parentSpanId", "parent_span_id", "parent_id"]) or "",
        name=as_text(row.get("name")),
        start=_start(next((row[n] for n in ("startTimeUnixNano", "start_time", "startTime") if n in row), None)),
        attributes=attributes,
        failed=code in (2, "2", "ERROR", "STATUS_CODE_ERROR"),
        position=position,
    )


def _start(value: Any) -> Start:
    """A logged time: nanoseconds since 1970 (also as text), or an ISO time; one without an offset is taken for UTC.

    Numbers of other units, too, are comparable within one export. A span without a time comes first.
    """
    text = str(value).strip() if isinstance(value, int | float | str) else ""
    if not text:
        return 0, 0, ""
    if text.isdecimal() and len(text) <= _MAX_DIGITS:
        return 0, int(text), ""  # no float holds nanoseconds exactly
    if (found := number(text)) is not None:
        return 0, found, ""
    try:
        return 0, _nanoseconds(text), ""
    except ValueError:
        return 1, 0, text


def _nanoseconds(text: str) -> int:
    """An ISO time in nanoseconds since 1970. Raises ValueError for what is none."""
    fraction = _FRACTION.search(text)
    time = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    below_a_second = int(fraction[1][:9].ljust(9, "0")) if fraction else 0
    return ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000 + below_a_second


def _plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict; OTLP lists them as {key, value: {stringValue: ...}}."""
    if isinstance(attributes, dict):
        return attributes
    pairs = [pair for pair in attributes if isinstance(pair, dict)] if isinstance(attributes, list) else []
    return {as_text(pair.get("key")): _otlp_value(pair.get("value")) for pair in pairs}


def _otlp_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(array := value.get("arrayValue"), dict):
        return [_otlp_value(item) for item in listed(array.get("values"))]
    if isinstance(pairs := value.get("kvlistValue"), dict):
        return _plain(pairs.get("values"))
    return next((value[name] for name in _OTLP_VALUES if name in value), None)


def _grow(tree: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Add attributes to a tree, dotted keys by their parts. Where a value stands in the way of a subtree, the subtree wins."""
    for name, value in attributes.items():
        *parents, leaf = name.split(".")
        branch = tree
        for key in parents:
            inner = branch.get(key)
            if not isinstance(inner, dict):
                inner = branch[key] = {}
            branch = inner
        if isinstance(value, dict):
            if not isinstance(branch.get(leaf), dict):
                branch[leaf] = {}
            _grow(branch[leaf], value)
        elif value is not None and not isinstance(branch.get(leaf), dict):
            branch[leaf] = value
