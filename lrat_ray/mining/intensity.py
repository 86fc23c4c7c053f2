"""Relevance intensity: how much a positive weighs, from how long the agent thought about it (LRAT eq. 3).

    w = (1 - exp(-ln2 * l / beta)) / mu_raw

l: reasoning length in tokens; beta: median of l; mu_raw: mean of the numerator; so that mean(w) = 1 over the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Eq. 3 with the constants of a data set: beta in tokens, one for each group of pairs, and mu_raw, without unit."""

    betas: Mapping[str, float]
    mu_raw: float

    @classmethod
    def fit(cls, lengths: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Intensity:
        """The constants for the reasoning lengths [N] (tokens) of the pairs that are trained on, relevant ones only.

        groups: the group [N] that each pair belongs to (its agent, say); None makes one group, named "". Raises ValueError for
        a negative length.
        """
        tokens = np.asarray(lengths, dtype=np.float64)
        names = _groups(groups, tokens)
        if tokens.size == 0:
            return cls(betas={}, mu_raw=0.0)
        if tokens.min() < 0:
            raise ValueError(f"a reasoning length is a number of tokens, but {tokens.min():g} is negative")
        betas = {str(name): float(np.median(tokens[names == name])) for name in np.unique(names)}
        return cls(betas=betas, mu_raw=float(_raw(tokens, names, betas).mean()))

    def weights(self, lengths: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """The weights w [N] of reasoning lengths [N]; all 1 where no agent of the data set thought anything.

        A group that the data set does not have weighs 0: none of its pairs is trained on.
        """
        tokens = np.asarray(lengths, dtype=np.float64)
        return _raw(tokens, _groups(groups, tokens), self.betas) / self.mu_raw if self.mu_raw else np.ones_like(tokens)


def _groups(groups: npt.ArrayLike | None, tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    return np.full(tokens.shape, "") if groups is None else np.asarray(groups, dtype=np.str_)


def _raw(tokens: npt.NDArray[np.float64], groups: npt.NDArray[np.str_], betas: Mapping[str, float]) -> npt.NDArray[np.float64]:
    raw = np.zeros_like(tokens)
    for name, beta in betas.items():
        of_group = groups == name
        lengths = tokens[of_group]
        # Where more than half of the lengths are 0, the limit of eq. 3 for beta -> 0.
        raw[of_group] = -np.expm1(-np.log(2) * lengths / beta) if beta else lengths > 0
    return raw
