"""The learning rate: linear warm-up, then a decay to zero or none."""

from __future__ import annotations

import math
from typing import Literal

Decay = Literal["linear", "cosine", "none"]


def learning_rate(step: int, *, steps: int, peak: float, warmup_ratio: float, decay: Decay) -> float:
    """Rate of optimizer step `step` (from 0) out of `steps`.

    It rises over the first `warmup_ratio * steps` steps (rounded up), of which the first already moves. From the peak it falls
    on a line or on half a cosine, which would reach zero one step after the last, or stays.

    >>> [learning_rate(step, steps=5, peak=4.0, warmup_ratio=0.2, decay="linear") for step in range(5)]
    [4.0, 4.0, 3.0, 2.0, 1.0]
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    match decay:
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case "none":
            return peak
