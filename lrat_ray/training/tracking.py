"""Trackers: where the curves of a run go while it runs, besides progress lines and the manifest."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from lrat_ray import artifacts
from lrat_ray.config import ConfigError


class Tracker(Protocol):
    """What `train.trackers` names: a class that is built on the first worker with the run's output URI and settings."""

    def __init__(self, output: str, settings: dict[str, Any]) -> None:
        """output: URI of the encoder artifact; settings: section `train` as resolved. Called again when a run is resumed."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Note values after optimizer step `step` (0: before the first); after a resume, steps may come twice."""

    def close(self) -> None:
        """The run ended."""


class TensorBoard:
    """Writes `<output>/tensorboard`, for `tensorboard --logdir <output>`."""

    def __init__(self, output: str, settings: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(artifacts.join(output, "tensorboard"))

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def find_tracker(name: str) -> type[Tracker]:
    """The class that `train.trackers` names: tensorboard, or `module:Class`. Raises ConfigError if it cannot be imported."""
    if name == "tensorboard":
        try:
            importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ConfigError("train.trackers: tensorboard is not installed; pip install tensorboard") from error
        return TensorBoard
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"train.trackers: {name} cannot be imported ({error}); write tensorboard, or module:Class of a class with log and "
            "close (docs/training.md)"
        ) from error
    return found


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, names: Sequence[str], output: str, settings: dict[str, Any]) -> None:
        self._trackers = [find_tracker(name)(output, settings) for name in names]

    def log(self, step: int, values: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, values)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()
