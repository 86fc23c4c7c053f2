"""The training loop on real Ray Train and DeepSpeed: exactness over workers, resume, and what bad input says."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from lrat_ray import artifacts
from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config, ConfigError
from lrat_ray.training import loop
from lrat_ray.training.examples import TrainingDataError
from tests.training.conftest import pair, write_pairs


def weights(manifest: Manifest) -> dict[str, torch.Tensor]:
    return load_file(os.path.join(manifest.uri, "encoder", "model.safetensors"))


def losses(manifest: Manifest) -> list[float]:
    return [point["loss"] for point in manifest.metrics["curve"]]


KEY_BIAS = "attention.self.key.bias"
"""Adding one vector to all keys changes no attention weight, so this gradient is zero but for rounding. Adam divides it by its
own size, which makes the rounding of each run a step of full length: the one parameter in which two exact runs differ."""


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


# --- the gradient of one worker, from two DeepSpeed processes -----------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _gradients(rank: int, workers: int, port: int, config: Config, table: str, result: str) -> None:
    """Gradients of one batch as this process's DeepSpeed engine has them after averaging; rank 0 saves them."""
    import torch.distributed as dist

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers)
    )
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    training_table = loop.TrainingTable(table)
    engine = loop.build_engine(loop._load(config.train), config.train, workers=workers)
    part = loop.shard(loop._batch(training_table, config.train, 0), rank, workers)
    engine.backward(loop.batch_loss(engine, part, temperature=config.train.temperature))
    if rank == 0:
        torch.save({name: p.grad for name, p in engine.module.named_parameters() if p.requires_grad}, result)
    dist.barrier()
    dist.destroy_process_group()


def test_two_workers_give_the_gradient_of_one(tiny_config: Callable[..., Config], tmp_path: Path, store_uri: str) -> None:
    config = tiny_config(train__group_size=5)
    work = artifacts.begin(str(tmp_path / "work"), kind="encoder", config={}, inputs={})
    loop._write_table(work, config.train, config.require("train.pairs", ""), store_uri)
    table = artifacts.join(work.uri, "training-table")
    gradients = []
    for workers in (1, 2):
        result = str(tmp_path / f"gradients-{workers}.pt")
        torch.multiprocessing.spawn(_gradients, (workers, _free_port(), config, table, result), nprocs=workers)
        gradients.append(torch.load(result))
    alone, together = gradients
    assert max(float(g.abs().max()) for g in alone.values()) > 1e-2
    for name, gradient in alone.items():
        if name.endswith(KEY_BIAS):
            assert float(gradient.abs().max()) < 1e-6
        torch.testing.assert_close(together[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


# --- whole runs ---------------------------------------------------------------------------------------------------------------


def test_two_workers_train_the_encoder_of_one(
    tiny_config: Callable[..., Config], tmp_path: Path, tiny_encoder: str, ray_local: None, capfd: pytest.CaptureFixture[str]
) -> None:
    one = loop.run(tiny_config(train__epochs=2))
    assert "train: step 8/8, loss" in capfd.readouterr().err
    two = loop.run(tiny_config(output=str(tmp_path / "two"), train__epochs=2, train__num_workers=2, train__zero_stage=1))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    trained, likewise = ({n: w for n, w in weights(m).items() if not n.endswith(KEY_BIAS)} for m in (one, two))
    assert largest_difference(trained, likewise) < 1e-5
    assert largest_difference(weights(one), load_file(os.path.join(tiny_encoder, "model.safetensors"))) > 1e-3

    assert one.kind == "encoder" and one.rows == {
        "in": 16,
        "out": 16,
        "rejected": 0,
        "irrelevant": 0,
        "weightless": 0,
        "not_sampled": 0,
    }
    assert (one.metrics["pairs"], one.metrics["steps"], one.metrics["mean_weight"]) == (16, 8, pytest.approx(1))
    assert set(one.metrics["curve"][0]) == {"step", "loss", "learning_rate", "examples_per_s"}
    assert [point["step"] for point in one.metrics["curve"]] == list(range(1, 9))
    assert sorted(os.listdir(one.uri)) == ["encoder", "manifest.json"]
    assert all(os.path.exists(uri) for uri in one.part_uris())
    assert SentenceTransformer(os.path.join(one.uri, "encoder"), device="cpu").encode("castle").shape == (32,)
    assert loop.run(tiny_config(train__epochs=2)) == one  # finished work returns at once


_INTERRUPTED = """
import sys
from lrat_ray.config import Config
from lrat_ray.training import loop
loop.run(Config.model_validate_json(sys.argv[1]))
"""


@pytest.mark.slow
def test_ctrl_c_then_the_same_command_gives_the_same_encoder(
    tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Dropout on, so that its random numbers have to continue too; stopped once the first of many checkpoints is recorded."""
    changes: dict[str, Any] = {"train__epochs": 20, "train__checkpoint_every_steps": 5, "train__dropout": 0.1}
    config = tiny_config(output=str(tmp_path / "resumed"), **changes)
    command = [sys.executable, "-c", _INTERRUPTED, config.model_dump_json()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "RAY_ADDRESS": ""})
    # A checkpoint's folder is there before Ray Train has recorded it; only a recorded one is resumed from.
    recorded = tmp_path / "resumed" / "checkpoints" / "checkpoint_manager_snapshot.json"
    deadline = time.monotonic() + 90
    while not recorded.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert not (tmp_path / "resumed" / "manifest.json").exists()

    resumed = loop.run(config)
    continued = re.search(r"train: continues after step (\d+) of 80", capfd.readouterr().err)
    assert continued and int(continued[1]) % 5 == 0 and 0 < int(continued[1]) < 80
    whole = loop.run(tiny_config(output=str(tmp_path / "whole"), **changes))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)
    assert largest_difference(weights(resumed), weights(whole)) < 1e-6
    assert [point["step"] for point in resumed.metrics["curve"]] == list(range(1, 81))
    assert np.mean(losses(whole)[-4:]) < np.mean(losses(whole)[:4])  # an epoch has 4 steps
    assert not (tmp_path / "resumed" / "checkpoints").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config: Callable[..., Config], ray_local: None) -> None:
    with pytest.raises(loop.TrainingError, match=r"worker 0: .*the loss of step \d+ of 4 is nan; lower train.learning_rate"):
        loop.run(tiny_config(train__learning_rate=1e30))


# --- bad input, found before any worker starts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__seeds": (1, 2)}, r"train.seeds=\[1, 2\]: a run trains one encoder"),
        ({"train__num_workers": 3}, "train.batch_size=4 is not divisible by train.num_workers=3"),
        ({"train__freeze_layers": 9}, "train.freeze_layers=9, but .* has 3 transformer layers"),
        ({"train__pairs": None}, "train.pairs is not set"),
        ({"corpus": None}, "corpus is not set"),
        ({"train__base_model": "./no-such-model"}, "this folder does not exist"),
    ],
)
def test_options_that_cannot_work(tiny_config: Callable[..., Config], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loop.run(tiny_config(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_docid": "gone"}, "pair 'p0': positive docid 'gone' is not in the corpus"),
        ({"weight": -1.0}, "pair 'p0' .* weight -1.0 is no finite number"),
        ({"relevant": False, "weight": 0.0}, "none of the 1 pairs can train"),
    ],
)
def test_pairs_that_cannot_train(
    tiny_config: Callable[..., Config], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pairs = write_pairs(tmp_path / "bad-pairs", [pair(0, **changes)])
    with pytest.raises(TrainingDataError, match=message):
        loop.run(tiny_config(train__pairs=pairs))


def test_the_meter_estimates_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    class Lines:
        put = staticmethod(lines.append)

    clock = itertools.count(100.0, 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = loop._Meter(Lines(), steps=12, done=0, batch_size=16)  # type: ignore[arg-type]
    speeds = [meter.tick(0.5) for _ in range(12)]
    assert np.allclose(speeds, 8)
    assert lines == [
        "  train: step 10/12, loss 0.5000, 8.0 examples/s, 4 s left",
        "  train: step 12/12, loss 0.5000, 8.0 examples/s, 0 s left",
    ]
