"""Cutting documents into chunks that an encoder reads whole: at most so many tokens with the title and the special tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

from lrat_ray.passages import passage
from lrat_ray.schema import Document

_SENTENCE_END = re.compile(r"""[.!?…]["')\]”’»]*(?=\s)|[。！？]|(?=\n)""")
_WHITESPACE = re.compile(r"\s+")


DOCID_OF_A_CHUNK = r"^(?P<parent>(?s:.+))#[0-9]+$"
"""What `chunk_docid` makes, as a regular expression (of Python and of Arrow)."""


def chunk_docid(docid: str, number: int) -> str:
    """The docid of a chunk; the chunks of a document are numbered from 0."""
    return f"{docid}#{number}"


class Chunker:
    """Cuts documents with the tokenizer of an encoder."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int):
        self._tokenizer, self._max_tokens = tokenizer, max_tokens

    def cut(self, documents: Sequence[Document]) -> list[list[Document]]:
        """The chunks of each document; a document whose passage has at most `max_tokens` is the only one of its own.

        The texts of the chunks are the text of the document, in order, without the whitespace at the cuts. A title that would
        leave less than half of a chunk to the text is shortened in the chunks.
        """
        counts = self._count([passage(document) for document in documents])
        long = [document for document, count in zip(documents, counts, strict=True) if count > self._max_tokens]
        cut = iter(self._cut(long))
        return [
            next(cut) if count > self._max_tokens else [document] for document, count in zip(documents, counts, strict=True)
        ]

    def _cut(self, documents: Sequence[Document]) -> Iterator[list[Document]]:
        """The chunks of documents that are too long."""
        titled = [dataclasses.replace(document, title=self._short(document.title)) for document in documents]
        overheads = self._count([f"{document.title}\n" if document.title else "" for document in titled])
        budgets = [max(1, self._max_tokens - overhead) for overhead in overheads]
        starts = self._token_starts([document.text for document in titled])
        pieces = [split(d.text, s, budget) for d, s, budget in zip(titled, starts, budgets, strict=True)]
        # What is cut out may have more tokens than it had as a part of the whole: another merge, a mark for a word's beginning.
        counts = iter(self._count([_passage(d, text) for d, texts in zip(titled, pieces, strict=True) for text in texts]))
        for document, texts, budget in zip(titled, pieces, budgets, strict=True):
            fitting = [part for text in texts for part in self._fit(document, text, next(counts), budget)]
            if len(fitting) == 1:  # it was long by its title, or by whitespace
                yield [dataclasses.replace(document, text=fitting[0])]
                continue
            yield [
                dataclasses.replace(document, docid=chunk_docid(document.docid, n), text=text, parent_docid=document.docid)
                for n, text in enumerate(fitting)
            ]

    def _fit(self, document: Document, text: str, count: int, budget: int) -> list[str]:
        """A piece of the document's text whose passage has `count` tokens, cut again until every part fits."""
        if count <= self._max_tokens:
            return [text]
        budget = max(1, budget - (count - self._max_tokens))
        (starts,) = self._token_starts([text])
        parts = split(text, starts, budget)
        if len(parts) == 1 and budget == 1:
            return parts  # one character, with more tokens than a chunk may have
        counts = self._count([_passage(document, part) for part in parts])
        return [piece for part, n in zip(parts, counts, strict=True) for piece in self._fit(document, part, n, budget)]

    def _short(self, title: str | None) -> str | None:
        """The title, or as much of it as takes half of a chunk."""
        if not title:
            return title
        (starts,) = self._token_starts([title])
        (count,) = self._count([f"{title}\n"])
        if count <= self._max_tokens // 2:
            return title
        room = max(1, self._max_tokens // 2 - (count - len(starts)))
        return title[: starts[room]].rstrip() if room < len(starts) else title

    def _count(self, passages: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(passages), add_special_tokens=True)]

    def _token_starts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[tokens] of each text: the character at which each token begins."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.maximum.accumulate(np.array([s for s, _ in e.offsets], dtype=np.int64)) for e in encodings]


def split(text: str, token_starts: np.ndarray, budget: int) -> list[str]:
    """Pieces of at most `budget` tokens each, cut in the second half of what fits: after a sentence, a word, or a token.

    token_starts: [tokens] the character at which each token begins, ascending. The pieces are the text, in order, without the
    whitespace at the cuts.
    """
    cuts, start, token = [0], 0, 0
    while len(token_starts) - token > budget:
        too_far = max(token + budget, int(np.searchsorted(token_starts, start, side="right")))
        if too_far == len(token_starts):
            break  # the tokens that are left share one character
        end = _end(text, start, int(token_starts[too_far]))
        found = _WHITESPACE.match(text, end)
        start = found.end() if found else end
        cuts.append(start)
        # The token that holds the character at `start`: where words bring their space along, it begins before.
        holding = token_starts[np.searchsorted(token_starts, start, side="right") - 1]
        token = int(np.searchsorted(token_starts, holding))
    pieces = [text[begin:end].rstrip() for begin, end in pairwise(cuts)]
    return [piece for piece in (*pieces, text[start:]) if piece.strip()] or [text]


def _end(text: str, start: int, limit: int) -> int:
    """Where a piece that begins at `start` and may go up to `limit` ends."""
    middle = max(start + 1, (start + limit) // 2)
    for pattern, at_its_end in ((_SENTENCE_END, True), (_WHITESPACE, False)):
        ends = [m.end() if at_its_end else m.start() for m in pattern.finditer(text, middle, limit + 1)]
        if ends := [end for end in ends if start < end <= limit]:
            return ends[-1]
    return limit


def _passage(document: Document, text: str) -> str:
    return passage(dataclasses.replace(document, text=text))
