import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.retrieval.fusion import reciprocal_rank_fusion

rankings = st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4)


def test_two_rankings_by_hand() -> None:
    # 7: 1/61 + 1/62; 3: 1/62 + 1/63; 9: 1/61; 5: 1/63
    fused = reciprocal_rank_fusion([[7, 3, 5], [9, 7, 3]])
    assert [row for row, _ in fused] == [7, 3, 9, 5]
    assert [score for _, score in fused] == pytest.approx([0.0325225, 0.0320020, 0.0163934, 0.0158730], abs=1e-7)


def test_k_sets_how_much_the_first_ranks_count() -> None:
    # k = 0: one first place (1) beats two third places (2/3); k = 60: it does not (1/61 < 2/63).
    rankings = [[1, 2, 5], [3, 4, 5]]
    assert reciprocal_rank_fusion(rankings, k=0)[0] == (1, 1.0)
    assert reciprocal_rank_fusion(rankings)[0] == (5, pytest.approx(2 / 63))


def test_equal_scores_stand_in_row_order() -> None:
    assert [row for row, _ in reciprocal_rank_fusion([[8], [2]])] == [2, 8]


@given(rankings)
def test_every_row_once_best_first(rankings: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(rankings)
    assert sorted(row for row, _ in fused) == sorted({row for ranking in rankings for row in ranking})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(rankings)
def test_the_order_of_rankings_does_not_matter(rankings: list[list[int]]) -> None:
    assert dict(reciprocal_rank_fusion(rankings)) == pytest.approx(dict(reciprocal_rank_fusion(rankings[::-1])))
