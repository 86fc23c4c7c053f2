"""One YAML file = one experiment: `Config` holds a section per stage (sections.py), and every key is known.

`load_config` merges defaults, a YAML file and dotted overrides (`train.learning_rate=2e-5`). An unknown key is an error
that suggests the right name. Stages take a `Config` and read only the sections they declare, which are what their
artifact's manifest records.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import yaml
from pydantic import BaseModel, ValidationError

from lrat_ray.sections import (
    LLM,
    Agent,
    Analyze,
    Documents,
    Evaluate,
    Flywheel,
    Index,
    Judge,
    Logs,
    Mining,
    Questions,
    Quickstart,
    RaySection,
    Rollout,
    Section,
    Serve,
    Train,
    Uri,
)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the fix."""


class Config(Section):
    """One experiment. Every stage reads its own section and the top-level URIs."""

    corpus: Uri | None = None
    """The corpus: Parquet or JSONL with docid, title and text, or a documents artifact; any fsspec URI."""
    questions: Questions = Questions()
    trajectories: Uri | None = None
    """Logs of agents (a file, directory or glob, any fsspec URI) or a trajectories artifact."""
    output: Uri | None = None
    """Directory (any fsspec URI) of the artifact that the command writes."""
    force: bool = False
    """Start over where the output holds earlier work."""
    documents: Documents = Documents()
    logs: Logs = Logs()
    mining: Mining = Mining()
    judge: Judge = Judge()
    analyze: Analyze = Analyze()
    train: Train = Train()
    index: Index = Index()
    serve: Serve = Serve()
    llm: LLM = LLM()
    agent: Agent = Agent()
    rollout: Rollout = Rollout()
    evaluate: Evaluate = Evaluate()
    flywheel: Flywheel = Flywheel()
    quickstart: Quickstart = Quickstart()
    ray: RaySection = RaySection()

    def only(self, *keys: str) -> dict[str, Any]:
        """The resolved values under the dotted `keys`, nested: what a stage depends on, and what its manifest records."""
        return _subset(self.model_dump(mode="json"), keys)

    def replace(self, **changes: Any) -> Config:
        """A copy with dotted keys changed, `.` written as `__`: `config.replace(output=x, train__seeds=(2,))`."""
        return _validate(_merge(self.model_dump(exclude_unset=True), {k.replace("__", "."): v for k, v in changes.items()}))

    def require(self, key: str, why: str) -> str:
        """The string at a dotted key. Raises ConfigError, saying how to set it, when it is not set."""
        value = _lookup(self.model_dump(), key)
        if value is None:
            raise ConfigError(f"{key} is not set: {why}. Pass {key}=VALUE on the command line or set it in the YAML file")
        return str(value)


def load_config(
    path: str | None = None,
    overrides: Iterable[str] = (),
    defaults: dict[str, Any] | None = None,
    flags: dict[str, Any] | None = None,
) -> Config:
    """Nested `defaults`, then the YAML file at `path` (any fsspec URI), then `key=value` overrides (values read as YAML),
    then `flags` (dotted key -> value).

    Raises ConfigError for a missing or malformed file, an unknown key (with the nearest known one) or a bad value.
    """
    data: dict[str, Any] = defaults or {}
    if path is not None:
        data = _deep_update(data, _read_yaml(path))
    flat: dict[str, Any] = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"{override!r} is not an override; write key=value, for example train.learning_rate=2e-5")
        flat[key.strip()] = _yaml_value(value)
    return _validate(_merge(data, {**flat, **(flags or {})}))


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with fsspec.open(path, "r") as file:
            data = yaml.safe_load(file) or {}
    except FileNotFoundError as error:
        raise ConfigError(f"config file {path} does not exist (--config)") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"config file {path} must hold a mapping of sections, not {type(data).__name__}")
    return data


def _yaml_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # a regular expression or URI that happens not to be YAML
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)  # YAML 1.1 reads 2e-5 as a string ...
    if isinstance(value, int | float) and ":" in text:
        return text  # ... and 12:30 as a number in base 60
    return value if isinstance(value, int | float | list) or value is None else text


def _validate(data: dict[str, Any]) -> Config:
    for key in _leaf_keys(data):
        if key not in _KNOWN_KEYS and not any(known.startswith(f"{key}.") for known in _KNOWN_KEYS):
            raise ConfigError(f"unknown config key {key!r}{_suggestion(key)}")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"config key {where}: {message} (got {first['input']!r})") from error


def _suggestion(key: str) -> str:
    """The nearest known key: a typo in place, or the right name in another section."""
    tail = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, _KNOWN_KEYS, n=1, cutoff=0.75)
    near = near or [k for k in _KNOWN_KEYS if k.rsplit(".", 1)[-1] == tail]
    near = near or difflib.get_close_matches(key, _KNOWN_KEYS, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known sections: {', '.join(Config.model_fields)}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with the type of its value."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def _leaf_keys(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys that `data` sets, down to those whose value is a mapping with names of its own (judge.engine)."""
    for name, value in data.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in _FREE_KEYS:
            yield from _leaf_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merge(data: dict[str, Any], flat: dict[str, Any]) -> dict[str, Any]:
    for key, value in flat.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        data = _deep_update(data, nested)
    return data


def _deep_update(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(data)
    for key, value in changes.items():
        both_nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _deep_update(out[key], value) if both_nested else value
    return out


def _subset(data: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return _merge({}, {key: _lookup(data, key) for key in keys})


def _lookup(data: dict[str, Any], key: str) -> Any:
    value: Any = data
    for part in key.split("."):
        value = value[part]
    return value


_KNOWN_KEYS = tuple(key for key, _ in _known_keys(Config))
_FREE_KEYS = frozenset(key for key, kind in _known_keys(Config) if typing.get_origin(kind) is dict)
