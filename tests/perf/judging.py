"""Prompts per second of the judging stage (vllm backend) beside vllm.LLM.chat: same prompts, model and engine settings.

    python tests/perf/judging.py [--quick] [--json]

Needs vLLM (docs/installing.md); runs on a CPU with a random model that takes 0.2 s a prompt or more. Both engines stand ready
in one process tree, and each round gives both the same new prompts, in alternating order, so that a busy machine slows both;
ratios are medians over rounds. The stage is timed with all that it does for a round: it reads the prompts from Parquet when it
is told to go, and is done when the last verdict is on disk. Engine start and the first prompts of each engine are left out.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrat_ray import artifacts, cluster
from lrat_ray.config import Config
from lrat_ray.mining import judging
from lrat_ray.mining.judge import INSTRUCTIONS, judge_messages
from lrat_ray.mining.judge_vllm import sampling_parameters
from lrat_ray.schema import Browse

CONCURRENCY = 16  # a verdict file holds as many, so rounds are multiples of it
SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
ENGINE = {"enforce_eager": True, "kv_cache_memory_bytes": 2_000_000_000, "max_num_seqs": CONCURRENCY}
MAX_MODEL_LEN = 1024
WORDS = "the page names a year and place but not who built it so I should search for founder of town instead".split()


def reasonings(number: int, seed: int) -> list[str]:
    """Different post-browse reasonings of 60 to 180 words."""
    rng = random.Random(seed)
    return [f"{seed}-{i}: " + " ".join(rng.choices(WORDS, k=rng.randint(60, 180))) for i in range(number)]


def write_browses(folder: Path, rounds: list[list[str]]) -> str:
    """A browses artifact with a part per round."""
    work = artifacts.begin(str(folder), kind="browses", config={}, inputs={})
    fixed = {"query_id": "q", "agent": "a", "docid": "d", "search_step": 0, "rank": 1, "query": "q", "question": "who?"}
    names = [f"part-{number:05}.parquet" for number in range(len(rounds))]
    for name, texts in zip(names, rounds, strict=True):
        rows = [Browse(trajectory_id=name, browse_step=i, reasoning=text, **fixed) for i, text in enumerate(texts)]
        work.write_rows(name, rows, Browse)
    total = sum(map(len, rounds))
    return work.finish(parts=names, rows={"in": total, "out": total, "rejected": 0}).uri


def read_when_told(batch: dict[str, np.ndarray], *, gate: str, read: Callable[..., Any]) -> Any:
    """The stage's own reading of a part, once the file that says go is there."""
    while not os.path.exists(os.path.join(gate, batch["part"][0])):
        time.sleep(0.005)
    return read(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds: under two minutes on two free cores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    prompts, rounds = (4 * CONCURRENCY, 1) if args.quick else (6 * CONCURRENCY, 4)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = measure(Path(folder), prompts, rounds)
    ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
    ratios = {"judge_stage/vllm_chat": round(ratio, 3)}
    figures = {
        "judge_stage_prompts_per_s": round(prompts / statistics.median(ours), 2),
        "vllm_chat_prompts_per_s": round(prompts / statistics.median(theirs), 2),
        "vllm_chat_s_per_prompt": round(statistics.median(theirs) / prompts, 3),
        "ratios_of_rounds": [round(t / o, 3) for o, t in zip(ours, theirs, strict=True)],
    }
    if args.json:
        print(json.dumps({"ratios": ratios, "figures": figures}))
        return
    for title, values in (("ratios of prompts/s", ratios), ("figures", figures)):
        print(title, *(f"  {name}: {value}" for name, value in values.items()), sep="\n")


def measure(folder: Path, prompts: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round: of the judging stage, and of LLM.chat."""
    from tests.mining.tiny_model import make_model

    texts = [reasonings(CONCURRENCY, 0), *(reasonings(prompts, seed) for seed in range(1, rounds + 1))]
    model = make_model(folder / "model", [INSTRUCTIONS, *texts[0]], **SIZES)
    settings = {"backend": "vllm", "model": model, "thinking": False, "use_gpu": False, "max_model_len": MAX_MODEL_LEN}
    settings |= {"concurrency": CONCURRENCY, "engine": ENGINE}
    config = Config().replace(output=str(folder / "judged"), **{f"judge__{key}": value for key, value in settings.items()})
    browses, gate, store = write_browses(folder / "mined", texts), folder / "gate", folder / "judged" / "verdicts"
    gate.mkdir()
    cluster.connect(config.ray)
    judging._read_reasonings = functools.partial(read_when_told, gate=str(gate), read=judging._read_reasonings)
    stage = threading.Thread(target=judging.judge, args=(config, browses), daemon=True)
    stage.start()

    def ours(number: int) -> float:
        files = sum(map(len, texts[: number + 1])) // CONCURRENCY
        began = time.perf_counter()
        (gate / f"part-{number:05}.parquet").touch()
        while not store.exists() or len(list(store.glob("*.parquet"))) < files:
            assert stage.is_alive(), "the judging stage ended early"
            time.sleep(0.005)
        return time.perf_counter() - began

    ours(0)
    chat = start_chat(model, config)

    def theirs(number: int) -> float:
        began = time.perf_counter()
        chat(texts[number])
        return time.perf_counter() - began

    theirs(0)
    seconds: dict[Callable[[int], float], list[float]] = {ours: [], theirs: []}
    for number in range(1, rounds + 1):
        for timed in (ours, theirs) if number % 2 else (theirs, ours):
            seconds[timed].append(timed(number))
    stage.join()
    cluster.shutdown()
    return seconds[ours], seconds[theirs]


def start_chat(model: str, config: Config) -> Callable[[list[str]], None]:
    """LLM.chat with the stage's engine and sampling settings."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    llm = LLM(model, max_model_len=MAX_MODEL_LEN, disable_log_stats=True, **ENGINE)
    options = sampling_parameters(config.judge)
    sampling = SamplingParams(**{**options, "structured_outputs": StructuredOutputsParams(**options["structured_outputs"])})

    def chat(texts: list[str]) -> None:
        answers = llm.chat(
            [judge_messages(text) for text in texts],
            sampling,
            use_tqdm=False,
            chat_template_kwargs={"enable_thinking": config.judge.thinking},
        )
        assert len(answers) == len(texts)

    return chat


if __name__ == "__main__":
    main()
