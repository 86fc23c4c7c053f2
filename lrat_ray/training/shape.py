"""How large a base model is and how much of it would be trained, without reading its weights: for the plan of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from lrat_ray.config import ConfigError, Train
from lrat_ray.training.base_model import BaseModel, read_base_model
from lrat_ray.training.freezing import freeze, layer_stack


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    architecture: str
    """Class of the transformer, such as Qwen3Model."""
    parameters: int
    trainable_parameters: int
    """What is left of them after train.freeze_layers, and without what no embedding depends on."""
    parameters_per_token: int
    """Without the embedding tables, which tokens only look up: what each token is multiplied with."""
    layers: int
    hidden_size: int
    bytes_per_parameter: int
    """Of the weights as the base model's author saved them."""
    pooling: str | None


def describe(train: Train) -> ModelShape:
    """The shape of train.base_model. Raises ConfigError if it cannot be found or trained, or has fewer layers to freeze."""
    base = read_base_model(train)
    try:
        config = AutoConfig.from_pretrained(base.path, subfolder=base.subfolder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"train.base_model {base.name}: no transformers model could be read from {base.path}: {error}"
        ) from error
    transformer = _without_weights(config)
    modules = nn.ModuleList([transformer, *_other_modules(base)])
    freeze(modules, transformer, train.freeze_layers, base.name)
    tables = [module.weight for module in transformer.modules() if isinstance(module, nn.Embedding)]
    return ModelShape(
        architecture=type(transformer).__name__,
        parameters=_count(modules.parameters()),
        trainable_parameters=_count(parameter for parameter in modules.parameters() if parameter.requires_grad),
        parameters_per_token=_count(modules.parameters()) - _count(tables),
        layers=len(layer_stack(transformer)),
        hidden_size=config.hidden_size,
        bytes_per_parameter=(config.dtype or torch.float32).itemsize,
        pooling=base.pooling,
    )


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModel.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder else model


def _other_modules(base: BaseModel) -> list[nn.Module]:
    """What follows the transformer, weights included: at most a projection or two."""
    return [module.load(base.path, subfolder=subfolder) for module, subfolder in base.other_modules]
