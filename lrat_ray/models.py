"""What training and serving must agree on about a model: where it lies, its prompts, the arithmetic it can run in."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lrat_ray import artifacts
from lrat_ray.config import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase

Precision = Literal["fp32", "bf16"]
Role = Literal["query", "passage"]

_PACKAGE = "package:"
PROMPT_NAMES: dict[Role, str] = {"query": "query", "passage": "document"}
"""What sentence-transformers calls the prompts of the two roles (`encode_query`, `encode_document`)."""
_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def resolve_model(name: str) -> str:
    """The folder (or hub name) that transformers and sentence-transformers load.

    `package:NAME/folder` is a folder inside an installed package; an encoder artifact means its `encoder/` folder. Raises
    ConfigError when the package is not installed or a path does not exist.
    """
    if name.startswith(_PACKAGE):
        package, _, folder = name.removeprefix(_PACKAGE).partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"model {name}: the Python package {package} is not installed; pip install {package.replace('_', '-')}"
            )
        return os.path.join(spec.submodule_search_locations[0], folder)
    if artifacts.is_artifact(name, "encoder"):
        path = artifacts.local_path(artifacts.join(name, "encoder"))
        if path is None:
            raise ConfigError(f"model {name}: copy the encoder to a local or shared path first; models load from local folders")
        return path
    if name.startswith(("/", "./", "../", "~")) and not os.path.isdir(os.path.expanduser(name)):
        raise ConfigError(f"model {name}: this folder does not exist")
    return os.path.expanduser(name)


def model_file(path: str, filename: str) -> str | None:
    """The local copy of one file of a model folder or hub model (see `resolve_model`); None if the model has no such file.

    Raises ConfigError for a name that is neither a folder nor a model of the hub.
    """
    if os.path.isdir(path):
        file = os.path.join(path, filename)
        return file if os.path.isfile(file) else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

    try:
        return hf_hub_download(path, filename)
    except EntryNotFoundError:  # no such file, or none in the cache of a machine without network
        return None
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ConfigError(f"model {path}: neither a folder nor a model of the hub (ORGANISATION/NAME): {error}") from error


def load_tokenizer(name: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model (see `resolve_model`), with options of transformers' `AutoTokenizer`.

    Raises ConfigError, naming the model, when there is none.
    """
    from transformers import AutoTokenizer

    path = resolve_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {name}: no tokenizer could be loaded from {path}: {error}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without tokenizer files
        raise ConfigError(
            f"model {name}: no tokenizer could be loaded from {path}: its vocabulary is empty; is tokenizer.json missing?"
        )
    return tokenizer


def usable_precision(precision: Precision, device: str = "cpu") -> Precision:
    """`precision`, or fp32 where bf16 was asked of a CPU without bf16 instructions, on which it is several times slower."""
    import torch

    if precision == "bf16" and device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if not any(capabilities.get(name) for name in _BF16_INSTRUCTIONS):
            return "fp32"
    return precision


def prompt(model: SentenceTransformer, role: Role) -> str:
    """The text that the model's files put before a query or a passage; "" for none."""
    return role_prompt(model.prompts, role)


def role_prompt(prompts: Mapping[str, str | None], role: Role) -> str:
    """The same, from the `prompts` of config_sentence_transformers.json.

    Only "query" and "document" count: sentence-transformers fills in an empty one of each before it looks for other names, and
    so never comes to "passage", "corpus" or its default prompt in `encode_query` and `encode_document`.
    """
    return prompts.get(PROMPT_NAMES[role]) or ""
