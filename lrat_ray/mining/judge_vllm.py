"""The vllm backend of the judge: engines inside Ray Data (ray.data.llm), as many as `judge.replicas`, each on its own GPUs.

The prompts are made here, as token ids, in the way of vllm.LLM.chat: the processor's own stages would cost three more actors,
and tokenise the rendered chat as plain text, which gives some models a second beginning-of-sequence token.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lrat_ray.config import Config, Judge
from lrat_ray.llm import TokenChoice
from lrat_ray.mining.judge import CHOICES, Judgement, judge_messages, judgement

_END_OF_THOUGHTS = "</think>"
_TOKENIZER_MEMORY = 512 * 2**20  # bytes
_LIGHT_CPUS = 0.1  # Ray counts CPUs per step, and all steps stand ready at once
_MOST_LOGPROBS = 20  # vLLM's limit, and the number of beginnings that the two words have together
_LONGEST_CHOICE = 16  # tokens: NOT_RELEVANT letter by letter, and the end
_SEED = 0
_Row = dict[str, Any]


def missing(config: Config) -> str | None:
    """What engines on this machine lack, and the fix; None where they can run.

    On a cluster only the nodes of the engines need vLLM and GPUs, and those may still have to be started.
    """
    if config.ray.address or os.environ.get("RAY_ADDRESS"):
        return None
    if importlib.util.find_spec("vllm") is None:
        return (
            'judge.backend=vllm needs vLLM, which is not installed: run pip install -e ".[gpu]" on a machine with GPUs '
            "(on a CPU: docs/installing.md), or let an endpoint judge (judge.backend=openai)"
        )
    import torch

    if config.judge.use_gpu and not torch.cuda.is_available():
        return (
            "judge.use_gpu: the engines of judge.backend=vllm run on GPUs, and torch finds none here. Join a cluster that has "
            "some (ray.address), or try it out on the CPU with judge.use_gpu=false (docs/judging.md)"
        )
    return None


def sampling_parameters(judge: Judge) -> _Row:
    """vLLM's sampling parameters: free text for a model that thinks; else one of the two words, with log-probabilities.

    vLLM gives log-probabilities after the grammar has ruled out all else, so that they are those of the choice itself.
    """
    chosen = {name: value for name, value in {"temperature": 0.0, "seed": _SEED, **judge.sampling}.items() if value is not None}
    free = {**chosen, "max_tokens": judge.max_tokens}  # None is said, too: vLLM's own default is 16
    if judge.thinking:
        return free
    return {
        **free,
        "max_tokens": _LONGEST_CHOICE,
        "logprobs": _MOST_LOGPROBS,
        "structured_outputs": {"choice": list(CHOICES)},
    }


def processor_options(judge: Judge, rows_per_batch: int, batches: int) -> _Row:
    """The arguments of ray.data.llm.vLLMEngineProcessorConfig; `batches`: how many of them an engine holds at a time."""
    engine: _Row = {
        "tensor_parallel_size": judge.tensor_parallel_size,
        "pipeline_parallel_size": judge.pipeline_parallel_size,
        "disable_log_stats": True,
    }
    if judge.max_model_len is not None:
        engine["max_model_len"] = judge.max_model_len
    options: _Row = {
        "model_source": judge.model,
        "engine_kwargs": {**engine, **judge.engine},
        "batch_size": rows_per_batch,
        "max_concurrent_batches": batches,
        # What stands ready waits in the engine's queue, not here: the engine fills each step from it without a round trip.
        "max_pending_requests": batches * rows_per_batch,
        "concurrency": (judge.replicas, judge.replicas),
        "should_continue_on_error": True,  # a prompt that is too long fails alone
        "log_engine_metrics": False,
        "chat_template_stage": False,
        "tokenize_stage": False,
        "detokenize_stage": False,
    }
    if not judge.use_gpu:
        options["placement_group_config"] = {"bundle_per_worker": {"CPU": 1}}
    return options


def read_row(row: Mapping[str, Any], *, thinking: bool) -> _Row:
    """The judgement that a row of the engine's output is, as a row: its text strictly read, its log-probabilities, if any."""
    text: str = row["generated_text"]
    _, closed, answer = text.rpartition(_END_OF_THOUGHTS)
    is_cut_off = thinking and not closed
    tokens = [
        TokenChoice(at[written]["decoded_token"], {top["decoded_token"]: top["logprob"] for top in at.values()})
        for at, written in zip(row["logprobs"] or [], row["generated_tokens"], strict=False)
    ]
    return asdict(judgement(row["reasoning_id"], text if is_cut_off else answer, tokens, is_cut_off=is_cut_off))


def failure_of(row: Mapping[str, Any]) -> Judgement:
    """The judgement of a row that the engine refused: such rows leave ray.data.llm in another form than the others."""
    return Judgement(reasoning_id=row["reasoning_id"], error=f"vLLM: {row['__inference_error__']}")


class _Prompts:
    """Reasonings -> token ids of the chat that asks for a verdict."""

    def __init__(self, judge: Judge):
        from transformers import AutoTokenizer

        trusted = bool(judge.engine.get("trust_remote_code", False))
        name = judge.engine.get("tokenizer", judge.model)
        self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trusted)
        self._thinking = judge.thinking

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        prompts = self._tokenizer.apply_chat_template(
            [judge_messages(reasoning) for reasoning in batch["reasoning"].tolist()],
            add_generation_prompt=True,
            enable_thinking=self._thinking,
            return_dict=False,
        )
        return {"reasoning_id": batch["reasoning_id"], "tokenized_prompt": [np.asarray(ids, np.int64) for ids in prompts]}


def ask(reasonings: Any, judge: Judge, rows_per_batch: int, batches: int) -> Any:
    """Ray Data rows with reasoning_id and reasoning, in blocks of `rows_per_batch` -> rows with the fields of Judgement.

    `batches`: how many of them each engine holds at a time. The rows of refused prompts have other fields beside these (see
    `failure_of`).
    """
    from ray.data import ActorPoolStrategy
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    light = {"num_cpus": _LIGHT_CPUS}
    processor = build_processor(
        vLLMEngineProcessorConfig(**processor_options(judge, rows_per_batch, batches)),
        preprocess=lambda row: {"sampling_params": sampling_parameters(judge)},
        postprocess=functools.partial(read_row, thinking=judge.thinking),
        preprocess_map_kwargs=light,
        postprocess_map_kwargs=light,
    )
    prompts = reasonings.map_batches(
        _Prompts,
        fn_constructor_args=(judge,),
        batch_size=rows_per_batch,
        compute=ActorPoolStrategy(size=1),
        memory=_TOKENIZER_MEMORY,
        **light,
    )
    return processor(prompts)
