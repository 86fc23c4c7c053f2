"""Say how far long work is, every few seconds, on the logger that the command line shows."""

from __future__ import annotations

import logging
import time

_EVERY_S = 5.0
_log = logging.getLogger(__name__)


class Progress:
    """Counts towards `total` (of `unit`) and logs rate and time left; the first line comes after a few seconds of work."""

    def __init__(self, work: str, total: int, unit: str):
        self._work, self._total, self._unit = work, total, unit
        self._began = self._said = time.monotonic()

    def update(self, done: int) -> None:
        """Note that `done` units are finished by now."""
        now = time.monotonic()
        if now - self._said < _EVERY_S:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {(self._total - done) / rate:.0f} s left" if rate else ""
        _log.info("%s: %d of %d %s, %.1f/s%s", self._work, done, self._total, self._unit, rate, left)
