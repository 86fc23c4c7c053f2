"""Tiny random encoders of the families that people train, of the same architecture and kind of tokenizer as the published ones.

    bert         WordPiece, [CLS] and [SEP], right padding, mean pooling                (all-MiniLM-L6-v2)
    xlm-roberta  Unigram with metaspaces, <s> and </s>, right padding, mean pooling     (multilingual-e5-large)
    qwen3        decoder, byte-level BPE, end token last, left padding, last token      (Qwen3-Embedding)

Each has 3 layers of 32 dimensions, under 60,000 parameters, and the same weights and vocabulary in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = "river city actor album film novel bridge opera castle museum island painter".split()

_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}


@dataclass(frozen=True)
class Family:
    pooling: str
    query_prompt: str
    passage_prompt: str
    layer_prefix: str
    """What stands before a layer's number in the names of its weights."""


FAMILIES = {
    "bert": Family(pooling="mean", query_prompt="query ", passage_prompt="", layer_prefix="encoder.layer."),
    "xlm-roberta": Family(pooling="mean", query_prompt="query: ", passage_prompt="passage: ", layer_prefix="encoder.layer."),
    "qwen3": Family(pooling="lasttoken", query_prompt="Instruct: search\nQuery:", passage_prompt="", layer_prefix="layers."),
}


def build(name: str, folder: str | Path, *, plain: bool = False) -> str:
    """Write an encoder of a family into a folder and return the folder.

    plain: a transformers folder (no pooling, no prompts) in place of a sentence-transformers one. Both have the same weights.
    """
    import torch

    folder = Path(folder)
    model_folder = folder if plain else folder.with_name(f"{folder.name}-plain")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model, tokenizer = {"bert": _bert, "xlm-roberta": _xlm_roberta, "qwen3": _qwen3}[name]()
    model.save_pretrained(model_folder)
    tokenizer.save_pretrained(model_folder)
    if not plain:
        _save_sentence_transformer(FAMILIES[name], model_folder, folder)
    return str(folder)


def _save_sentence_transformer(family: Family, model_folder: Path, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    model = SentenceTransformer(
        modules=[Transformer(str(model_folder)), Pooling(32, pooling_mode=family.pooling), Normalize()],  # type: ignore[arg-type]
        prompts={"query": family.query_prompt, "document": family.passage_prompt},
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)


def _bert() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", *WORDS]
    vocabulary += [*map(str, range(10)), *(f"##{i}" for i in range(10))]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece()
    config = BertConfig(vocab_size=len(ids), max_position_embeddings=64, initializer_range=0.2, **_SIZES)
    return BertModel(config), BertTokenizerFast(tokenizer_object=tokenizer)


def _xlm_roberta() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    characters = "▁abcdefghijklmnopqrstuvwxyz0123456789:.,?"
    scores = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scores += [(f"▁{word}", -3.0 - i / 10) for i, word in enumerate(["query", "passage", *WORDS])]
    scores += [(character, -8.0 - i / 10) for i, character in enumerate(characters)]
    scores += [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.decoder = decoders.Metaspace()
    config = XLMRobertaConfig(
        vocab_size=len(scores),
        max_position_embeddings=66,  # positions count from pad_token_id + 1, so that 64 tokens fit
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.2,
        **_SIZES,
    )
    return XLMRobertaModel(config), XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=64)


def _qwen3() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in [f"Ġ{word}" for word in WORDS]:  # written down, not trained: from left to right, each word becomes a token
        for end in range(2, len(word) + 1):
            merge = (word[: end - 1], word[end - 1])
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(word[:end])
    vocabulary += ["<|endoftext|>", "<|im_end|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, ids[end])])
    config = Qwen3Config(
        vocab_size=len(ids),
        max_position_embeddings=512,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=ids[end],
        initializer_range=0.2,
        **_SIZES,
    )
    wrapped = Qwen2Tokenizer(
        tokenizer_object=tokenizer, pad_token=end, eos_token="<|im_end|>", padding_side="left", model_max_length=131_072
    )
    return Qwen3Model(config), wrapped
