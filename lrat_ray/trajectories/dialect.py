"""How the logs at hand are to be understood: which tools search and browse, what their fields are called, what docids mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lrat_ray.sections import Fields

CallKind = Literal["search", "browse", "other"]


class LogError(ValueError):
    """A record that is no trajectory. `position` says where in it (`result[4].type`), `problem` what is wrong there."""

    def __init__(self, position: str, problem: str):
        super().__init__(f"{position}: {problem}")
        self.position, self.problem = position, problem


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a parser must know besides the format. `aliases` maps what the log calls a document to its docid in the corpus.

    texts: whether titles and snippets of search results are wanted; mining needs docids and ranks alone, and is faster so.
    """

    search_tools: frozenset[str] = frozenset({"search"})
    browse_tools: frozenset[str] = frozenset({"get_document", "visit", "open", "fetch", "browse"})
    fields: Fields = field(default_factory=Fields)
    aliases: Mapping[str, str] = field(default_factory=dict)
    texts: bool = True

    def kind_of(self, tool: str) -> CallKind:
        """What a call of this tool is: by its whole name, or the last part of one like `browser.search`, `mcp__web__search`."""
        if tool in self.search_tools:
            return "search"
        if tool in self.browse_tools:
            return "browse"
        last = tool.replace("__", ".").rsplit(".", 1)[-1]
        return "other" if last == tool else self.kind_of(last)

    def docid(self, name: str) -> str:
        """The corpus docid of what the log calls a document."""
        return self.aliases.get(name, name)
