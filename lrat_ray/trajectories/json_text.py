"""What logs hold where a text, a number or a list belongs: read leniently where the meaning is clear, else refused by place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

from lrat_ray.text import without_lone_surrogates
from lrat_ray.trajectories import lenient_json
from lrat_ray.trajectories.dialect import LogError

_KINDS = {dict: "an object", list: "a list", str: "a string"}
_INT64 = 2**63
_LIKE_JSON = re.compile(r"""\s*(?:\[\s*["'{]|\{\s*["'])""")


def as_text(value: Any) -> str:
    """What a tool or a model said as one string: lists (of OpenAI summary items, too) joined by spaces, others as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if (texts := block_texts(value)) is not None:
        return " ".join(texts)
    return json.dumps(value, ensure_ascii=False)


def block_texts(value: Any) -> list[str] | None:
    """The texts of a list that holds nothing but strings and text blocks (`{"type": "text", "text": "..."}`), else None."""
    if not isinstance(value, list):
        return None
    texts = [item if isinstance(item, str) else _block_text(item) for item in value]
    return None if None in texts else [text for text in texts if text is not None]


def message_text(content: Any) -> str:
    """The text of a message: a string, or its text blocks line by line; images and the like are left out."""
    if not isinstance(content, list):
        return as_text(content)
    texts = [item if isinstance(item, str) else _block_text(item) for item in content]
    return "\n".join([text for text in texts if text])


def expect(value: Any, kind: Any, position: str) -> Any:
    """`value`, which must be of this type. Raises LogError saying what stands there instead."""
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
        raise LogError(position, f"expected {_KINDS.get(kind, 'a string or a number')}, found {found}")
    return value


def from_json(value: Any) -> Any:
    """A list or an object that may have been logged as its JSON text (Parquet columns, span attributes); others as they are."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return _almost_json(value) if _LIKE_JSON.match(value) else value


def _almost_json(text: str) -> Any:
    """What orjson refuses but the log means: NaN, half an escaped character, Python's own form; else the text as it is."""
    for loads in (standard_json, lenient_json.loads_whole):
        try:
            return loads(text)
        except (ValueError, RecursionError):
            continue
    return text


def standard_json(text: str) -> Any:
    """JSON as Python's own library reads it, with NaN and half characters (as U+FFFD). Raises ValueError or RecursionError."""
    return without_lone_surrogates(json.loads(text))


def why_not_json(text: str) -> str | None:
    """What is wrong with a text that begins like a list or an object but is none (see `from_json`); None for any other."""
    if not _LIKE_JSON.match(text) or not isinstance(from_json(text), str):
        return None
    text = text.rstrip()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            return "not JSON; it breaks off"
    except (ValueError, RecursionError):
        pass
    return "not JSON"


def expect_list(record: dict[str, Any], name: str) -> list[Any]:
    """The list `record[name]`, which may have been logged as JSON text. Raises LogError for anything else."""
    return expect(from_json(record.get(name)), list, name)


def lookup(item: Any, path: str) -> Any:
    """The value at a path whose dots descend into objects (a key with dots is found, too); None when there is none."""
    if isinstance(item, dict) and path in item:
        return item[path]
    for key in path.split("."):
        item = item.get(key) if isinstance(item, dict) else None
    return item


def first(item: dict[str, Any], names: Sequence[str], kind: Any = str) -> Any:
    """The first value of this type under one of these names, None when there is none; a boolean is no number."""
    for name in names:
        value = item.get(name)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    return None


def count(value: Any) -> int | None:
    """A whole number that fits a column of int64, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64 else None


def number(value: Any) -> float | None:
    """A number (or its text, as span attributes have it) as a float, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _block_text(item: Any) -> str | None:
    # A search result may have a `text` of its own; a text block says that it is one, or holds nothing else.
    if not isinstance(item, dict) or not isinstance(item.get("text"), str) or "docid" in item:
        return None
    is_block = len(item) == 1 or str(item.get("type")).endswith("text")
    return str(item["text"]) if is_block else None
