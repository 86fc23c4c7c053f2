"""The learning rate: linear warm-up, then linear decay to zero."""

from __future__ import annotations


def learning_rate(step: int, *, steps: int, peak: float, warmup_ratio: float) -> float:
    """Rate of optimizer step `step` (from 0) out of `steps`.

    It rises over the first `warmup_ratio * steps` steps (rounded up), of which the first already moves, and would reach zero
    one step after the last.

    >>> [learning_rate(step, steps=5, peak=4.0, warmup_ratio=0.2) for step in range(5)]
    [4.0, 4.0, 3.0, 2.0, 1.0]
    """
    warmup = -int(-warmup_ratio * steps // 1)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (steps - step) / (steps - warmup)
