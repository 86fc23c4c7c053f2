"""Queries and passages to the token ids that sentence-transformers gives them, without loading the model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrat_ray.config import Train
from lrat_ray.models import Role, load_tokenizer
from lrat_ray.training.base_model import BaseModel, read_base_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokenizer:
    """A base model's tokenizer with the prompts and limits of both roles."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, prompts: dict[Role, str], max_tokens: dict[Role, int]):
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._max_tokens = {role: min(tokens, tokenizer.model_max_length) for role, tokens in max_tokens.items()}

    @classmethod
    def open(cls, train: Train) -> Tokenizer:
        """The tokenizer of train.base_model. Raises ConfigError as `read_base_model` does, or if there is no tokenizer."""
        base = read_base_model(train)
        return cls(
            _load_as_sentence_transformers(base),
            prompts={"query": base.prompt("query"), "passage": base.prompt("passage")},
            max_tokens={"query": train.query_max_tokens, "passage": train.passage_max_tokens},
        )

    def queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each query: prompt, text and special tokens, cut at train.query_max_tokens or the model's own limit."""
        return self._tokenize(texts, "query")

    def passages(self, texts: Sequence[str]) -> list[list[int]]:
        """The same of passages, with their prompt and train.passage_max_tokens."""
        return self._tokenize(texts, "passage")

    def _tokenize(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        if not texts:
            return []
        prompted = [self._prompts[role] + text for text in texts]
        ids: list[list[int]] = self._tokenizer(prompted, truncation=True, max_length=self._max_tokens[role])["input_ids"]
        return ids


def _load_as_sentence_transformers(base: BaseModel) -> PreTrainedTokenizerBase:
    """What `sentence_transformers.base.modules.Transformer` makes of the tokenizer's files (6.2, its __init__)."""
    settings = base.transformer
    options: dict[str, Any] = {**settings.get("tokenizer_args", {}), **settings.get("processor_kwargs", {})}
    if settings.get("max_seq_length") is not None:
        options.setdefault("model_max_length", settings["max_seq_length"])
    tokenizer = load_tokenizer(base.path, subfolder=base.subfolder, **options)
    if "model_max_length" not in options:
        tokenizer.model_max_length = min(tokenizer.model_max_length, _positions(base))
    if settings.get("do_lower_case"):
        _lower_case(tokenizer)
    return tokenizer


def _positions(base: BaseModel) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path, subfolder=base.subfolder)
    positions = getattr(config, "max_position_embeddings", -1)
    return positions if positions != -1 else 1 << 60  # XLNet writes -1 for no limit


def _lower_case(tokenizer: Any) -> None:
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])])
