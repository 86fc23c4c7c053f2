"""The training loop on real Ray Train and DeepSpeed: exactness over workers, resume, and what bad input says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config, ConfigError
from lrat_ray.documents import DocumentStore
from lrat_ray.training import loop, prepare
from lrat_ray.training.examples import TrainingDataError
from lrat_ray.training.tokens import TrainingTable
from lrat_ray.training.validation import measure, ranking_metrics, validation_blocks
from tests.training import families
from tests.training.conftest import pair, write_pairs
from tests.training.test_engine import CUT_UP


def weights(manifest: Manifest) -> dict[str, torch.Tensor]:
    return load_file(os.path.join(manifest.uri, "encoder", "model.safetensors"))


def losses(manifest: Manifest) -> list[float]:
    return [point["loss"] for point in manifest.metrics["curve"]]


KEY_BIAS = "attention.self.key.bias"
"""Adding one vector to all keys changes no attention weight, so this gradient is zero but for rounding. Adam divides it by its
own size, which makes the rounding of each run a step of full length: the one parameter in which two exact runs differ."""


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


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

    assert one.kind == "encoder" and one.rows == {"in": 16, "out": 16, "rejected": 0}
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
from lrat_ray.documents import DocumentStore
from lrat_ray.training import loop, prepare
loop.run(Config.model_validate_json(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_driver_then_the_same_command_gives_the_same_encoder(
    tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Dropout on, so that its random numbers have to continue too; stopped once the first of many checkpoints is recorded."""
    changes: dict[str, Any] = {"train__epochs": 8, "train__checkpoint_every_steps": 5, "train__dropout": 0.1}
    config = tiny_config(output=str(tmp_path / "resumed"), **changes)
    command = [sys.executable, "-c", _INTERRUPTED, config.model_dump_json()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "RAY_ADDRESS": ""})
    # A checkpoint's folder is there before Ray Train has recorded it; only a recorded one is resumed from.
    recorded = tmp_path / "resumed" / "checkpoints" / "checkpoint_manager_snapshot.json"
    deadline = time.monotonic() + 90
    while not recorded.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "resumed" / "manifest.json").exists()

    resumed = loop.run(config)
    continued = re.search(r"train: continues after step (\d+) of 32", capfd.readouterr().err)
    assert continued and 0 < int(continued[1]) < 32
    whole = loop.run(tiny_config(output=str(tmp_path / "whole"), **changes))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)
    assert largest_difference(weights(resumed), weights(whole)) < 1e-6
    assert [point["step"] for point in resumed.metrics["curve"]] == list(range(1, 33))
    assert not (tmp_path / "resumed" / "checkpoints").exists()


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None) -> None:
    """kill -9 of one of two workers after step 7, in mid-epoch: the run goes on from the checkpoint of step 5 by itself."""
    changes: dict[str, Any] = {
        "train__epochs": 3,
        "train__num_workers": 2,
        "train__zero_stage": 2,
        "train__checkpoint_every_steps": 5,
        "train__dropout": 0.1,
        "train__validation_share": 0.25,
    }
    killer = {"train__trackers": ("tests.training.trackers:KillNine",)}
    killed = loop.run(tiny_config(output=str(tmp_path / "killed"), **changes, **killer))
    assert (tmp_path / "killed-tracked.json").exists()
    whole = loop.run(tiny_config(output=str(tmp_path / "whole"), **changes))
    assert losses(killed) == pytest.approx(losses(whole), abs=1e-6)
    for ours, theirs in zip(killed.metrics["validations"], whole.metrics["validations"], strict=True):
        assert ours == pytest.approx(theirs)
    assert largest_difference(weights(killed), weights(whole)) < 1e-6


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_workers_as_it_is_told(
    tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None
) -> None:
    """Two workers, ZeRO 1, end after step 7; one worker cannot take up their optimizer states of step 5."""
    changes: dict[str, Any] = {"train__epochs": 3, "train__checkpoint_every_steps": 5, "train__zero_stage": 1}
    fails = {"train__trackers": ("tests.training.trackers:Raise",), "train__max_failures": 0, "train__num_workers": 2}
    with pytest.raises(loop.TrainingError, match="worker 0: .*the tracker's server is gone.* continues at the last checkpoint"):
        loop.run(tiny_config(**changes, **fails))
    with pytest.raises(loop.TrainingError, match="was written by 2 workers .* train.num_workers=2, or .* train.resume=weights"):
        loop.run(tiny_config(**changes))
    resumed = loop.run(tiny_config(**changes, train__resume="weights"))
    whole = loop.run(tiny_config(output=str(tmp_path / "whole"), **changes))
    assert losses(resumed)[:6] == pytest.approx(losses(whole)[:6], abs=1e-5)  # step 6 starts from the weights of step 5
    assert len(losses(resumed)) == len(losses(whole))


def test_without_cut_up_states_any_number_of_workers_goes_on_exactly(
    tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None
) -> None:
    changes: dict[str, Any] = {"train__epochs": 2, "train__checkpoint_every_steps": 5}
    fails = {"train__trackers": ("tests.training.trackers:Raise",), "train__max_failures": 0, "train__num_workers": 2}
    with pytest.raises(loop.TrainingError, match="the tracker's server is gone"):
        loop.run(tiny_config(**changes, **fails))
    resumed = loop.run(tiny_config(**changes))
    whole = loop.run(tiny_config(output=str(tmp_path / "whole"), **changes))
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)


@pytest.mark.slow
def test_every_family_trains_on_two_workers_at_every_zero_stage(
    tiny_config: Callable[..., Config], tmp_path: Path, ray_local: None
) -> None:
    """bert and xlm-roberta without ZeRO; qwen3 at each stage, whose losses are those of stage 0, and in bf16 near them."""
    runs = {("bert", 0): {}, ("xlm-roberta", 0): {}}
    runs |= {("qwen3", stage): {"train__gradient_caching": stage == 3} for stage in (0, 1, 2, 3)}
    runs[("qwen3", "bf16")] = {"train__precision": "bf16", "train__bf16_parameters": True, "train__zero_stage": 2}
    curves = {}
    for (family, stage), changes in runs.items():
        name = f"{family}-{stage}"
        base = families.build(family, tmp_path / family)
        zero = {"train__zero_stage": stage, "train__deepspeed": CUT_UP} if isinstance(stage, int) else {}
        settings: dict[str, Any] = {"train__base_model": base, "train__num_workers": 2, "train__epochs": 2, **zero, **changes}
        manifest = loop.run(tiny_config(output=str(tmp_path / name), **settings))
        curves[name] = losses(manifest)
        trained = SentenceTransformer(os.path.join(manifest.uri, "encoder"), device="cpu")
        assert trained.encode_query("castle").shape == (32,)
        assert np.mean(curves[name][-4:]) < np.mean(curves[name][:4]), name
    for stage in (1, 2, 3):
        assert curves[f"qwen3-{stage}"] == pytest.approx(curves["qwen3-0"], abs=1e-4)
    assert curves["qwen3-bf16"] == pytest.approx(curves["qwen3-0"], rel=0.05)


# --- held-out questions -------------------------------------------------------------------------------------------------------


def held_out_metrics(encoder: str, table: TrainingTable) -> dict[str, float]:
    """What sentence-transformers' vectors of the encoder score on a table's held-out pairs (whose token ids become texts)."""
    model = SentenceTransformer(encoder, device="cpu")

    def embed(sequences: list[np.ndarray], cuts: list[slice]) -> np.ndarray:
        texts = model.tokenizer.batch_decode([ids.tolist() for ids in sequences], skip_special_tokens=True)
        return model.encode(texts, prompt="")  # the ids hold the prompt

    return ranking_metrics(measure(embed, validation_blocks(table, 0, 1, 10_000)))


def test_held_out_questions_are_measured_and_the_best_weights_kept(
    tiny_config: Callable[..., Config], tmp_path: Path, tiny_encoder: str, store_uri: str, ray_local: None
) -> None:
    """Of a run that a rate far too high spoils, the encoder is the best of what was measured, and training stops."""
    config = tiny_config(
        train__validation_share=0.5,
        train__validate_every_steps=1,
        train__learning_rate=0.02,
        train__epochs=12,
        train__export="best",
        train__early_stopping_patience=4,
    )
    prepare.write_table(str(tmp_path / "same"), config.train, DocumentStore.open(store_uri))
    table = TrainingTable(str(tmp_path / "same" / prepare.TABLE), part="validation")
    manifest = loop.run(config)
    validations = manifest.metrics["validations"]
    steps = [v["step"] for v in validations]
    best = max(validations, key=lambda v: v["ndcg@10"])
    assert steps == list(range(len(steps))) and best["step"] + 4 == steps[-1]  # stopped, long before 12 epochs
    assert manifest.metrics["exported_step"] == best["step"]
    assert held_out_metrics(tiny_encoder, table) == pytest.approx({k: v for k, v in validations[0].items() if k != "step"})
    exported = held_out_metrics(os.path.join(manifest.uri, "encoder"), table)
    assert exported == pytest.approx({name: value for name, value in best.items() if name != "step"})
    gain = manifest.metrics["held_out_gain"]["ndcg@10"]
    assert gain == pytest.approx(best["ndcg@10"] - validations[0]["ndcg@10"])
    assert manifest.rows["in"] == manifest.rows["out"] + manifest.rows["held_out"] == 16


# --- runs that end early ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config: Callable[..., Config], ray_local: None) -> None:
    with pytest.raises(
        loop.TrainingError,
        match=r"the loss of step \d+ of 4 is nan, the norm of its gradient .*: lower train.learning_rate, and start over",
    ):
        loop.run(tiny_config(train__learning_rate=1e30))


def test_too_little_memory_is_not_tried_again(tiny_config: Callable[..., Config], ray_local: None) -> None:
    config = tiny_config(train__epochs=2, train__trackers=("tests.training.trackers:OutOfMemory",))
    with pytest.raises(loop.TrainingError, match=r"worker 0 ran out of GPU memory. Set train.gradient_caching=true"):
        loop.run(config)


# --- bad input, found before any worker starts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__seeds": (1, 2)}, r"train.seeds=\[1, 2\]: a run trains one encoder"),
        ({"train__num_workers": 3}, "train.batch_size=4 is not divisible by train.num_workers=3"),
        ({"train__num_workers": 8, "train__batch_size": 8}, "train.num_workers=8 need as many CPUs; Ray has 6 of them: lower"),
        ({"train__freeze_layers": 9}, "train.freeze_layers=9, but .* has 3 transformer layers"),
        ({"train__pairs": None}, "train.pairs is not set"),
        ({"corpus": None}, "corpus is not set"),
        ({"train__base_model": "./no-such-model"}, "this folder does not exist"),
    ],
)
def test_options_that_cannot_work(
    tiny_config: Callable[..., Config], ray_local: None, changes: dict[str, Any], message: str
) -> None:
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
