"""The plan of a run says what the run then does, and memory follows ZeRO's arithmetic."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lrat_ray.cli import app
from lrat_ray.config import Config, Train
from lrat_ray.training import loop
from lrat_ray.training.plan import Work, estimate_memory, training_flops
from lrat_ray.training.shape import ModelShape

SHAPE = ModelShape(
    architecture="Qwen3Model",
    parameters=600,
    trainable_parameters=500,
    parameters_per_token=450,
    layers=4,
    hidden_size=8,
    bytes_per_parameter=2,
    pooling="lasttoken",
)
WORK = Work(
    examples=100,
    held_out=10,
    steps=7,
    queries_per_step=16,
    documents_per_step=60,
    query_tokens_per_step=320,
    document_tokens_per_step=4480,
)


def memory(tokens_per_forward: int = 100, **changes: Any) -> dict[str, float]:
    train = Train(**{"batch_size": 16, "group_size": 5, "num_workers": 4, "freeze_layers": 0, "precision": "fp32", **changes})
    estimate = estimate_memory(SHAPE, train, WORK, tokens_per_forward)
    return {**dataclasses.asdict(estimate), "total": estimate.total}


def test_fp32_without_zero_keeps_everything_on_each_worker() -> None:
    found = memory()
    assert (found["weights"], found["gradients"], found["optimizer"]) == (600 * 4, 500 * 4, 500 * 8)
    assert found["activations"] == 1200 * 34 * 8 * 2 * 4  # a quarter of the tokens, in 32-bit, of 4 layers
    assert found["scores"] == 3 * 4 * 4 * 80


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(1, 2400, 2000, 1000), (2, 2400, 500, 1000), (3, 600, 500, 1000)],
)
def test_zero_divides_by_the_workers(stage: int, weights: int, gradients: int, optimizer: int) -> None:
    found = memory(zero_stage=stage)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (weights, gradients, optimizer)


def test_bf16_weights_have_fp32_masters_that_deepspeed_cuts_up() -> None:
    found = memory(precision="bf16", bf16_parameters=True, zero_stage=1)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (1200, 2000, 500 * 12 / 4)
    assert memory(precision="bf16")["weights"] == 600 * (4 + 2)  # autocast keeps a copy


def test_what_bounds_activations() -> None:
    whole = memory()["activations"]
    assert memory(gradient_caching=True)["activations"] == whole * 100 / 1200  # one sub-batch
    assert memory(freeze_layers=3)["activations"] == whole / 4  # one layer
    assert memory(accumulation_steps=2)["activations"] == whole / 2
    assert memory(gradient_checkpointing=True)["activations"] < whole / 2


def test_offloaded_states_lie_in_main_memory() -> None:
    here, there = memory(zero_stage=3), memory(zero_stage=3, cpu_offload=True)
    assert there["offloaded"] == here["optimizer"] + here["weights"]
    assert there["total"] == here["total"] - there["offloaded"]


def test_arithmetic_counts_passes() -> None:
    train = Train(freeze_layers=0)
    forward = 2 * 450 * 4800 * 7
    assert training_flops(SHAPE, train, WORK) == pytest.approx(forward * (1 + 2 * 500 / 600))
    twice = train.model_copy(update={"gradient_caching": True})
    assert training_flops(SHAPE, twice, WORK) == pytest.approx(forward * (2 + 2 * 500 / 600))


def test_the_plan_is_what_the_run_does(tiny_config: Callable[..., Config], ray_local: None) -> None:
    config = tiny_config(train__epochs=2, train__validation_share=0.25)
    plan = loop.plan(config)
    manifest = loop.run(config)
    assert plan.work.examples == manifest.metrics["pairs"] == manifest.rows["out"]
    assert plan.work.held_out == manifest.rows["held_out"] > 0
    assert plan.work.steps == manifest.metrics["steps"]


def test_dry_run_prints_the_plan_and_writes_nothing(tiny_config: Callable[..., Config], store_uri: str, tmp_path: Path) -> None:
    train = tiny_config().train
    overrides = [f"train.pairs={train.pairs}", f"train.base_model={train.base_model}", "train.freeze_layers=1"]
    command = ["train", "--dry-run", "--corpus", store_uri, "--output", str(tmp_path / "none"), *overrides]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    for what in ("parameters:", "pairs:", "steps:", "tokens:", "memory per worker:"):
        assert what in shown.output
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert told["work"]["examples"] + told["work"]["held_out"] == 16
    assert not (tmp_path / "none").exists()
