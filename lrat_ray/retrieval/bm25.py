"""Lexical search: BM25 (Lucene's variant, by bm25s) over title and text, memory-mapped when it is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

_WORD = re.compile(r"\w+")
_STOPWORDS = frozenset(STOPWORDS_EN)


class LexicalIndex:
    """A BM25 index whose row i is passage i."""

    def __init__(self, bm25: bm25s.BM25):
        self._bm25 = bm25

    @classmethod
    def build(cls, passages: Iterable[str]) -> LexicalIndex:
        """Index passages (k1 = 1.5, b = 0.75). Holds the corpus as word ids in memory while it builds."""
        vocabulary: dict[str, int] = {}
        word_ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(passage)] for passage in passages]
        bm25 = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        bm25.index((word_ids, vocabulary or {"": 0}), show_progress=False)
        return cls(bm25)

    def save(self, folder: str) -> None:
        """Write the index: NumPy arrays without pickles, and JSON."""
        self._bm25.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: str) -> LexicalIndex:
        return cls(bm25s.BM25.load(folder, mmap=True, show_progress=False))

    def __len__(self) -> int:
        return int(self._bm25.scores["num_docs"])

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """(row, score) of at most k passages that share a word with the query, best first, equal scores in row order."""
        word_ids = self._bm25.get_tokens_ids(words(query))
        if not word_ids:
            return []
        scores = self._bm25.get_scores_from_ids(word_ids)
        rows = np.flatnonzero(scores)
        if len(rows) > k:
            threshold = np.partition(scores[rows], -k)[-k]
            rows = rows[scores[rows] >= threshold]
        best = rows[np.lexsort((rows, -scores[rows]))][:k]
        return [(int(row), float(scores[row])) for row in best]


def words(text: str) -> list[str]:
    """Lower-case words of a text without English stop words; queries and passages are cut alike."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOPWORDS]
