"""Which weights of a transformer stay as they are: the lower layers, by number, and whatever no embedding depends on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from lrat_ray.config import ConfigError


def layer_stack(transformer: PreTrainedModel) -> nn.ModuleList:
    """The layers of a transformer, lowest first; an empty list if it does not keep them in one."""
    count = getattr(transformer.config, "num_hidden_layers", None)
    # The longest list would not do: a mixture of experts may have more experts in a layer than layers.
    lists = [module for module in transformer.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return lists[0] if lists else nn.ModuleList()


def freeze(model: nn.Module, transformer: PreTrainedModel, layers: int, name: str) -> None:
    """Freeze embeddings and the `layers` lowest layers of a model's transformer (0: neither), and what no output depends on.

    Raises ConfigError, naming the model `name`, if it has fewer layers or nothing is left to train.
    """
    _freeze_layers(transformer, layers, name)
    _freeze_unused(transformer)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"train.freeze_layers={layers} leaves nothing of {name} to train; lower it")


def _freeze_layers(transformer: PreTrainedModel, layers: int, name: str) -> None:
    stack = layer_stack(transformer)
    if layers > len(stack):
        raise ConfigError(f"train.freeze_layers={layers}, but {name} has {len(stack)} transformer layers")
    if layers == 0:
        return
    for module in [_embeddings(transformer), *stack[:layers]]:
        module.requires_grad_(False)


def _embeddings(transformer: PreTrainedModel) -> nn.Module:
    """The embedding block: word embeddings alone (Qwen3), or the module that adds position and type to them (BERT, XLM-R)."""
    words = transformer.get_input_embeddings()
    path = next(path for path, module in transformer.named_modules() if module is words)
    block = transformer.get_submodule(path.rpartition(".")[0])
    holds_layers = any(isinstance(module, nn.ModuleList) for module in block.modules())
    return words if holds_layers else block


def _freeze_unused(transformer: PreTrainedModel) -> None:
    """Freeze what no embedding depends on (BERT's pooler): weight decay would shrink it, though it never gets a gradient."""
    # Fake tensors have shapes and no values: a backward pass over 8 billion parameters takes neither memory nor a device.
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = {
            name: torch.empty_like(tensor).requires_grad_(tensor.requires_grad)
            for name, tensor in (*transformer.named_parameters(), *transformer.named_buffers())
        }
        ids = torch.zeros(1, 4, dtype=torch.long, device=transformer.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        output = torch.func.functional_call(transformer, fakes, kwargs=inputs).last_hidden_state
        if not output.requires_grad:
            transformer.requires_grad_(False)
            return
        trainable = [name for name, fake in fakes.items() if fake.requires_grad]
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            output.sum(), [fakes[name] for name in trainable], allow_unused=True
        )
    for name, gradient in zip(trainable, gradients, strict=True):
        if gradient is None:
            transformer.get_parameter(name).requires_grad_(False)
