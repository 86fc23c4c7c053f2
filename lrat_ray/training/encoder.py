"""The bi-encoder being trained: one sentence-transformers model for queries and passages, its lower layers frozen.

Pooling, prompts and the order of modules are those of the model's own files (`base_model`), and saving writes a folder of that
kind. Shapes: N sequences of token ids, dim = dimensions of an embedding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor, nn

from lrat_ray import query_template
from lrat_ray.config import ConfigError, Train
from lrat_ray.query_template import QueryTemplate
from lrat_ray.training.base_model import BaseModel, read_base_model
from lrat_ray.training.freezing import freeze

_CPU_TOKENS_PER_FORWARD = 2_048
_GPU_TOKENS_PER_FORWARD = 65_536


def tokens_per_forward(train: Train) -> int:
    """Tokens of a sub-batch: what fits a CPU's cache, or keeps a GPU busy, unless the configuration says otherwise."""
    return train.tokens_per_forward or (_GPU_TOKENS_PER_FORWARD if train.use_gpu else _CPU_TOKENS_PER_FORWARD)


class Encoder(nn.Module):
    """A bi-encoder whose weights have the dtype of `model`; forward computes in `arithmetic`, or in that dtype if None."""

    def __init__(self, model: SentenceTransformer, *, template: QueryTemplate, arithmetic: torch.dtype | None = None):
        super().__init__()
        self.model = model
        self._template = template
        self._arithmetic = arithmetic

    def forward(self, sequences: Sequence[np.ndarray], cuts: Sequence[slice]) -> Tensor:
        """N arrays of token ids -> [N, dim] float32 embeddings of length 1, in the same order.

        Each of `cuts` (`dealing.sub_batches`) is padded and computed by itself; together they cover all sequences in order.
        """
        device = next(self.parameters()).device
        embedded = []
        # One autocast region for all sub-batches: it casts each weight once.
        with torch.autocast(device.type, dtype=self._arithmetic, enabled=self._arithmetic is not None):
            for cut in cuts:
                padded = self._pad([torch.from_numpy(ids.astype(np.int64)) for ids in sequences[cut]])
                features = self.model({name: value.to(device) for name, value in padded.items()})
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

    def save(self, folder: str, card: str) -> None:
        """Write a sentence-transformers folder (`SentenceTransformer(folder)`), its query template and its model card."""
        self.model.save(folder, create_model_card=False)
        query_template.write(folder, self._template)
        with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
            file.write(card)


def load_encoder(train: Train, *, device: str) -> Encoder:
    """The base model on a device, in training mode; section `train` says what is frozen, dropped out, rounded and recomputed.

    With train.bf16_parameters its weights are bf16, whose fp32 masters DeepSpeed keeps; otherwise they are fp32, and
    train.precision is that of the arithmetic. Raises ConfigError for a base model that cannot be trained so.
    """
    # On a CPU the fused attention's backward pass in bf16 costs more than all the matrix products of the step.
    attention = {"attn_implementation": "eager"} if not train.use_gpu else {}
    model = _load(read_base_model(train), device=device, dtype="bfloat16" if train.bf16_parameters else "float32", **attention)
    transformer = model.transformers_model
    assert transformer is not None  # read_base_model has made sure
    if train.dropout is not None:
        _set_dropout(model, train.dropout)
    freeze(model, transformer, train.freeze_layers, train.base_model)
    if train.gradient_checkpointing:
        # The reentrant kind gives no gradient at all above frozen layers.
        transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    is_autocast = train.precision == "bf16" and not train.bf16_parameters
    template = QueryTemplate(train.query_template)
    return Encoder(model, template=template, arithmetic=torch.bfloat16 if is_autocast else None).train()


def export_encoder(train: Train, state: Mapping[str, Tensor], folder: str, card: str) -> None:
    """Write the encoder with the weights `state`, by their names in `load_encoder`'s module, and the base model's elsewhere.

    It works on the CPU, and loads the base model afresh. Weights are saved in float32 if they were trained so, otherwise as the
    base model has them. Raises ValueError for a weight that the model does not have, or has in another shape.
    """
    model = _load(read_base_model(train), device="cpu", dtype="auto" if train.bf16_parameters else "float32")
    encoder = Encoder(model, template=QueryTemplate(train.query_template))
    own = dict(encoder.named_parameters())
    for name, weight in state.items():
        if name not in own or own[name].shape != weight.shape:
            found = f"has it as {list(own[name].shape)}" if name in own else "has no such weight"
            raise ValueError(f"weight {name} {list(weight.shape)} cannot go into {train.base_model}, which {found}")
    encoder.load_state_dict(state, strict=False)
    encoder.save(folder, card)


def _load(base: BaseModel, *, device: str, dtype: str, **model_options: str) -> SentenceTransformer:
    options = {"dtype": dtype, **model_options}
    prompts = dict(base.prompts)
    if not base.is_plain:
        return SentenceTransformer(base.path, device=device, prompts=prompts, model_kwargs=options)
    transformer = Transformer(
        base.path,
        model_kwargs=options,
        # Said, not inferred: a decoder whose tokenizer has a chat template would be given chats.
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    tokenizer = transformer.tokenizer
    if tokenizer is None:
        raise ConfigError(f"train.base_model {base.name}: it reads no texts")
    if tokenizer.pad_token_id is None:  # decoders that were never trained in batches; what is padding is masked anyway
        tokenizer.pad_token = tokenizer.eos_token
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=base.pooling)
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], prompts=prompts, device=device)


def _set_dropout(model: nn.Module, dropout: float) -> None:
    """On the modules, not in the model's configuration, so that the saved folder keeps what its author set."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(getattr(module, "attention_dropout", None), float):  # decoders such as Qwen3
            module.attention_dropout = dropout  # type: ignore[assignment]
