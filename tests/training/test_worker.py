"""How far a run is, what becomes of its checkpoints with other workers, and the progress lines."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

from lrat_ray.config import Train
from lrat_ray.training import worker
from lrat_ray.training.worker import Progress, TrainingError


def progress(*scores: float) -> Progress:
    return Progress(validations=[{"step": i, "ndcg@10": score} for i, score in enumerate(scores)])


def test_the_best_validation_is_the_first_of_equals() -> None:
    assert progress(0.2, 0.5, 0.5, 0.4).best()["step"] == 1


@pytest.mark.parametrize(
    ("scores", "patience", "is_out"),
    [((0.2, 0.5, 0.4), 1, True), ((0.2, 0.5, 0.4), 2, False), ((0.2, 0.5), 1, False), ((0.5, 0.2, 0.3, 0.1), None, False)],
)
def test_patience(scores: tuple[float, ...], patience: int | None, is_out: bool) -> None:
    assert progress(*scores).is_out_of_patience(patience) == is_out


@pytest.mark.parametrize(
    ("train", "workers", "fits"),
    [({}, 2, True), ({}, 4, True), ({"zero_stage": 1}, 2, True), ({"zero_stage": 1, "resume": "weights"}, 4, False)],
)
def test_checkpoints_of_two_workers(train: dict[str, Any], workers: int, fits: bool) -> None:
    assert worker._fits({"workers": 2}, Train(**train), workers) == fits


@pytest.mark.parametrize("train", [{"zero_stage": 3}, {"zero_stage": 1, "bf16_parameters": True}])
def test_states_that_do_not_fit_leave_a_choice(train: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="train.num_workers=2, .* train.resume=weights, or start over with --force"):
        worker._fits({"workers": 2}, Train(**train), 4)


def test_the_meter_estimates_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    clock = itertools.count(100.0, 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = worker._Meter(lines.append, steps=12, done=0, examples=16)
    speeds = [meter.tick(0.5) for _ in range(12)]
    assert np.allclose(speeds, 8)
    assert lines == [
        "step 10/12, loss 0.5000, 8.0 examples/s, 4 s left",
        "step 12/12, loss 0.5000, 8.0 examples/s, 0 s left",
    ]
