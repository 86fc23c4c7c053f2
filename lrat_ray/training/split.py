"""Which questions are held out for validation: a hash of each decides, whatever else there is and in whatever order."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_UNKNOWN = np.iinfo(np.uint64).max


class Questions:
    """Tells which query_ids ask the same question: directly, or through others, they share a text. Keeps hashes of texts alone.

    >>> questions = Questions()
    >>> for query_id, text in [("a", "Who?"), ("b", "Where?"), ("c", " who? "), ("c", "Who then?")]:
    ...     _ = questions.add(query_id, text)
    >>> a, b, c = questions.names().tolist()
    >>> a == c != b
    True
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: dict[int, int] = {}
        self._links: set[tuple[int, int]] = set()

    def add(self, query_id: str, question: str) -> int:
        """Take note of a query_id with the text of its question, which may be blank; returns the query_id's number, from 0."""
        number = self._numbers.setdefault(query_id, len(self._numbers))
        name = _hash(normalised(question) or f"query_id:{query_id}")
        self._links.add((number, self._texts.setdefault(name, len(self._texts))))
        return number

    def query_ids(self) -> list[str]:
        """The query_id of each number."""
        return list(self._numbers)

    def names(self) -> np.ndarray:
        """[query_ids] uint64: by number, the name of its question: of the hashes of that question's texts, the smallest."""
        ids, texts = np.array(sorted(self._links), dtype=np.int64).reshape(-1, 2).T
        first_text, nodes = len(self._numbers), len(self._numbers) + len(self._texts)
        links = coo_array((np.ones(len(ids), dtype=np.int8), (ids, first_text + texts)), shape=(nodes, nodes))
        components, component = connected_components(links, directed=False)
        names = np.full(components, _UNKNOWN, dtype=np.uint64)
        np.minimum.at(names, component[first_text:], np.fromiter(self._texts, np.uint64, len(self._texts)))
        return names[component[:first_text]]


def hold_out(questions: np.ndarray, *, share: float) -> np.ndarray:
    """[questions] bool: the ones held out, about `share` of them.

    questions: distinct names (`Questions.names`); share: in [0, 1). Each is drawn by its own hash, so that others that come or
    go do not change it, and encoders of all training seeds are measured on the same questions. But where share > 0 and there
    are two questions, one at least is held out, and one never is.
    """
    if share == 0 or len(questions) < 2:
        return np.zeros(len(questions), dtype=bool)
    draws = np.array([_hash(f"held out? {name}") for name in questions.tolist()], dtype=np.uint64)
    held_out = draws / 2**64 < share
    held_out[draws.argmin()] = True
    held_out[draws.argmax()] = False
    return held_out


def normalised(text: str) -> str:
    """A text without what makes no other question of it: case, width and kind of characters and spaces.

    >>> normalised("  Who painted\\nＧuernica? ")
    'who painted guernica?'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
