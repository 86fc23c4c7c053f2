"""Peak memory of this process and everything it started, sampled while a block runs."""

from __future__ import annotations

import os
import threading
from types import TracebackType

import psutil

_INTERVAL_S = 2.0
_MB = 1024 * 1024


class PeakMemory:
    """Context manager; `.peak_mb` holds the highest sums seen, in MiB.

    pss: proportional set size over this process and its descendants (shared pages are counted once). shared_memory: what Ray's
    object store and other users hold in /dev/shm beyond what was there at the start. total: the highest sum of the two, an
    upper bound, since object-store pages that a process maps stand in both.
    """

    def __init__(self) -> None:
        self.peak_mb: dict[str, float] = {"pss": 0.0, "shared_memory": 0.0, "total": 0.0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._shared_at_start = _shared_memory_mb()

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            pss = _family_pss_mb()
            shared = max(0.0, _shared_memory_mb() - self._shared_at_start)
            for name, value in {"pss": pss, "shared_memory": shared, "total": pss + shared}.items():
                self.peak_mb[name] = max(self.peak_mb[name], round(value, 1))


def _family_pss_mb() -> float:
    process = psutil.Process()
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
            continue  # it ended while being read, or this system (macOS) does not tell the proportional size
    return total / _MB


def _shared_memory_mb() -> float:
    if not os.path.isdir("/dev/shm"):
        return 0.0
    stat = os.statvfs("/dev/shm")
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize / _MB
