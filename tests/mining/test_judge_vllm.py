"""The vllm judge: what the engine is told, how its rows are read; and real engines on a CPU with a tiny model made here."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrat_ray import artifacts
from lrat_ray.config import Config, Judge
from lrat_ray.mining import judging, verdicts
from lrat_ray.mining.judge import CHOICES, INSTRUCTIONS, Judgement, judge_messages
from lrat_ray.mining.judge_vllm import failure_of, processor_options, read_row, sampling_parameters
from lrat_ray.schema import Browse
from tests.mining.test_judging import mined
from tests.mining.tiny_model import make_model

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM")


def test_a_model_that_does_not_think_chooses_between_two_words() -> None:
    assert sampling_parameters(Judge(thinking=False)) == {
        "temperature": 0.0,
        "seed": 0,
        "max_tokens": 16,
        "logprobs": 20,
        "structured_outputs": {"choice": ["RELEVANT", "NOT_RELEVANT"]},
    }


def test_a_thinking_model_writes_as_long_as_it_may() -> None:
    sampling = {"temperature": 0.6, "top_p": 0.95, "seed": None}
    assert sampling_parameters(Judge(sampling=sampling)) == {"temperature": 0.6, "top_p": 0.95, "max_tokens": None}
    assert sampling_parameters(Judge(max_tokens=9))["max_tokens"] == 9


def test_engines_are_told_their_size_and_what_else_is_set() -> None:
    judge = Judge(replicas=3, tensor_parallel_size=2, max_model_len=4096, engine={"quantization": "fp8"}, concurrency=100)
    options = processor_options(judge, rows_per_batch=32, batches=7)
    assert options["engine_kwargs"] == {
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 1,
        "max_model_len": 4096,
        "disable_log_stats": True,
        "quantization": "fp8",
    }
    assert (options["concurrency"], options["batch_size"], options["max_concurrent_batches"]) == ((3, 3), 32, 7)
    assert options["max_pending_requests"] == 7 * 32
    assert "placement_group_config" not in options  # ray.data.llm's own default: a GPU for each share of the model
    on_cpu = processor_options(Judge(use_gpu=False), rows_per_batch=1, batches=2)
    assert on_cpu["placement_group_config"] == {"bundle_per_worker": {"CPU": 1}}


def row(text: str, **fields: Any) -> dict[str, Any]:
    return {"reasoning_id": "i", "generated_text": text, "generated_tokens": [7], "logprobs": None, **fields}


@pytest.mark.parametrize(
    ("text", "thinking", "relevant"),
    [
        ("It takes a date.\n</think>\n\nRELEVANT", True, True),
        ("<think>RELEVANT?</think>NOT_RELEVANT", True, False),
        ("Surely\nRELEVANT", True, None),
        ("thoughts</think>No idea", True, None),
        ("NOT_RELEVANT", False, False),
    ],
)
def test_the_verdict_is_what_comes_after_the_thoughts(text: str, thinking: bool, relevant: bool | None) -> None:
    read = read_row(row(text), thinking=thinking)
    assert (read["relevant"], read["error"] is None) == (relevant, relevant is not None)


def test_the_engines_log_probabilities_give_the_probability() -> None:
    tops = {7: {"logprob": math.log(0.2), "decoded_token": "R"}, 8: {"logprob": math.log(0.8), "decoded_token": "NOT"}}
    tops[9] = {"logprob": -math.inf, "decoded_token": "x"}
    read = read_row(row("NOT_RELEVANT", generated_tokens=[8], logprobs=[tops]), thinking=False)
    assert (read["relevant"], read["relevance_probability"]) == (False, pytest.approx(0.2))


def test_a_refused_prompt_is_a_failure_that_says_why() -> None:
    refused = {"reasoning_id": "i", "__inference_error__": "VLLMValidationError: too long"}
    assert failure_of(refused) == Judgement(reasoning_id="i", error="vLLM: VLLMValidationError: too long")


REASONINGS = [f"The page names the year {1800 + number}, " + "and more. " * (number % 7) for number in range(600)]
TOO_LONG = "word " * 1500
PARTS = [["Nothing yet.", *REASONINGS[:300], "", TOO_LONG], ["Nothing yet.", *REASONINGS[300:], *REASONINGS[:4]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_model(tmp_path_factory.mktemp("tiny") / "model", [INSTRUCTIONS, *REASONINGS])


def config_for(output: Path, model: str, **changes: Any) -> Config:
    """How docs/judging.md runs an engine on a CPU."""
    engine = {"enforce_eager": True, "kv_cache_memory_bytes": 200_000_000, "max_num_seqs": 8}
    settings = {"backend": "vllm", "model": model, "use_gpu": False, "max_model_len": 1024, "concurrency": 8, "engine": engine}
    return Config().replace(output=str(output), **{f"judge__{key}": value for key, value in settings.items()}, **changes)


def probabilities(model: str, reasonings: list[str]) -> dict[str, float]:
    """P(RELEVANT) by another way: transformers' own forward pass, and the share of all tokens that begin a word."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).float()
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    begins = [[i for i, text in enumerate(texts) if text and word.startswith(text)] for word in CHOICES]
    out = {}
    for reasoning in reasonings:
        chat = judge_messages(reasoning)
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, enable_thinking=False, return_dict=False)
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0, -1]
        relevant, not_relevant = (logits[ids_of_word].exp().sum().item() for ids_of_word in begins)
        out[reasoning] = relevant / (relevant + not_relevant)
    return out


def engines() -> list[Any]:
    """The engine processes under this one, which a zombie is not any more."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and "EngineCore" in process.name() + "".join(process.cmdline()):
                found.append(process)
    return found


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = 400) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {deadline_s} s"
        time.sleep(0.02)


@pytest.mark.vllm
@pytest.mark.slow
@needs_vllm
def test_verdicts_survive_the_death_of_the_driver_and_of_an_engine(
    tmp_path: Path, model: str, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is killed, then its engine; what comes out is what the model says by any other way, asked once each."""
    import ray

    browses = mined(tmp_path / "mined", PARTS)
    config = config_for(tmp_path / "judged", model, judge__thinking=False)
    store = tmp_path / "judged" / "verdicts"

    def files() -> int:
        return len(list(store.glob("*.parquet")))

    script = (
        "import sys; from lrat_ray.config import Config; from lrat_ray.mining.judging import judge\n"
        "judge(Config.model_validate_json(sys.argv[1]), sys.argv[2])"
    )
    joined = config.replace(ray__address=ray.get_runtime_context().gcs_address)
    process = subprocess.Popen([sys.executable, "-c", script, joined.model_dump_json(), browses])
    wait_for(lambda: files() >= 2 or process.poll() is not None, "the first run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "judged" / "manifest.json").exists()

    wait_for(lambda: not engines(), "the end of the killed run's engine", 60)
    written, files_before = verdicts.read(str(store)).num_rows, files()
    asked: list[int] = []
    judge_all = judging._judge_all
    monkeypatch.setattr(judging, "_judge_all", lambda *args: (asked.append(args[2]), judge_all(*args)))
    killed: list[int] = []

    def kill_an_engine() -> None:
        wait_for(lambda: bool(engines()), "the second run's engine")
        found = engines()
        wait_for(lambda: files() > files_before, "the first verdicts of the second run")
        for engine in found:
            engine.kill()
            killed.append(engine.pid)

    killer = threading.Thread(target=kill_an_engine)
    killer.start()
    manifest = judging.judge(config, browses)
    killer.join()
    assert killed
    different = 1 + len(REASONINGS) + 1
    assert asked == [different - written]

    rows = list(artifacts.read_rows(manifest.uri, Browse, "browses"))
    assert [b.reasoning for b in rows] == [reasoning for part in PARTS for reasoning in part]
    assert {b.judge_status for b in rows if b.reasoning == ""} == {"unjudged"}
    (too_long,) = [b for b in rows if b.judge_status == "failed"]
    assert too_long.reasoning == TOO_LONG and "maximum context length is 1024" in str(too_long.judge_error)
    judged = [b for b in rows if b.judge_status == "judged"]
    assert len(judged) == len(rows) - 2
    expected = probabilities(model, ["Nothing yet.", *REASONINGS[:4], *REASONINGS[4::25]])
    for browse in judged:
        assert browse.relevance_probability is not None
        assert browse.relevant is (browse.relevance_probability >= 0.5)
    compared = [b for b in judged if b.reasoning in expected]
    assert len(compared) == len(expected) + 5  # what two parts have in common
    for browse in compared:
        assert browse.relevance_probability == pytest.approx(expected[browse.reasoning], abs=0.02)


@pytest.mark.vllm
@pytest.mark.slow
@needs_vllm
def test_a_thinking_model_that_never_comes_to_a_verdict_is_listed_not_guessed(
    tmp_path: Path, model: str, ray_local: None
) -> None:
    browses = mined(tmp_path / "mined", [[*REASONINGS[:3], ""]])
    manifest = judging.judge(config_for(tmp_path / "judged", model, judge__max_tokens=12), browses)
    assert manifest.metrics == {"relevant": 0, "irrelevant": 0, "failed": 3, "unjudged": 1, "rejected_by_reason": {}}
    errors = [b.judge_error for b in artifacts.read_rows(manifest.uri, Browse, "browses") if b.judge_status == "failed"]
    assert all("ran out of tokens before its verdict" in str(error) for error in errors)
