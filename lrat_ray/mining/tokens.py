"""Length of texts in tokens of a model, as relevance intensity measures reasoning."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from tokenizers import Tokenizer

from lrat_ray.models import load_tokenizer, resolve_model


def count_tokens(texts: Sequence[str], model: str) -> list[int]:
    """Tokens of each text, special tokens not counted and nothing cut. model: see `models.resolve_model`.

    Raises ConfigError when the model has no tokenizer.
    """
    return [len(encoding) for encoding in _tokenizer(model).encode_batch(list(texts), add_special_tokens=False)]


@functools.cache  # Ray reuses its worker processes
def _tokenizer(model: str) -> Tokenizer:
    file = os.path.join(resolve_model(model), "tokenizer.json")
    # Read directly where possible: transformers brings torch along, some 300 MB in every worker process.
    tokenizer = Tokenizer.from_file(file) if os.path.isfile(file) else load_tokenizer(model).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
