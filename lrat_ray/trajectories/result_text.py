"""Search results that a tool wrote as text for the model: blocks with `DocID:`, Search-R1's `Doc 1(Title: ...)`, web links."""

from __future__ import annotations

import re

TextResult = tuple[str, str | None, str]
"""(docid, title, snippet)"""

_DOCID_LINE = "DocID:"
_DOCID = re.compile(r"\nDocID:([^\n]*)")  # begins with what must be there: many times faster than ^ with MULTILINE
_CUT = "..."
# In the other forms, a result begins with a line that these match. A title may have parentheses: "Mercury (planet)".
_SEARCH_R1 = re.compile(r"^Doc \d+ ?\(Title: (?P<title>(?P<docid>(?:[^()\n]|\([^()\n]*\))*))\)", re.MULTILINE)
_WEB_LINK = re.compile(r"^ *\d+[.)] +\[(?P<title>.*)\]\((?P<docid>\S+)\)", re.MULTILINE)


def read_result_text(text: str) -> list[TextResult]:
    """The results that a text shows, in its order; none when it is in no known form (an error message, say).

    `DocID:` blocks (BrowseComp-Plus, LRAT): a line `DocID:<id>`, a line `[title]` (cut after 50 characters) and the snippet,
    which usually repeats the title whole on its first line. Search-R1 names no docid, so its title stands for it; a web
    search's numbered `[title](url)` gives the URL (Tongyi-DeepResearch).
    """
    if _DOCID_LINE in text:
        return [_docid_block(block.split("\n")) for block in ("\n" + text).split("\n" + _DOCID_LINE)[1:]]
    heads = _heads(text)
    starts = [match.start() for match in heads]
    return [
        (_unquoted(match["docid"]), _unquoted(match["title"]), text[match.end() : end].strip())
        for match, end in zip(heads, [*starts[1:], len(text)], strict=False)  # of no heads, none
    ]


def read_docids(text: str) -> list[str]:
    """The docids of `read_result_text` alone, faster."""
    if _DOCID_LINE in text:
        return [docid.strip() for docid in _DOCID.findall("\n" + text)]
    return [_unquoted(match["docid"]) for match in _heads(text)]


def _docid_block(lines: list[str]) -> TextResult:
    docid, *lines = lines
    title = None
    if lines and lines[0].startswith("[") and lines[0].endswith("]"):
        title = lines.pop(0)[1:-1]
        if lines and (lines[0] == title or _is_whole(lines[0], title)):
            title = lines.pop(0)
    return docid.strip(), title, "\n".join(lines).strip()


def _is_whole(line: str, title: str) -> bool:
    """Whether `line` is the whole of a title that was cut."""
    return title.endswith(_CUT) and line.startswith(title.removesuffix(_CUT))


def _heads(text: str) -> list[re.Match[str]]:
    for mark, head in (("(Title:", _SEARCH_R1), ("](", _WEB_LINK)):
        if mark in text:
            return list(head.finditer(text))
    return []


def _unquoted(text: str) -> str:
    return text.strip().strip('"').strip()
