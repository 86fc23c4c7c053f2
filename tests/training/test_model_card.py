"""The model card: its front matter, what it says of data, recipe and held-out metrics, and what it must not say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.config import Train
from lrat_ray.training.model_card import code, display_name, model_card

COUNTS = {"pairs": 91_713, "trained": 80_000, "held_out": 1_000, "held_out_questions": 999, "mean_weight": 0.98765}
CURVE = [{"step": i + 1, "loss": 2.0 - i / 10} for i in range(20)]
VALIDATIONS = [
    {"step": 0, "ndcg@10": 0.25, "recall@1": 0.125, "pairs": 1000.0},
    {"step": 10, "ndcg@10": 0.75, "recall@1": 0.5, "pairs": 1000.0},
    {"step": 20, "ndcg@10": 0.5, "recall@1": 0.625, "pairs": 1000.0},
]


def card(*, validations: list[dict[str, float]] | None = None, **train: Any) -> str:
    settings: dict[str, Any] = {"base_model": "Qwen/Qwen3-Embedding-0.6B", "pairs": "/srv/runs/pairs-7", **train}
    section = Train(**settings)
    return model_card(section, counts=COUNTS, curve=CURVE, validations=VALIDATIONS if validations is None else validations)


def front_matter(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(front))


def row(text: str, name: str) -> str:
    (found,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)
    return str(found)


def test_front_matter_is_what_a_hub_reads() -> None:
    front = front_matter(card())
    assert (front["library_name"], front["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    assert front["base_model"] == "Qwen/Qwen3-Embedding-0.6B" and "lrat" in front["tags"]


@pytest.mark.parametrize("base_model", ["/home/ada/models/mine", "s3://bucket/mine", "package:pip_name/mine", "../x/mine"])
def test_only_a_hub_name_is_a_base_model(base_model: str) -> None:
    assert "base_model" not in front_matter(card(base_model=base_model))


def test_no_path_of_the_machine() -> None:
    text = card(base_model="/home/ada/runs/seed-3/encoder", pairs="s3://company-bucket/ada/pairs-7/")
    assert not re.search("ada|home|bucket", text)
    assert (row(text, "base model"), row(text, "pairs artifact")) == ("`seed-3`", "`pairs-7`")


def test_data_and_recipe() -> None:
    text = card(preset="qwen3-embedding-0.6b", query_prompt="Instruct: a|b\nQuery:")
    assert (row(text, "trained"), row(text, "mean weight")) == ("80,000", "0.9877")
    assert row(text, "queries per step") == "256, contrasted 256 at a time"
    assert row(text, "learning rate") == "1e-06, warm-up 10% of the steps, decay linear"
    assert row(text, "query prompt") == r"`Instruct: a\|b\nQuery:`" and row(text, "passage prompt") == "the base model's"
    assert row(text, "precision") == "bf16, parameters too" and row(text, "frozen") == "nothing"
    assert "20 steps; mean loss of the first 10: 1.5500, of the last 10: 0.5500." in text
    assert "2604.04949" in text and "2603.04384" not in text


@pytest.mark.parametrize(("export", "step", "ndcg"), [("last", 20, "0.5000"), ("best", 10, "0.7500")])
def test_held_out_metrics_are_those_of_the_exported_weights(export: str, step: int, ndcg: str) -> None:
    text = card(export=export)
    assert row(text, "ndcg@10") == f"0.2500 | {ndcg}"
    assert f"step {step}." in text and "1,000 pairs of 999 questions" in text


def test_without_validation_there_is_no_table() -> None:
    text = card(validations=[], validation_share=0)
    assert "Held-out" not in text and "ndcg" not in text


def test_the_usage_shows_the_query_template() -> None:
    assert r'encode_query(["what the agent searches for"])' in card()
    text = card(query_template="reasoning", query_max_tokens=512)
    assert r"searches for\nQuestion: what it was asked\nReasoning:" in text and "2603.04384" in text
    snippet = text.split("```python\n")[1].split("```")[0]
    compile(snippet, "snippet", "exec")


@given(prompt=st.text(st.characters()), name=st.text(st.characters(exclude_characters="/\\"), min_size=1))
def test_whatever_the_values_the_card_keeps_its_form(prompt: str, name: str) -> None:
    """Prompts and names are the user's: no backtick, pipe or line break of theirs opens or ends anything."""
    plain, odd = card(query_prompt="x"), card(query_prompt=prompt, base_model=f"/m/{name}")
    assert len(odd.splitlines()) == len(plain.splitlines()) - 1  # base_model is of the hub or not said
    assert odd.encode("utf-8")
    assert front_matter(odd).keys() == {"library_name", "pipeline_tag", "tags"}
    (line,) = [line for line in odd.split("\n") if line.startswith("| query prompt |")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_code_spans() -> None:
    assert (code("a"), code("`"), code("a\nb"), code("ü\r\ud800")) == ("`a`", "`` ` ``", r"`a\nb`", r"`ü\r\ud800`")


def test_display_names() -> None:
    names = ["intfloat/e5", "/a/b/c", "/a/b/model", "C:\\runs\\mine", "encoder", "hdfs://host/x/encoder/"]
    assert [display_name(name) for name in names] == ["intfloat/e5", "c", "b", "mine", "encoder", "x"]
