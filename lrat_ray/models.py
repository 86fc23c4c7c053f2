"""Where a model lies: a local folder, a hub name, an encoder artifact, or a folder inside an installed Python package."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from lrat_ray import artifacts
from lrat_ray.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PACKAGE = "package:"


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


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model (see `resolve_model`). Raises ConfigError, naming the model, when there is none."""
    from transformers import AutoTokenizer

    path = resolve_model(name)
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {name}: no tokenizer could be loaded from {path}: {error}") from error
