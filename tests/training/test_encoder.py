"""The trainable encoder, in every family of models: what it computes, trains, freezes and saves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from lrat_ray import query_template
from lrat_ray.config import ConfigError, Train
from lrat_ray.models import usable_precision
from lrat_ray.query_template import QueryTemplate
from lrat_ray.sections import QUICKSTART_ENCODER
from lrat_ray.training.dealing import sub_batches
from lrat_ray.training.encoder import Encoder, export_encoder, load_encoder, tokens_per_forward
from lrat_ray.training.tokenizer import Tokenizer
from tests.training import families
from tests.training.families import FAMILIES

TEXTS = ["castle", "opera novel river 3 actor album", "bridge 1 2", "island painter museum film city 12 castle", "river"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A family's model folder, built once."""
    root = tmp_path_factory.mktemp("families")

    def get(name: str, *, plain: bool = False) -> str:
        place = root / (f"{name}-transformers" if plain else name)
        return str(place) if place.exists() else families.build(name, place, plain=plain)

    return get


def section(base_model: str, **changes: Any) -> Train:
    defaults: dict[str, Any] = {
        "freeze_layers": 0,
        "precision": "fp32",
        "zero_stage": 1,
        "query_max_tokens": 64,
        "passage_max_tokens": 64,
    }
    return Train(base_model=base_model, **{**defaults, **changes})


def embed(encoder: Encoder, sequences: list[list[int]], tokens: int = 40) -> np.ndarray:
    arrays = [np.array(ids, np.int32) for ids in sequences]
    with torch.no_grad():
        return encoder(arrays, list(sub_batches([len(ids) for ids in arrays], tokens))).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def trained_names(encoder: Encoder) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def gradients(encoder: Encoder, sequences: list[list[int]]) -> dict[str, torch.Tensor]:
    """Of a sum that weighs each dimension of each embedding differently."""
    arrays = [np.array(ids, np.int32) for ids in sequences]
    vectors = encoder(arrays, list(sub_batches([len(ids) for ids in arrays], 40)))
    (vectors * torch.linspace(-1, 1, vectors.numel()).reshape(vectors.shape)).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def nudged(encoder: Encoder) -> dict[str, torch.Tensor]:
    """Change every weight that trains, as training would; returns them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return {name: p.detach().clone() for name, p in encoder.named_parameters() if p.requires_grad}


# --- what it computes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_embeds_as_the_saved_folder_does_after_training(
    name: str, plain: bool, folder: Callable[..., str], tmp_path: Path
) -> None:
    """The one property that all else serves: SentenceTransformer(folder) gives the vectors that training saw."""
    train = section(
        folder(name, plain=plain),
        pooling=FAMILIES[name].pooling if plain else None,
        query_prompt="castle query" if plain else None,
    )
    encoder, tokenizer = load_encoder(train, device="cpu"), Tokenizer.open(train)
    nudged(encoder)
    encoder.save(str(tmp_path), "# card")
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    for ids, expected in (
        (tokenizer.queries(TEXTS), saved.encode_query(TEXTS)),
        (tokenizer.passages(TEXTS), saved.encode_document(TEXTS)),
    ):
        for tokens in (1, 40, 10_000):  # alone, in several sub-batches, all together
            vectors = embed(encoder, ids, tokens)
            assert cosines(vectors, expected).min() > 0.99999
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    untrained = SentenceTransformer(folder(name), device="cpu").encode_document(TEXTS)
    assert cosines(saved.encode(TEXTS, prompt=FAMILIES[name].passage_prompt), untrained).max() < 0.999
    assert (tmp_path / "README.md").read_text() == "# card"


def test_embeds_as_a_published_model_does() -> None:
    train = section(QUICKSTART_ENCODER)
    encoder, tokenizer = load_encoder(train, device="cpu"), Tokenizer.open(train)
    expected = encoder.model.eval().encode_query(TEXTS)
    assert cosines(embed(encoder, tokenizer.queries(TEXTS)), expected).min() > 0.99999


def test_last_token_pooling_whichever_side_is_padded(folder: Callable[..., str]) -> None:
    train = section(folder("qwen3"))
    encoder, ids = load_encoder(train, device="cpu"), Tokenizer.open(train).passages(TEXTS)
    left = embed(encoder, ids, 10_000)
    encoder.model.tokenizer.padding_side = "right"
    assert cosines(embed(encoder, ids, 10_000), left).min() > 0.99999


def test_a_chat_template_does_not_turn_texts_into_chats(folder: Callable[..., str], tmp_path: Path) -> None:
    """A decoder's tokenizer brings one along, and sentence-transformers left to itself would apply it to every text."""
    folder_ = Path(families.build("qwen3", tmp_path / "chat", plain=True))
    (folder_ / "chat_template.jinja").write_text("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    train = section(str(folder_), pooling="lasttoken")
    load_encoder(train, device="cpu").save(str(tmp_path / "saved"), "")
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    expected = SentenceTransformer(folder("qwen3"), device="cpu").encode(TEXTS)
    assert cosines(saved.encode(TEXTS), expected).min() > 0.99999


def test_a_tokenizer_without_padding_pads_with_its_end_token(folder: Callable[..., str], tmp_path: Path) -> None:
    bare = Path(families.build("qwen3", tmp_path / "bare", plain=True))
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    train = section(str(bare), pooling="lasttoken")
    encoder = load_encoder(train, device="cpu")
    assert encoder.model.tokenizer.pad_token_id is not None
    expected = SentenceTransformer(folder("qwen3"), device="cpu").encode(TEXTS)
    assert cosines(embed(encoder, Tokenizer.open(train).passages(TEXTS)), expected).min() > 0.99999


# --- precision, dropout, checkpointing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_arithmetic_and_bf16_parameters(name: str, folder: Callable[..., str]) -> None:
    train = section(folder(name), precision="bf16")
    ids = Tokenizer.open(train).queries(TEXTS)
    exact = load_encoder(section(folder(name)), device="cpu")
    mixed = load_encoder(train, device="cpu")
    coarse = load_encoder(section(folder(name), precision="bf16", bf16_parameters=True), device="cpu")
    assert {p.dtype for p in exact.parameters()} == {p.dtype for p in mixed.parameters()} == {torch.float32}
    assert {p.dtype for p in coarse.parameters()} == {torch.bfloat16}
    expected = embed(exact, ids)
    for encoder in (mixed, coarse):
        vectors = embed(encoder, ids)
        assert vectors.dtype == np.float32 and not (vectors == expected).all()
        assert cosines(vectors, expected).min() > 0.995
        assert all(g.isfinite().all() for g in gradients(encoder, ids).values())


def test_dropout_is_what_the_configuration_says_or_the_models_own(folder: Callable[..., str], tmp_path: Path) -> None:
    """The tiny BERT's own is 0.1."""
    for dropout, varies in ((0.0, False), (0.5, True), (None, True)):
        train = section(folder("bert"), dropout=dropout)
        encoder, ids = load_encoder(train, device="cpu"), Tokenizer.open(train).queries(TEXTS)
        assert (embed(encoder, ids) != embed(encoder, ids)).any() == varies
    load_encoder(section(folder("bert"), dropout=0.0), device="cpu").save(str(tmp_path), "")
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    assert saved.config is not None and saved.config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize("freeze", [0, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_changes_no_gradient(name: str, freeze: int, folder: Callable[..., str]) -> None:
    train = section(folder(name), freeze_layers=freeze)
    ids = Tokenizer.open(train).passages(TEXTS)
    kept = gradients(load_encoder(train, device="cpu"), ids)
    encoder = load_encoder(section(folder(name), freeze_layers=freeze, gradient_checkpointing=True), device="cpu")
    recomputed = gradients(encoder, ids)
    assert any(getattr(module, "gradient_checkpointing", False) for module in encoder.modules())
    assert kept.keys() == recomputed.keys() == trained_names(encoder)
    for parameter, gradient in kept.items():
        torch.testing.assert_close(recomputed[parameter], gradient, rtol=1e-5, atol=1e-7)


# --- what it trains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_freezes_the_embeddings_and_the_lower_layers(name: str, folder: Callable[..., str]) -> None:
    encoder = load_encoder(section(folder(name), freeze_layers=2), device="cpu")
    prefix = FAMILIES[name].layer_prefix
    trained = trained_names(encoder)
    assert {n.split(prefix)[1].split(".")[0] for n in trained if prefix in n} == {"2"}
    assert not any("embed" in n for n in trained)
    assert {n for n in trained if prefix not in n} == ({"model.0.model.norm.weight"} if name == "qwen3" else set())


@pytest.mark.parametrize("name", FAMILIES)
def test_all_that_trains_gets_a_gradient(name: str, folder: Callable[..., str]) -> None:
    """BERT's pooler gets none: no embedding depends on it."""
    train = section(folder(name))
    encoder = load_encoder(train, device="cpu")
    assert gradients(encoder, Tokenizer.open(train).queries(TEXTS)).keys() == trained_names(encoder)
    left = {n for n, _ in encoder.named_parameters()} - trained_names(encoder)
    pooler = {f"model.0.model.pooler.dense.{part}" for part in ("weight", "bias")}
    assert left == (set() if name == "qwen3" else pooler)


# --- what it saves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_exports_the_weights_that_trained_over_the_base_model(name: str, folder: Callable[..., str], tmp_path: Path) -> None:
    train = section(folder(name), freeze_layers=1, query_template="reasoning", query_max_tokens=256)
    encoder = load_encoder(train, device="cpu")
    state = nudged(encoder)
    export_encoder(train, state, str(tmp_path), "# card")
    written = load_file(tmp_path / "model.safetensors")
    base = load_file(Path(folder(name)) / "model.safetensors")
    for weight, value in written.items():
        expected = state.get(f"model.0.model.{weight}", base[weight])
        assert value.dtype == torch.float32 and torch.equal(value, expected), weight
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    assert saved.max_seq_length == SentenceTransformer(folder(name), device="cpu").max_seq_length
    assert query_template.read(str(tmp_path)) == QueryTemplate("reasoning")
    assert (tmp_path / "README.md").read_text() == "# card"


@pytest.mark.parametrize(
    ("of_base", "bf16_parameters", "of_export"),
    [
        (torch.bfloat16, True, torch.bfloat16),
        (torch.float16, True, torch.float16),
        (torch.bfloat16, False, torch.float32),
    ],
)
def test_the_dtype_of_what_is_exported(
    of_base: torch.dtype, bf16_parameters: bool, of_export: torch.dtype, folder: Callable[..., str], tmp_path: Path
) -> None:
    half = SentenceTransformer(folder("qwen3"), device="cpu", model_kwargs={"dtype": of_base})
    half.save(str(tmp_path / "base"), create_model_card=False)
    precision = "bf16" if bf16_parameters else "fp32"
    train = section(str(tmp_path / "base"), precision=precision, bf16_parameters=bf16_parameters)
    export_encoder(train, nudged(load_encoder(train, device="cpu")), str(tmp_path / "out"), "")
    assert {w.dtype for w in load_file(tmp_path / "out" / "model.safetensors").values()} == {of_export}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"model.0.model.gone": torch.ones(2)}, r"weight model.0.model.gone \[2\] cannot go into .*, which has no such weight"),
        ({"model.0.model.norm.weight": torch.ones(2)}, r"norm.weight \[2\] cannot go into .*, which has it as \[32\]"),
    ],
)
def test_weights_of_another_model(
    state: dict[str, torch.Tensor], message: str, folder: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_encoder(section(folder("qwen3")), state, str(tmp_path), "")


@pytest.mark.parametrize("plain", [False, True])
def test_prompts_of_the_configuration_are_stored(plain: bool, folder: Callable[..., str], tmp_path: Path) -> None:
    pooling = "mean" if plain else None
    train = section(folder("xlm-roberta", plain=plain), pooling=pooling, query_prompt="find: ", passage_prompt="")
    load_encoder(train, device="cpu").save(str(tmp_path), "")
    assert SentenceTransformer(str(tmp_path), device="cpu").prompts == {"query": "find: ", "document": ""}


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
def test_a_plain_model_is_saved_with_its_pooling(pooling: Any, folder: Callable[..., str], tmp_path: Path) -> None:
    train = section(folder("bert", plain=True), pooling=pooling)
    encoder = load_encoder(train, device="cpu")
    encoder.save(str(tmp_path), "")
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    assert [type(module).__name__ for module in saved] == ["Transformer", "Pooling", "Normalize"]
    assert saved[1].pooling_mode == pooling  # type: ignore[union-attr]
    assert load_encoder(section(str(tmp_path), pooling=pooling), device="cpu") is not None


# --- what cannot be trained ---------------------------------------------------------------------------------------------------


def test_a_plain_model_needs_its_pooling_said(folder: Callable[..., str]) -> None:
    plain = folder("qwen3", plain=True)
    with pytest.raises(ConfigError, match=r"qwen3-transformers has no modules.json .* train.pooling=lasttoken \(decoders"):
        load_encoder(section(plain), device="cpu")


def test_pooling_that_contradicts_the_models_own(folder: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"train.pooling=mean, but .*qwen3 is a .* with pooling lasttoken; leave"):
        load_encoder(section(folder("qwen3"), pooling="mean"), device="cpu")


def test_more_frozen_layers_than_there_are(folder: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"train.freeze_layers=4, but .*bert has 3 transformer layers"):
        load_encoder(section(folder("bert"), freeze_layers=4), device="cpu")


def test_all_layers_frozen(folder: Callable[..., str]) -> None:
    """Above its layers a Qwen3 has a norm that still trains; of a BERT only the pooler is left, which nothing depends on."""
    assert trained_names(load_encoder(section(folder("qwen3"), freeze_layers=3), device="cpu")) == {"model.0.model.norm.weight"}
    with pytest.raises(ConfigError, match=r"train.freeze_layers=3 leaves nothing of .*bert to train; lower it"):
        load_encoder(section(folder("bert"), freeze_layers=3), device="cpu")


@pytest.mark.parametrize("name", ["here", "no-such-organisation/no-such-model", "./nowhere", "a/b/c"])
def test_what_is_no_model(name: str, tmp_path: Path) -> None:
    """An empty folder, a hub name out of reach, a path that does not exist, and what can be neither."""
    with pytest.raises(ConfigError, match=r"neither modules.json nor config.json|does not exist|neither a folder nor"):
        load_encoder(section(str(tmp_path) if name == "here" else name), device="cpu")


def write_modules(folder: str, target: Path, first: str) -> str:
    SentenceTransformer(folder, device="cpu").save(str(target), create_model_card=False)
    modules = json.loads((target / "modules.json").read_text())
    modules[0]["type"] = first
    (target / "modules.json").write_text(json.dumps(modules))
    return str(target)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("sentence_transformers.sentence_transformer.modules.StaticEmbedding", "StaticEmbedding is no transformer"),
        ("modeling_mine.Transformer", "its module modeling_mine.Transformer is code of its own, which is not run"),
    ],
)
def test_modules_that_cannot_be_trained(first: str, message: str, folder: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder(section(write_modules(folder("bert"), tmp_path / "odd", first)), device="cpu")


def test_a_model_that_reads_chats(folder: Callable[..., str], tmp_path: Path) -> None:
    SentenceTransformer(folder("qwen3"), device="cpu").save(str(tmp_path), create_model_card=False)
    file = tmp_path / "sentence_bert_config.json"
    settings = json.loads(file.read_text())
    settings["modality_config"]["message"] = {**settings["modality_config"]["text"], "format": "flat"}
    file.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="it reads chat messages, not texts"):
        load_encoder(section(str(tmp_path)), device="cpu")


def test_pooling_without_the_prompt(folder: Callable[..., str], tmp_path: Path) -> None:
    model = SentenceTransformer(folder("bert"), device="cpu")
    model.set_pooling_include_prompt(False)
    model.save(str(tmp_path), create_model_card=False)
    with pytest.raises(ConfigError, match="its pooling leaves the prompt out"):
        load_encoder(section(str(tmp_path)), device="cpu")
    assert load_encoder(section(str(tmp_path), query_prompt=""), device="cpu") is not None


# --- hub names ----------------------------------------------------------------------------------------------------------------

_TRAIN_FROM_HUB = """
import sys
from lrat_ray import query_template
from lrat_ray.sections import Train
from lrat_ray.training.encoder import export_encoder, load_encoder
from lrat_ray.training.shape import describe
from lrat_ray.training.tokenizer import Tokenizer

for name, pooling in (("tiny/saved", None), ("tiny/plain", "lasttoken")):
    train = Train(base_model=name, pooling=pooling, query_prompt="find: ")
    parameters = sum(p.numel() for p in load_encoder(train, device="cpu").parameters())
    assert describe(train).parameters == parameters
    assert query_template.read(name).name == "query"
    export_encoder(train, {}, f"{sys.argv[1]}/{name}", "")
    print(Tokenizer.open(train).queries(["castle"])[0])
"""


def test_hub_names_do_as_well_as_folders(folder: Callable[..., str], tmp_path: Path) -> None:
    """A hub's cache, as a download would have left it, is as much of a hub as a test can have."""
    for name, plain in (("saved", False), ("plain", True)):
        repository = tmp_path / "hub" / f"models--tiny--{name}"
        shutil.copytree(folder("qwen3", plain=plain), repository / "snapshots" / ("0" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", _TRAIN_FROM_HUB, str(tmp_path / "out")]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    ids = Tokenizer.open(section(folder("qwen3"), query_prompt="find: ")).queries(["castle"])[0]
    assert printed.stdout.splitlines() == [str(ids)] * 2
    expected = SentenceTransformer(folder("qwen3"), device="cpu").encode(TEXTS)
    for name in ("saved", "plain"):
        exported = SentenceTransformer(str(tmp_path / "out" / "tiny" / name), device="cpu")
        assert cosines(exported.encode(TEXTS), expected).min() > 0.99999


# --- devices ----------------------------------------------------------------------------------------------------------------


def test_tokens_per_forward_depends_on_the_device(folder: Callable[..., str]) -> None:
    sections = [Train(), Train(use_gpu=True), Train(tokens_per_forward=7)]
    assert [tokens_per_forward(train) for train in sections] == [2_048, 65_536, 7]


def test_bf16_is_used_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert [usable_precision(p, d) for p, d in (("bf16", "cpu"), ("fp32", "cpu"), ("bf16", "cuda"))] == ["fp32", "fp32", "bf16"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert usable_precision("bf16", "cpu") == "bf16"
