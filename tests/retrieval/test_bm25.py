import math
from pathlib import Path

import pytest

from lrat_ray.retrieval.bm25 import LexicalIndex, words

PASSAGES = [
    "Harbour lights\nA harbour with a lighthouse, and a second harbour.",
    "The lighthouse keeper",
    "Mountains",
    "A keeper keeps sheep in the mountains",
]


def test_words_are_lower_case_without_stop_words() -> None:
    assert words("The Keeper's lamp, and a LAMP in 1911") == ["keeper", "s", "lamp", "lamp", "1911"]


def test_scores_are_lucenes_formula() -> None:
    # Passage lengths in words: 6 (harbour lights harbour lighthouse second harbour), 2, 1 and 4, mean 3.25. "lighthouse" stands
    # once in two of four passages: idf = ln(1 + (4 - 2 + .5) / (2 + .5)) = ln 2, over 1 + k1 (1 - b + b length / mean length).
    found = dict(LexicalIndex.build(PASSAGES).search("lighthouse", 4))
    assert set(found) == {0, 1}
    assert found[1] == pytest.approx(math.log(2) / (1 + 1.5 * (0.25 + 0.75 * 2 / 3.25)), rel=1e-5)
    assert found[0] == pytest.approx(math.log(2) / (1 + 1.5 * (0.25 + 0.75 * 6 / 3.25)), rel=1e-5)


def test_ranking_is_what_a_reader_expects() -> None:
    index = LexicalIndex.build(PASSAGES)
    assert [row for row, _ in index.search("keeper of the lighthouse", 3)] == [1, 3, 0]
    assert [row for row, _ in index.search("keeper of the lighthouse", 1)] == [1]


def test_only_passages_that_share_a_word_are_found() -> None:
    index = LexicalIndex.build(PASSAGES)
    assert index.search("zebra", 3) == []
    assert index.search("the", 3) == []


def test_equal_scores_stand_in_row_order_even_at_the_cut() -> None:
    index = LexicalIndex.build(["apple pear", "plum fig", "apple pear", "apple pear"])
    assert [row for row, _ in index.search("apple", 2)] == [0, 2]


def test_a_saved_index_searches_alike(tmp_path: Path) -> None:
    index = LexicalIndex.build(PASSAGES)
    index.save(str(tmp_path))
    loaded = LexicalIndex.load(str(tmp_path))
    assert len(loaded) == 4
    assert loaded.search("mountains keeper", 4) == index.search("mountains keeper", 4)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in {".npy", ".json"}]
