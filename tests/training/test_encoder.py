"""The trainable encoder: what it freezes, what it computes, what it saves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model, XLMRobertaConfig, XLMRobertaModel

from lrat_ray.config import ConfigError
from lrat_ray.models import usable_precision
from lrat_ray.sections import QUICKSTART_ENCODER
from lrat_ray.training.encoder import Encoder, load_encoder, sub_batches

TEXTS = ["castle", "opera novel river 3 actor album", "bridge 1 2", "island painter museum film city"]


def load(name: str, **changes: Any) -> Encoder:
    options: dict[str, Any] = {"dropout": 0.0, "freeze_layers": 0, "query_max_tokens": 32, "passage_max_tokens": 32}
    return load_encoder(name, **{**options, **changes})


def embed(encoder: Encoder, texts: list[str], role: Any) -> np.ndarray:
    with torch.no_grad():
        return encoder([np.array(ids, np.int32) for ids in encoder.tokenize(texts, role)]).numpy()


def trained_names(encoder: Encoder) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", ["tiny", QUICKSTART_ENCODER])
def test_embeds_as_sentence_transformers_does(name: str, tiny_encoder: str, tmp_path: Path) -> None:
    """Prompts, pooling and normalisation of the model's files, before and after saving."""
    encoder = load(tiny_encoder if name == "tiny" else name)
    encoder.save(str(tmp_path))
    for model in (encoder.model, SentenceTransformer(str(tmp_path), device="cpu")):
        model.eval()
        assert embed(encoder, TEXTS, "query") == pytest.approx(model.encode_query(TEXTS), abs=1e-5)
        assert embed(encoder, TEXTS, "passage") == pytest.approx(model.encode_document(TEXTS), abs=1e-5)
    assert np.linalg.norm(embed(encoder, TEXTS, "query"), axis=1) == pytest.approx(1, abs=1e-5)


def test_the_saved_folder_keeps_the_authors_settings(tiny_encoder: str, tmp_path: Path) -> None:
    load(tiny_encoder, dropout=0.0).save(str(tmp_path))
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    assert saved.config is not None and saved.config.hidden_dropout_prob == 0.1
    assert saved.prompts["query"] == "query "


def test_texts_are_cut_by_role(tiny_encoder: str) -> None:
    encoder = load(tiny_encoder, query_max_tokens=4, passage_max_tokens=6)
    long = " ".join(["castle"] * 20)
    assert [len(encoder.tokenize([long], role)[0]) for role in ("query", "passage")] == [4, 6]  # type: ignore[arg-type]


def test_training_mode_without_dropout_is_deterministic_and_with_it_is_not(tiny_encoder: str) -> None:
    sure, unsure = load(tiny_encoder), load(tiny_encoder, dropout=0.5)
    assert (embed(sure, TEXTS, "query") == embed(sure, TEXTS, "query")).all()
    assert not (embed(unsure, TEXTS, "query") == embed(unsure, TEXTS, "query")).all()


def test_freezes_embeddings_and_lower_layers_of_bert(tiny_encoder: str) -> None:
    trained = trained_names(load(tiny_encoder, freeze_layers=2))
    assert {name.split(".layer.")[1].split(".")[0] for name in trained} == {"2"}
    assert not any("embeddings" in name for name in trained)


def test_freezing_nothing_leaves_only_the_unused_pooler(tiny_encoder: str) -> None:
    encoder = load(tiny_encoder)
    left = {name for name, _ in encoder.named_parameters()} - trained_names(encoder)
    assert left == {f"model.0.model.pooler.dense.{part}" for part in ("weight", "bias")}


@dataclasses.dataclass
class Layout:
    """A random model of another family, saved as a sentence-transformers folder."""

    model: torch.nn.Module
    pooling: str
    padding_side: str


def save_layout(layout: Layout, tokenizer_from: str, folder: Path) -> str:
    layout.model.save_pretrained(folder / "hf")  # type: ignore[operator]
    AutoTokenizer.from_pretrained(tokenizer_from, padding_side=layout.padding_side).save_pretrained(folder / "hf")
    transformer = Transformer(str(folder / "hf"))
    SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode=layout.pooling)], device="cpu").save(  # type: ignore[arg-type]
        str(folder / "st"), create_model_card=False
    )
    return str(folder / "st")


def test_freezes_qwen3(tiny_encoder: str, tmp_path: Path) -> None:
    """A decoder: word embeddings stand beside the layers, pooling takes the last token, padding goes to the left."""
    config = Qwen3Config(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=0,
    )
    folder = save_layout(Layout(Qwen3Model(config), "lasttoken", "left"), tiny_encoder, tmp_path)
    encoder = load(folder, freeze_layers=2)
    trained = trained_names(encoder)
    assert "model.0.model.norm.weight" in trained and not any("embed_tokens" in name for name in trained)
    assert {name.split("layers.")[1].split(".")[0] for name in trained if "layers." in name} == {"2"}
    expected = encoder.model.eval().encode_document(TEXTS, normalize_embeddings=True)
    assert embed(encoder, TEXTS, "passage") == pytest.approx(expected, abs=1e-4)


def test_freezes_xlm_roberta(tiny_encoder: str, tmp_path: Path) -> None:
    config = XLMRobertaConfig(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        type_vocab_size=2,
    )
    folder = save_layout(Layout(XLMRobertaModel(config), "cls", "right"), tiny_encoder, tmp_path)
    trained = trained_names(load(folder, freeze_layers=1))
    assert trained and all("encoder.layer.1." in name for name in trained)


def test_more_frozen_layers_than_there_are(tiny_encoder: str) -> None:
    with pytest.raises(ConfigError, match=r"train.freeze_layers=4, but .* has 3 transformer layers"):
        load(tiny_encoder, freeze_layers=4)


def test_a_folder_that_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no modules.json, so it is no sentence-transformers folder"):
        load(str(tmp_path))


def test_sub_batches_stay_within_their_tokens() -> None:
    lengths = [3, 3, 3, 5, 5, 20]
    parts = list(sub_batches(lengths, 12))
    assert [lengths[part] for part in parts] == [[3, 3, 3], [5, 5], [20]]


def test_bf16_is_used_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert [usable_precision(p, d) for p, d in (("bf16", "cpu"), ("fp32", "cpu"), ("bf16", "cuda"))] == ["fp32", "fp32", "bf16"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert usable_precision("bf16", "cpu") == "bf16"


def test_bf16_arithmetic_keeps_fp32_parameters(tiny_encoder: str) -> None:
    exact, coarse = load(tiny_encoder), load(tiny_encoder, precision="bf16")
    assert {parameter.dtype for parameter in coarse.parameters()} == {torch.float32}
    a, b = embed(exact, TEXTS, "query"), embed(coarse, TEXTS, "query")
    assert b.dtype == np.float32 and (a * b).sum(axis=1) == pytest.approx(1, abs=1e-3) and not (a == b).all()
