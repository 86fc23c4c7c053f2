"""Token ids without weights: the very ids that sentence-transformers makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from lrat_ray.config import ConfigError, Train
from lrat_ray.models import resolve_model
from lrat_ray.sections import QUICKSTART_ENCODER
from lrat_ray.training.tokenizer import Tokenizer
from tests.training import families
from tests.training.families import FAMILIES

LONG = " ".join(f"castle river {i}" for i in range(300))
TEXTS = ["castle", "  opera\nnovel ", "", "Ünïted Ⅳ\u200b 城堡 🏰", "Bridge, OPERA: 12?", LONG, "x" * 3000]


def reference(model: SentenceTransformer, texts: list[str], prompt: str) -> list[list[int]]:
    """What `SentenceTransformer.encode` feeds the model, without the padding."""
    features = model.preprocess(texts, prompt=prompt)
    rows = zip(features["input_ids"], features["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in rows]


def open_tokenizer(base_model: str, **changes: Any) -> Tokenizer:
    return Tokenizer.open(Train(base_model=base_model, **{"query_max_tokens": 4096, "passage_max_tokens": 4096, **changes}))


@pytest.mark.parametrize("name", [*FAMILIES, QUICKSTART_ENCODER])
@pytest.mark.parametrize("prompts", [None, ("", ""), ("find: ", "passage:\n")])
def test_ids_are_those_of_sentence_transformers(name: str, prompts: tuple[str, str] | None, tmp_path: Path) -> None:
    folder = families.build(name, tmp_path / name) if name in FAMILIES else name
    query_prompt, passage_prompt = prompts or (None, None)
    tokenizer = open_tokenizer(folder, query_prompt=query_prompt, passage_prompt=passage_prompt)
    model = SentenceTransformer(resolve_model(folder), device="cpu")
    own = [model.prompts[name] for name in ("query", "document")]
    assert name == QUICKSTART_ENCODER or own[0] == FAMILIES[name].query_prompt
    of_query, of_passage = prompts or own
    assert tokenizer.queries(TEXTS) == reference(model, TEXTS, of_query)
    assert tokenizer.passages(TEXTS) == reference(model, TEXTS, of_passage)
    model.max_seq_length = 11
    cut = open_tokenizer(folder, query_prompt=query_prompt, passage_prompt=passage_prompt, query_max_tokens=11)
    assert cut.queries(TEXTS) == reference(model, TEXTS, of_query)
    assert cut.passages(TEXTS) == tokenizer.passages(TEXTS)


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_folders_give_the_same_ids(name: str, tmp_path: Path) -> None:
    saved, plain = (families.build(name, tmp_path / str(is_plain), plain=is_plain) for is_plain in (False, True))
    prompts = {"query_prompt": FAMILIES[name].query_prompt, "passage_prompt": FAMILIES[name].passage_prompt}
    bare = open_tokenizer(plain, pooling=FAMILIES[name].pooling, **prompts)
    assert bare.queries(TEXTS) == open_tokenizer(saved).queries(TEXTS)
    assert bare.passages(TEXTS) == open_tokenizer(saved).passages(TEXTS)


@pytest.mark.parametrize("settings", [{"max_seq_length": 9}, {"max_seq_length": 9, "do_lower_case": True}])
@pytest.mark.parametrize("name", ["xlm-roberta", "qwen3"])
def test_settings_of_older_sentence_transformers(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Before version 6 limit and lower-casing stood in sentence_bert_config.json, and the module in a folder of its own."""
    folder = Path(families.build(name, tmp_path / name))
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / file).rename(inner / file)
    (folder / "sentence_bert_config.json").unlink()
    (inner / "sentence_bert_config.json").write_text(json.dumps(settings))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps(modules))
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 9
    ids = open_tokenizer(str(folder), query_prompt="").queries(TEXTS)
    assert ids == reference(model, TEXTS, "")
    (lower, upper) = open_tokenizer(str(folder), query_prompt="").queries(["castle", "CASTLE"])
    assert (lower == upper) == settings.get("do_lower_case", False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, SentenceTransformer]:
    folder = families.build("qwen3", tmp_path_factory.mktemp("qwen3") / "st")
    return open_tokenizer(folder, query_prompt=""), SentenceTransformer(folder, device="cpu")


@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_any_text(pair: tuple[Tokenizer, SentenceTransformer], texts: list[str]) -> None:
    tokenizer, model = pair
    assert tokenizer.queries(texts) == reference(model, texts, "")


def test_the_end_token_of_a_decoder_survives_the_cut(tmp_path: Path) -> None:
    """Last-token pooling reads it: without it, long texts would be embedded by whatever word stands at the cut."""
    folder = families.build("qwen3", tmp_path / "st")
    ids = open_tokenizer(folder, query_max_tokens=32, passage_max_tokens=16)
    assert [len(row) for row in (ids.queries([LONG])[0], ids.passages([LONG])[0])] == [32, 16]
    assert ids.queries([LONG])[0][-1] == ids.passages([LONG])[0][-1] == ids.passages(["castle"])[0][-1]


def test_no_texts_give_no_ids(tmp_path: Path) -> None:
    assert open_tokenizer(families.build("bert", tmp_path / "st")).queries([]) == []


def test_no_weights_are_read(tmp_path: Path) -> None:
    folder = Path(families.build("bert", tmp_path / "st"))
    (folder / "model.safetensors").unlink()
    assert open_tokenizer(str(folder)).queries(["castle"]) != [[]]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_without_tokenizer(name: str, tmp_path: Path) -> None:
    """transformers makes an empty one, for which every word is unknown, and says nothing."""
    folder = Path(families.build(name, tmp_path / "st"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(ConfigError, match=r"model .*/st: no tokenizer could be loaded"):
        open_tokenizer(str(folder))
