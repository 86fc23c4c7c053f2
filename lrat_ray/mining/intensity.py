"""Relevance intensity: how much a positive weighs, from how long the agent thought about it (LRAT eq. 3).

    w = (1 - exp(-ln2 * l / beta)) / mu_raw

l: reasoning length in tokens; beta: median of l; mu_raw: mean of the numerator; so that mean(w) = 1 over the data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Eq. 3 with the two constants of a data set: beta in tokens, mu_raw without unit."""

    beta: float
    mu_raw: float

    @classmethod
    def fit(cls, lengths: npt.ArrayLike) -> Intensity:
        """The constants for the reasoning lengths [N] (tokens) of the pairs that are trained on, relevant ones only.

        Raises ValueError for a negative length.
        """
        tokens = np.asarray(lengths, dtype=np.float64)
        if tokens.size == 0:
            return cls(beta=0.0, mu_raw=0.0)
        if tokens.min() < 0:
            raise ValueError(f"a reasoning length is a number of tokens, but {tokens.min():g} is negative")
        beta = float(np.median(tokens))
        return cls(beta=beta, mu_raw=float(_raw(tokens, beta).mean()))

    def weights(self, lengths: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The weights w [N] of reasoning lengths [N]; all 1 where no agent of the data set thought anything."""
        tokens = np.asarray(lengths, dtype=np.float64)
        return _raw(tokens, self.beta) / self.mu_raw if self.mu_raw else np.ones_like(tokens)


def _raw(tokens: npt.NDArray[np.float64], beta: float) -> npt.NDArray[np.float64]:
    if beta == 0:  # more than half of the lengths are 0: the limit of eq. 3 for beta -> 0
        return (tokens > 0).astype(np.float64)
    raw: npt.NDArray[np.float64] = -np.expm1(-np.log(2) * tokens / beta)
    return raw
