"""The bi-encoder being trained: one sentence-transformers model for queries and passages, its lower layers frozen.

Pooling, prompts and the order of modules are those of the model's own files, and `save` writes a folder of the same kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from lrat_ray.config import ConfigError
from lrat_ray.models import Precision, Role, prompt, resolve_model


class Encoder(nn.Module):
    """A trainable bi-encoder. Parameters are fp32 whatever the precision of its arithmetic.

    Training mode is for DeepSpeed: call `forward` on token ids made by `tokenize`.
    """

    def __init__(self, model: SentenceTransformer, *, max_tokens: dict[Role, int], precision: Precision):
        super().__init__()
        self.model = model
        self._max_tokens = max_tokens
        self._dtype = torch.bfloat16 if precision == "bf16" else None
        # Sub-batches of about this size fit a CPU's cache; a GPU is only busy with far more.
        self._tokens_per_forward = 2048 if model.device.type == "cpu" else 65_536

    def tokenize(self, texts: list[str], role: Role) -> list[list[int]]:
        """Token ids of each text, with the prompt and special tokens of its role, cut at the role's maximum."""
        limit = min(self._max_tokens[role], self.model.max_seq_length or self._max_tokens[role])
        prompted = [prompt(self.model, role) + text for text in texts]
        return self.model.tokenizer(prompted, truncation=True, max_length=limit)["input_ids"]

    def forward(self, sequences: Sequence[np.ndarray]) -> Tensor:
        """N sequences of token ids -> [N, dim] float32 embeddings of length 1, in the same order.

        Neighbours share a sub-batch, so sequences ordered by length cost the least padding.
        """
        device = self.model.device
        embedded = []
        # One autocast region for all sub-batches: it casts each weight once.
        with torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype is not None):
            for part in sub_batches([len(s) for s in sequences], self._tokens_per_forward):
                ids = [torch.from_numpy(s.astype(np.int64)) for s in sequences[part]]
                features = self.model({name: value.to(device) for name, value in self._pad(ids).items()})
                embedded.append(features["sentence_embedding"].float())
        return nn.functional.normalize(torch.cat(embedded), dim=1)

    def _pad(self, ids: list[Tensor]) -> dict[str, Tensor]:
        tokenizer = self.model.tokenizer
        pad = nn.utils.rnn.pad_sequence
        side = tokenizer.padding_side
        return {
            "input_ids": pad(ids, batch_first=True, padding_value=tokenizer.pad_token_id, padding_side=side),
            "attention_mask": pad([torch.ones_like(i) for i in ids], batch_first=True, padding_side=side),
        }

    def save(self, folder: str) -> None:
        """Write a sentence-transformers folder that `SentenceTransformer(folder)` loads."""
        self.model.save(folder, create_model_card=False)


def sub_batches(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Cut sequences into runs of at most `tokens` tokens, padding included (a longer sequence stands alone).

    >>> list(sub_batches([2, 2, 3, 9], 8))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, longest = 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and longest * (i + 1 - start) > tokens:
            yield slice(start, i)
            start, longest = i, length
    if lengths:
        yield slice(start, len(lengths))


def load_encoder(
    name: str,
    *,
    dropout: float,
    freeze_layers: int,
    query_max_tokens: int,
    passage_max_tokens: int,
    precision: Precision = "fp32",
    device: str = "cpu",
) -> Encoder:
    """A sentence-transformers folder, hub name, encoder artifact or `package:NAME/folder`, ready to train.

    With `freeze_layers` > 0 the embeddings and that many lowest transformer layers keep their weights. Raises ConfigError for a
    folder without modules.json (its pooling would have to be guessed) and for more frozen layers than the model has.
    """
    path = resolve_model(name)
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, "modules.json")):
        raise ConfigError(f"train.base_model {name}: {path} has no modules.json, so it is no sentence-transformers folder")
    # On CPU the fused attention's backward pass in bf16 costs more than all the matrix products of the step.
    attention = "eager" if device == "cpu" else "sdpa"
    model = SentenceTransformer(path, device=device, model_kwargs={"dtype": torch.float32, "attn_implementation": attention})
    transformer = model.transformers_model
    if transformer is None:
        raise ConfigError(f"train.base_model {name}: {type(model[0]).__name__} is no transformer, which training needs")
    _set_dropout(model, dropout)
    _freeze(transformer, freeze_layers, name)
    encoder = Encoder(model, max_tokens={"query": query_max_tokens, "passage": passage_max_tokens}, precision=precision)
    _freeze_unused(encoder)
    return encoder.train()


def _set_dropout(model: nn.Module, dropout: float) -> None:
    """On the modules, not in the model's configuration, so that the saved folder keeps what its author set."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(getattr(module, "attention_dropout", None), float):  # decoders such as Qwen3
            module.attention_dropout = dropout  # type: ignore[assignment]


def _freeze(transformer: nn.Module, layers: int, name: str) -> None:
    stack = max((m for m in transformer.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    if layers > len(stack):
        raise ConfigError(f"train.freeze_layers={layers}, but {name} has {len(stack)} transformer layers")
    if layers == 0:
        return
    for module in [_embeddings(transformer), *stack[:layers]]:
        module.requires_grad_(False)


def _embeddings(transformer: nn.Module) -> nn.Module:
    """The embedding block: word embeddings alone (Qwen3), or the module that adds position and type to them (BERT, XLM-R)."""
    words = transformer.get_input_embeddings()  # type: ignore[operator]
    path = next(path for path, module in transformer.named_modules() if module is words)
    parent = path.rpartition(".")[0]
    block = transformer.get_submodule(parent)
    holds_layers = any(isinstance(m, nn.ModuleList) for m in block.modules())
    return words if holds_layers else block


def _freeze_unused(encoder: Encoder) -> None:
    """Freeze what no embedding depends on (BERT's pooler): weight decay would shrink it, though it never gets a gradient."""
    encoder([np.array(encoder.tokenize(["unused?"], "query")[0])]).sum().backward()
    for parameter in encoder.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.requires_grad = False
        parameter.grad = None
