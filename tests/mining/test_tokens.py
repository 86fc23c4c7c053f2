"""Token counts of the quickstart's encoder: MiniLM's word pieces."""

from __future__ import annotations

import pytest

from lrat_ray.config import QUICKSTART_ENCODER, ConfigError
from lrat_ray.mining.tokens import count_tokens


def test_special_tokens_do_not_count_and_nothing_is_cut_or_padded() -> None:
    # "rerank" is no word of the vocabulary: re + ##rank; the model itself reads no more than 512 tokens.
    assert count_tokens(["hello world", "", "rerank", "a " * 2000], QUICKSTART_ENCODER) == [2, 0, 2, 2000]


def test_a_model_without_a_tokenizer_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_package"):
        count_tokens(["a"], "package:no_such_package/model")
