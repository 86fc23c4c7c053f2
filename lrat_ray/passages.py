"""What is read of a document: a passage by encoders and lexical indexes, a snippet by agents."""

from __future__ import annotations

import re
from itertools import islice

from lrat_ray.schema import Document

_SNIPPET_TOKEN = re.compile(r"\w+|[^\w\s]")


def passage(document: Document) -> str:
    """What an encoder or a lexical index reads of a document: the title on a line of its own, then the text."""
    return f"{document.title}\n{document.text}" if document.title else document.text


def snippet(document: Document, tokens: int = 64) -> str:
    """The first `tokens` words and punctuation marks of the text, cut where they end.

    The paper shows the first 64 tokens of a document. Counting words and marks needs no tokenizer, so that every release,
    lexical or dense, shows an agent the same snippet of the same document.
    """
    marks = list(islice(_SNIPPET_TOKEN.finditer(document.text), tokens))
    return document.text[: marks[-1].end()] if marks else ""
