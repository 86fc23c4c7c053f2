"""Token counts of the quickstart's encoder: MiniLM's word pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lrat_ray.config import ConfigError
from lrat_ray.sections import QUICKSTART_ENCODER
from lrat_ray.tokens import WordCounter, count_tokens, load


def test_special_tokens_do_not_count_and_nothing_is_cut_or_padded() -> None:
    # "rerank" is no word of the vocabulary: re + ##rank; the model itself reads no more than 512 tokens.
    assert count_tokens(["hello world", "", "rerank", "a " * 2000], QUICKSTART_ENCODER) == [2, 0, 2, 2000]


def test_a_model_without_a_tokenizer_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_package"):
        count_tokens(["a"], "package:no_such_package/model")


WORDS = st.text(
    st.sampled_from("aZé漢 ß\t\n\r\x00\x1c\x85\u00a0\u200b\u2028\u3000\ufffd.,'[]-_#1²") | st.characters(), max_size=60
)


@given(st.lists(WORDS | st.sampled_from(["[SEP] x[CLS]y", "##ing ing", "a" * 120, ""]), max_size=5))
def test_counting_word_by_word_is_what_the_tokenizer_counts(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    tokenizer = load(QUICKSTART_ENCODER)
    assert WordCounter.fits(tokenizer)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    assert count_tokens(texts, QUICKSTART_ENCODER) == [len(encoding) for encoding in encodings]


def test_other_tokenizers_are_not_counted_word_by_word() -> None:
    """A byte-level BPE has tokens with a leading space: two words are not one word twice."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert not WordCounter.fits(tokenizer)


def test_words_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrat_ray.tokens._WORDS_REMEMBERED", 3)
    counter = WordCounter(load(QUICKSTART_ENCODER))
    assert [counter(["one two three four five", "one"]), counter(["one six"])] == [[5, 1], [2]]
