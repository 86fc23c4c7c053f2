"""The size of a model from its small files, against the model itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from transformers import T5Config, T5EncoderModel, T5Model

from lrat_ray.config import ConfigError, Train
from lrat_ray.training.encoder import load_encoder
from lrat_ray.training.shape import describe
from tests.training import families
from tests.training.families import FAMILIES


@pytest.mark.parametrize("freeze_layers", [0, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_counts_what_would_be_loaded_and_trained(name: str, freeze_layers: int, tmp_path: Path) -> None:
    train = Train(base_model=families.build(name, tmp_path / name), freeze_layers=freeze_layers)
    encoder = load_encoder(train, device="cpu")
    (tmp_path / name / "model.safetensors").unlink()
    shape = describe(train)
    parameters = list(encoder.parameters())
    assert shape.parameters == sum(p.numel() for p in parameters)
    assert shape.trainable_parameters == sum(p.numel() for p in parameters if p.requires_grad)
    assert (shape.layers, shape.hidden_size, shape.bytes_per_parameter) == (3, 32, 4)
    assert shape.pooling == FAMILIES[name].pooling
    assert shape.architecture == {"bert": "BertModel", "xlm-roberta": "XLMRobertaModel", "qwen3": "Qwen3Model"}[name]
    tables = sum(p.numel() for n, p in encoder.named_parameters() if "embed" in n and "norm" not in n.lower())
    assert shape.parameters_per_token == shape.parameters - tables


def test_a_projection_counts_and_so_does_the_dtype(tmp_path: Path) -> None:
    plain = families.build("bert", tmp_path / "plain", plain=True)
    modules = [Transformer(plain, model_kwargs={"dtype": torch.bfloat16}), Pooling(32), Dense(32, 8)]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save(str(tmp_path / "st"), create_model_card=False)
    with_head = describe(Train(base_model=str(tmp_path / "st"), freeze_layers=0))
    without = describe(Train(base_model=plain, pooling="mean", freeze_layers=0))
    assert with_head.parameters - without.parameters == 32 * 8 + 8
    assert with_head.trainable_parameters - without.trainable_parameters == 32 * 8 + 8
    assert (with_head.bytes_per_parameter, without.bytes_per_parameter) == (2, 4)


def test_of_an_encoder_decoder_only_the_encoder(tmp_path: Path) -> None:
    config = T5Config(vocab_size=100, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    shape = describe(Train(base_model=str(tmp_path), pooling="mean", freeze_layers=1))
    assert shape.parameters == sum(p.numel() for p in T5EncoderModel(config).parameters())
    assert shape.layers == 2


def test_what_cannot_be_trained_is_found_here(tmp_path: Path) -> None:
    folder = families.build("bert", tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"train.freeze_layers=9, but .*bert has 3 transformer layers"):
        describe(Train(base_model=folder, freeze_layers=9))
    with pytest.raises(ConfigError, match=r"bert-plain has no modules.json that names its pooling"):
        describe(Train(base_model=f"{folder}-plain"))
