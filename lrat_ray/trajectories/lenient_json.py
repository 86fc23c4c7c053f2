"""JSON as models write it: single quotes, bare keys, trailing commas, comments, line breaks in strings, a missing end."""

from __future__ import annotations

import re
from typing import Any

import orjson

from lrat_ray.text import without_lone_surrogates

_TOKEN = re.compile(
    r"""(?:\s|//[^\n]*|/\*.*?\*/)*              # blanks and comments
    (?: (?P<mark>[{}\[\]:,])
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | '(?P<single>(?:[^'\\]|\\.)*)'
      | (?P<number>[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.])
      | (?P<word>[^\s{}\[\]:,"']+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def loads(text: str) -> Any:
    """The value that a text means; what follows it is left out. Raises ValueError saying where the text makes no sense."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _Reader(text).value()


def loads_whole(text: str) -> Any:
    """The value that a whole text means. Raises ValueError also where it breaks off, or where something follows the value."""
    reader = _Reader(text)
    value = reader.value()
    if reader.breaks_off or (rest := reader.rest()):
        raise ValueError("the text breaks off" if reader.breaks_off else f"after the value stands {rest[:40]!r}")
    return value


class _Reader:
    def __init__(self, text: str):
        self._text, self._at = text, 0
        self.breaks_off = False

    def rest(self) -> str:
        return self._text[self._at :].strip()

    def value(self) -> Any:
        token = self._next()
        if token["mark"] == "{":
            return self._object()
        if token["mark"] == "[":
            return self._array()
        return self._scalar(token)

    def _object(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while (token := self._next_item("}")) is not None:
            key = self._scalar(token)
            if self._next()["mark"] != ":":
                raise ValueError(f"character {self._at}: expected a colon after {str(key)[:40]!r}")
            items[str(key)] = self.value()
        return items

    def _array(self) -> list[Any]:
        items: list[Any] = []
        while self._next_item("]", peek=True) is not None:
            items.append(self.value())
        return items

    def _next_item(self, end: str, *, peek: bool = False) -> re.Match[str] | None:
        """The first token of the next item, past commas; None at the end mark or where the text ends."""
        while True:
            before = self._at
            if _TOKEN.match(self._text, before) is None and not self._text[before:].strip():
                self.breaks_off = True
                return None
            token = self._next()
            if token["mark"] == end:
                return None
            if token["mark"] != ",":
                if peek:
                    self._at = before
                return token

    def _next(self) -> re.Match[str]:
        token = _TOKEN.match(self._text, self._at)
        if token is None:
            raise ValueError(f"character {self._at}: expected a value, found {self._text[self._at : self._at + 40]!r}")
        self._at = token.end()
        return token

    def _scalar(self, token: re.Match[str]) -> Any:
        for quoted in ("double", "single"):
            if token[quoted] is not None:
                return without_lone_surrogates(_ESCAPE.sub(_unescaped, token[quoted]))
        if token["number"] is not None:
            return float(token["number"]) if re.search("[.eE]", token["number"]) else int(token["number"])
        if token["word"] is not None:
            return _WORDS.get(token["word"], token["word"])
        raise ValueError(f"character {self._at}: expected a value, found {token['mark']!r}")


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    return chr(int(escape[1:], 16)) if len(escape) == 5 else _ESCAPES.get(escape, escape)
