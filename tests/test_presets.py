"""Presets are valid sections, hold the published figures, and give way to what a configuration says."""

from __future__ import annotations

import pytest

from lrat_ray.config import ConfigError, load_config
from lrat_ray.presets import PRESETS
from lrat_ray.sections import Train

PUBLISHED = [name for name in PRESETS if name != "all-minilm-l6-v2"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_section_that_can_run(name: str) -> None:
    train = Train(preset=name)
    assert train.batch_size % train.num_workers == 0
    assert {key: getattr(train, key) for key in PRESETS[name]} == PRESETS[name]
    assert name in (Train.model_fields["preset"].description or "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_recipe(name: str) -> None:
    """LRAT, "Implementation details": 8 devices with 32 queries each, 1 positive and 9 negatives, and so on."""
    train = Train(preset=name)
    assert (train.epochs, train.batch_size / train.num_workers, train.num_workers) == (2, 32, 8)
    assert (train.group_size, train.fill_negatives, train.temperature) == (10, "resample", 0.02)
    assert (train.learning_rate, train.warmup_ratio) == (1e-6, 0.1)
    assert (train.query_max_tokens, train.passage_max_tokens) == (512, 512)
    assert train.precision == "bf16" and train.gradient_checkpointing
    assert train.in_batch_negatives and train.cross_worker_negatives and train.trajectory_negatives
    assert train.weighting == "paper" and train.freeze_layers == 0 and train.dropout is None


def test_larger_models_are_cut_up_further() -> None:
    names = ["qwen3-embedding-0.6b", "qwen3-embedding-4b", "qwen3-embedding-8b"]
    assert [Train(preset=name).zero_stage for name in names] == [1, 2, 3]


def test_prompts_are_those_of_the_models() -> None:
    """Qwen3-Embedding's files name its prompt; those of E5 do not."""
    assert Train(preset="qwen3-embedding-0.6b").query_prompt is None
    e5 = Train(preset="multilingual-e5-large-instruct")
    task = "Given a web search query, retrieve relevant passages that answer the query"
    assert (e5.query_prompt, e5.passage_prompt) == (f"Instruct: {task}\nQuery: ", "")


def test_a_configuration_overrules_its_preset() -> None:
    config = load_config(overrides=["train.preset=qwen3-embedding-4b", "train.epochs=1"])
    assert (config.train.epochs, config.train.base_model) == (1, "Qwen/Qwen3-Embedding-4B")
    assert config.train.zero_stage == 2


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="preset qwen is unknown; there are qwen3-embedding-0.6b, .*all-minilm-l6-v2"):
        load_config(overrides=["train.preset=qwen"])
