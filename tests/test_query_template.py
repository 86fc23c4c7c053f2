"""The text of a search, under both templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray import query_template
from lrat_ray.config import ConfigError
from lrat_ray.query_template import VARIANTS, QueryTemplate, render, variants

OPTIONAL = st.none() | st.text()


def test_by_hand() -> None:
    text = render("reasoning", "castle river", "Which painter?\n", "The film\nis  older.")
    assert text == "castle river\nQuestion: Which painter?\nReasoning: The film is older."
    assert render("reasoning", "castle river", None, "It is old.") == "castle river\nReasoning: It is old."
    assert render("query", "castle river", "Which painter?", "It is old.") == "castle river"


def test_reasoning_keeps_its_last_words() -> None:
    words = [f"w{i}" for i in range(500)]
    assert render("reasoning", "q", reasoning=" ".join(words)).split() == ["q", "Reasoning:", *words[-200:]]
    assert render(QueryTemplate("reasoning", 3), "q", reasoning=" ".join(words)) == "q\nReasoning: w497 w498 w499"


def test_variants_in_their_order() -> None:
    assert variants("reasoning", "q", "why", "because") == [
        "q",
        "q\nQuestion: why",
        "q\nReasoning: because",
        "q\nQuestion: why\nReasoning: because",
    ]
    assert variants("query", "q", "why", "because") == ["q"] * len(VARIANTS)


@given(query=st.text(), question=OPTIONAL, reasoning=OPTIONAL)
def test_the_query_comes_first_and_blanks_add_nothing(query: str, question: str | None, reasoning: str | None) -> None:
    text = render("reasoning", query, question, reasoning)
    assert text.startswith(query)
    assert (text == query) == (not (question or "").strip() and not (reasoning or "").strip())
    assert render("reasoning", query) == render("query", query, question, reasoning) == query
    assert variants("reasoning", query, question, reasoning)[3] == text


@pytest.mark.parametrize("template", [QueryTemplate(), QueryTemplate("reasoning"), QueryTemplate("reasoning", 7)])
def test_is_read_as_it_was_written(template: QueryTemplate, tmp_path: Path) -> None:
    query_template.write(str(tmp_path), template)
    assert query_template.read(str(tmp_path)) == template


def test_a_model_of_others_reads_the_query_alone(tmp_path: Path) -> None:
    assert query_template.read(str(tmp_path)) == QueryTemplate("query")


@pytest.mark.parametrize(
    "content", ["{", "[]", '"query"', '{"name": "other"}', '{"name": "reasoning", "reasoning_words": 0}', '{"words": 3}']
)
def test_a_file_that_is_no_template(content: str, tmp_path: Path) -> None:
    (tmp_path / query_template.FILE).write_text(content)
    with pytest.raises(ConfigError, match="query_template.json: no query template"):
        query_template.read(str(tmp_path))


def test_the_file_names_its_settings(tmp_path: Path) -> None:
    query_template.write(str(tmp_path), QueryTemplate("reasoning"))
    assert json.loads((tmp_path / "query_template.json").read_text()) == {"name": "reasoning", "reasoning_words": 200}
