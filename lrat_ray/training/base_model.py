"""What the small files of a base model say, before any weight is read: its modules, pooling, prompts and limits.

Both kinds of model end as the same record: a sentence-transformers one names its modules itself (modules.json); of a plain
transformers one `train.pooling` says how its token vectors become one vector, which no file of it does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrat_ray.config import ConfigError, Train
from lrat_ray.models import PROMPT_NAMES, Role, model_file, resolve_model, role_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model as its files, and section `train`, describe it."""

    name: str
    """What train.base_model says."""
    path: str
    """The folder or hub name that it means."""
    is_plain: bool
    """Whether it is a plain transformers model, without modules.json."""
    subfolder: str
    """Where in it the transformer lies."""
    transformer: Mapping[str, Any]
    """Settings of the transformer module, such as max_seq_length; none for a plain model."""
    other_modules: tuple[tuple[type[Any], str], ...]
    """(class, subfolder) of what follows the transformer; none for a plain model."""
    pooling: str | None
    """lasttoken, mean, cls, ...; several are joined by +; None if the model's modules do without."""
    prompts: Mapping[str, str]
    """Prompts by name: the model's own, under what section `train` says of "query" and "document"."""

    def prompt(self, role: Role) -> str:
        """The text before each query or passage; "" for none."""
        return role_prompt(self.prompts, role)


def read_base_model(train: Train) -> BaseModel:
    """Read the small files of train.base_model; from a hub they alone are downloaded.

    Raises ConfigError for a model that cannot be found or trained, a plain one without train.pooling, and a train.pooling that
    contradicts the model's own.
    """
    path = resolve_model(train.base_model)
    modules_file = model_file(path, "modules.json")
    own = {PROMPT_NAMES["query"]: train.query_prompt, PROMPT_NAMES["passage"]: train.passage_prompt}
    prompts = _read(model_file(path, "config_sentence_transformers.json")).get("prompts", {})
    prompts |= {name: text for name, text in own.items() if text is not None}
    if modules_file is None:
        return _plain(train, path, prompts)
    return _sentence_transformer(train, path, _read(modules_file), prompts)


def _read(file: str | None) -> Any:
    if file is None:
        return {}
    with open(file, encoding="utf-8") as stream:
        return json.load(stream)


def _plain(train: Train, path: str, prompts: dict[str, str]) -> BaseModel:
    if model_file(path, "config.json") is None:
        raise ConfigError(
            f"train.base_model {train.base_model}: {path} has neither modules.json nor config.json, or the hub is out of "
            "reach; name a sentence-transformers or transformers model"
        )
    if train.pooling is None:
        raise ConfigError(
            f"train.base_model {train.base_model}: {path} has no modules.json that names its pooling; say it: train.pooling="
            "lasttoken (decoders such as Qwen3) | mean (E5) | cls (BGE)"
        )
    return BaseModel(
        name=train.base_model,
        path=path,
        is_plain=True,
        subfolder="",
        transformer={},
        other_modules=(),
        pooling=train.pooling,
        prompts=prompts,
    )


def _sentence_transformer(train: Train, path: str, entries: list[dict[str, Any]], prompts: dict[str, str]) -> BaseModel:
    from sentence_transformers.base.modules import Transformer

    (first, subfolder), *others = [(_module_class(train, entry["type"]), str(entry["path"])) for entry in entries]
    if not issubclass(first, Transformer):
        raise ConfigError(f"train.base_model {train.base_model}: {first.__name__} is no transformer, which training needs")
    transformer = Transformer.load_config(path, subfolder=subfolder)
    if "message" in transformer["modality_config"]:
        raise ConfigError(f"train.base_model {train.base_model}: it reads chat messages, not texts, which training cannot make")
    model = BaseModel(
        name=train.base_model,
        path=path,
        is_plain=False,
        subfolder=subfolder,
        transformer=transformer,
        other_modules=tuple(others),
        pooling=_pooling(train, path, others, prompts),
        prompts=prompts,
    )
    if train.pooling not in (None, model.pooling):
        raise ConfigError(
            f"train.pooling={train.pooling}, but {train.base_model} is a sentence-transformers model with pooling "
            f"{model.pooling}; leave train.pooling out"
        )
    return model


def _module_class(train: Train, name: str) -> type[Any]:
    from sentence_transformers.util import import_from_string

    if not name.startswith("sentence_transformers."):
        raise ConfigError(f"train.base_model {train.base_model}: its module {name} is code of its own, which is not run")
    return import_from_string(name)


def _pooling(train: Train, path: str, modules: list[tuple[type[Any], str]], prompts: dict[str, str]) -> str | None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    for module, subfolder in modules:
        if issubclass(module, Pooling):
            config = Pooling.load_config(path, subfolder=subfolder)
            if not config.get("include_prompt", True) and any(prompts.values()):
                raise ConfigError(
                    f"train.base_model {train.base_model}: its pooling leaves the prompt out, which training does not support"
                )
            mode = config.get("pooling_mode", "mean")
            return mode if isinstance(mode, str) else "+".join(mode)
    return None
