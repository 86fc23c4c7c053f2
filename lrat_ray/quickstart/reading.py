"""What the simulated LLM can tell from a text: its words, its content words, whether it mentions something.

Every function is cached by the text itself, because a stateless server reads the same passages again with every request.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from statistics import NormalDist

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})
_FUNCTION_WORDS = frozenset(
    _WORD.findall("""
    a about after all also am an and any are as at be been before being besides but by can could d did do does for from had
    has have he her here him his how i if in into is it its ll me more most my no nor not of off on once only or other our out
    over own re s same she should so some such t than that the their them then there these they this those through to too
    under until up ve was we were what when where which while who whom whose why will with would you your
    """)
)
_SUFFIXES = tuple(_WORD.findall("ations ation ings ing ies ied ions ion ors ers ed es or er ly s e"))
_SHORTEST_STEM = 4
_NORMAL = NormalDist()


@lru_cache(maxsize=1 << 16)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words, without accents and punctuation."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """The words without articles, between single spaces, with a space at both ends: whole words become substrings."""
    return f" {' '.join(w for w in words(text) if w not in _ARTICLES)} "


def mentions(text: str, phrase: str) -> bool:
    """Whether `phrase` occurs in `text` as whole words, after normalisation. An empty phrase never does."""
    wanted = normalised(phrase)
    return wanted != "  " and wanted in normalised(text)


@lru_cache(maxsize=1 << 16)
def content_words(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning (all words, if none of them does)."""
    found = words(text)
    return frozenset(_stem(w) for w in found if w not in _FUNCTION_WORDS) or frozenset(_stem(w) for w in found)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word


def is_content_word(word: str) -> bool:
    return word.lower() not in _FUNCTION_WORDS


def share(wanted: frozenset[str], found: frozenset[str]) -> float:
    """Which part of `wanted` is in `found`; 0 if nothing is wanted."""
    return len(wanted & found) / len(wanted) if wanted else 0.0


def uniform(*parts: object) -> float:
    """A number in (0, 1) that is a hash of `parts`: the same noise for the same circumstances, in any process."""
    text = "\x1f".join(map(str, parts))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def normal(*parts: object) -> float:
    """A standard normal number that is a hash of `parts`."""
    return _NORMAL.inv_cdf(min(uniform(*parts), 1 - 1e-12))
