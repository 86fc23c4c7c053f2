"""Trackers that do to a worker what happens to workers: each strikes once, after step 7, and leaves a file that says so."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import torch


class _Once:
    step = 7

    def __init__(self, output: str, settings: dict[str, Any]) -> None:
        self._path = f"{output}-tracked.json"

    def log(self, step: int, values: dict[str, float]) -> None:
        if step == self.step and not os.path.exists(self._path):
            with open(self._path, "w", encoding="utf-8") as file:
                json.dump({"step": step, **values}, file)
            self.strike()

    def strike(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class KillNine(_Once):
    """kill -9 of the worker."""

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Raise(_Once):
    def strike(self) -> None:
        raise RuntimeError("the tracker's server is gone")


class OutOfMemory(_Once):
    def strike(self) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
