"""Chunks: every one fits the encoder with its title, and together they are the text of the document."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lrat_ray import tokens
from lrat_ray.chunking import Chunker, split
from lrat_ray.passages import passage
from lrat_ray.schema import Document
from lrat_ray.sections import QUICKSTART_ENCODER


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    return tokens.load(QUICKSTART_ENCODER)


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """As GPT and Qwen read: a character may be several tokens, a token may begin with a space, and merges cross cuts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog . " * 20], trainer)
    return tokenizer


def length(tokenizer: Tokenizer, document: Document) -> int:
    return len(tokenizer.encode(passage(document), add_special_tokens=True))


def assert_whole(document: Document, chunks: list[Document]) -> None:
    """The chunks' texts stand in the document's one after the other, with nothing but whitespace between."""
    end = 0
    for chunk in chunks:
        begin = document.text.index(chunk.text, end)
        assert not document.text[end:begin].strip()
        end = begin + len(chunk.text)
    assert not document.text[end:].strip()
    if len(chunks) == 1:
        assert chunks[0].text.strip() == document.text.strip()
        assert (chunks[0].docid, chunks[0].parent_docid) == (document.docid, None)
    else:
        assert [chunk.docid for chunk in chunks] == [f"{document.docid}#{n}" for n in range(len(chunks))]
        assert {chunk.parent_docid for chunk in chunks} == {document.docid}


WORDS = st.lists(
    st.sampled_from(["the", "quick", "Fox.", "über", "e\u0301te", "日本語。", "a-b", "🙂", "x" * 60, "\n", " \t ", "!?", "ﷺ"]),
    max_size=120,
).map(" ".join)
TEXT = st.one_of(WORDS, st.text(st.characters(exclude_categories=("Cs",)), max_size=300))
TITLE = st.one_of(st.none(), st.sampled_from(["", "Fox", "the " * 40]), st.text(st.characters(exclude_categories=("Cs",))))


@pytest.mark.parametrize("name", ["wordpiece", "byte_level"])
@settings(max_examples=150, deadline=None)
@given(text=TEXT.filter(str.strip), title=TITLE, max_tokens=st.integers(16, 64))
@example(text="x" * 3000, title=None, max_tokens=16)
@example(text="\u0301" * 300, title=None, max_tokens=16)
@example(text=" " * 500 + "a" + " " * 500, title="t", max_tokens=16)
def test_every_chunk_fits_and_no_character_is_lost(request, name, text, title, max_tokens):
    tokenizer = request.getfixturevalue(name)
    document = Document(docid="d", text=text, title=title)
    (chunks,) = Chunker(tokenizer, max_tokens).cut([document])
    assert_whole(document, chunks)
    for chunk in chunks:
        fits = length(tokenizer, chunk) <= max_tokens
        assert fits or len(chunk.text) == 1  # one character can have more tokens than are left beside the title


def test_documents_are_cut_alike_alone_and_together(wordpiece):
    documents = [Document(docid=str(n), text="One two three. " * n, title="T") for n in (1, 40, 2, 90)]
    chunker = Chunker(wordpiece, 32)
    assert chunker.cut(documents) == [chunker.cut([document])[0] for document in documents]
    assert [len(chunks) for chunks in chunker.cut(documents)] == [1, 6, 1, 13]


def test_a_chunk_ends_after_a_sentence_where_there_is_one(wordpiece):
    text = "Anna lives in Rome. Bert lives in Oslo. Carl lives in Bonn. Dora lives in Lima. Emil lives in Bern."
    document = Document(docid="d", text=text, title="Homes")
    (chunks,) = Chunker(wordpiece, 16).cut([document])  # [CLS] homes, two sentences of 5, [SEP]: 13 tokens
    assert [chunk.text for chunk in chunks] == [
        "Anna lives in Rome. Bert lives in Oslo.",
        "Carl lives in Bonn. Dora lives in Lima.",
        "Emil lives in Bern.",
    ]
    assert {chunk.title for chunk in chunks} == {"Homes"}
    assert chunks[1] == Document(docid="d#1", text=chunks[1].text, title="Homes", parent_docid="d")


def test_a_document_of_exactly_the_limit_stays_whole(wordpiece):
    document = Document(docid="d", text="a " * 14)
    assert length(wordpiece, document) == 16
    assert Chunker(wordpiece, 16).cut([document]) == [[document]]


def test_a_long_title_leaves_half_of_a_chunk_to_the_text(wordpiece):
    document = Document(docid="d", text="word " * 40, title="title " * 100)
    (chunks,) = Chunker(wordpiece, 32).cut([document])
    assert chunks[0].title == "title " * 13 + "title"
    assert [len(chunk.text.split()) for chunk in chunks] == [16, 16, 8]
    (alone,) = Chunker(wordpiece, 32).cut([Document(docid="d", text="word", title="title " * 100)])
    assert alone == [Document(docid="d", text="word", title=chunks[0].title)]


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("abcdef", 10, ["abcdef"]),
        ("abcdef", 2, ["ab", "cd", "ef"]),
        ("ab cd ef", 5, ["ab cd", "ef"]),
        ("ab cd ef", 4, ["ab", "cd", "ef"]),
        ("a. b c d", 3, ["a.", "b c", "d"]),
        ("a. b c d", 4, ["a. b", "c d"]),  # the sentence ends in the first half
        ('He said "no." b', 14, ['He said "no."', "b"]),
        ("ab    cd", 3, ["ab", "cd"]),
        ("      ", 2, ["      "]),
        ("日本。東京", 4, ["日本。", "東京"]),
    ],
)
def test_split_with_a_token_for_each_character(text, budget, expected):
    assert split(text, np.arange(len(text)), budget) == expected


def test_split_does_not_part_a_character():
    assert split("ab", np.array([0, 0, 0, 1, 1, 1]), 2) == ["a", "b"]
    assert split("a", np.array([0, 0, 0]), 2) == ["a"]
