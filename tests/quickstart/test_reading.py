from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.quickstart.reading import content_words, mentions, normal, normalised, share, uniform


def test_mentions_whole_words_only() -> None:
    assert mentions("She was born in Ham, near York.", "York")
    assert not mentions("She was born in Birmingham.", "Ham")
    assert not mentions("anything", "")
    assert not mentions("the", "the")  # an article alone says nothing


def test_normalisation_ignores_case_accents_punctuation_and_articles() -> None:
    assert normalised("The  Café, a Bar!") == " cafe bar "
    assert mentions("directed by George Nicholls, Jr. in 1936", "George Nicholls Jr")


def test_content_words_are_stems_without_function_words() -> None:
    assert content_words("Who directed the films of the director?") == frozenset({"direct", "film"})
    assert content_words("who was it") == frozenset({"who", "was", "it"})  # nothing else is there to go by


def test_share() -> None:
    assert share(frozenset("abcd"), frozenset("bdx")) == 0.5
    assert share(frozenset(), frozenset("a")) == 0.0


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_noise_is_a_function_of_its_circumstances(parts: list[str]) -> None:
    assert 0 < uniform(*parts) < 1
    assert uniform(*parts) == uniform(*parts)
    assert math.isfinite(normal(*parts))


def test_noise_has_the_distribution_it_claims() -> None:
    draws = [normal("draw", i) for i in range(20_000)]
    assert abs(statistics.mean(draws)) < 0.03
    assert abs(statistics.stdev(draws) - 1) < 0.03
    assert uniform("ab", "c") != uniform("a", "bc")
