"""Trackers: TensorBoard writes what a run measured, and a name that cannot be imported is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrat_ray.config import ConfigError
from lrat_ray.training.tracking import Trackers, find_tracker
from tests.training import trackers


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked = Trackers(["tensorboard"], str(tmp_path), {})
    for step in (1, 2):
        tracked.log(step, {"loss": 1 / step})
    tracked.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]


def test_a_class_of_the_users_own() -> None:
    assert find_tracker("tests.training.trackers:KillNine") is trackers.KillNine


@pytest.mark.parametrize("name", ["no_such_module:Tracker", "tests.training.trackers:NoSuch", "nothing", ""])
def test_a_tracker_that_cannot_be_imported(name: str) -> None:
    with pytest.raises(ConfigError, match=f"train.trackers: {name} cannot be imported .* write tensorboard, or module:Class"):
        find_tracker(name)
