"""Texts in tokens of a model: how long a reasoning is (relevance intensity), where a document is cut (chunks)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from lrat_ray.models import load_tokenizer, resolve_model

_WORDS_REMEMBERED = 500_000


def count_tokens(texts: Sequence[str], model: str) -> list[int]:
    """Tokens of each text, special tokens not counted and nothing cut. model: see `models.resolve_model`.

    Raises ConfigError when the model has no tokenizer.
    """
    return _counter(model)(texts)


@functools.cache  # Ray reuses its worker processes
def load(model: str) -> Tokenizer:
    """The tokenizer of a model, which neither cuts nor pads. Raises ConfigError when the model has none."""
    file = os.path.join(resolve_model(model), "tokenizer.json")
    # Read directly where possible: transformers brings torch along, some 300 MB in every worker process.
    tokenizer = Tokenizer.from_file(file) if os.path.isfile(file) else load_tokenizer(model).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.cache
def _counter(model: str) -> Callable[[Sequence[str]], list[int]]:
    tokenizer = load(model)
    return WordCounter(tokenizer) if WordCounter.fits(tokenizer) else functools.partial(_count, tokenizer)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


class WordCounter:
    """Counts tokens word by word, each different word encoded once: ten times as fast as encoding, where it is exact.

    It is exact for BERT's tokenizers, of which no token reaches across white space, and which make none of white space.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    @staticmethod
    def fits(tokenizer: Tokenizer) -> bool:
        """Whether word by word is exact for this tokenizer."""
        described = json.loads(tokenizer.to_str())
        kinds = [(described[name] or {}).get("type") for name in ("normalizer", "pre_tokenizer", "model")]
        across = [token for token in described["added_tokens"] if token["content"].split() != [token["content"]]]
        return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and not across

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted."""
        # Not str.split(): Python takes more characters for white space than BERT does, which drops some of them.
        words = [text.replace("\n", " ").replace("\t", " ").replace("\r", " ").split(" ") for text in texts]
        self._learn({word for of_text in words for word in of_text}.difference(self._known))
        known = self._known
        counts = [sum([known[word] for word in of_text]) for of_text in words]
        if len(known) > _WORDS_REMEMBERED:
            known.clear()
        return counts

    def _learn(self, words: set[str]) -> None:
        new = list(words)
        self._known.update(zip(new, _count(self._tokenizer, new), strict=True))
