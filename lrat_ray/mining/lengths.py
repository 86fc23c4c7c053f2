"""How long the agent thought about a document: the reasoning length l of LRAT eq. 3, in tokens of the encoder to be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lrat_ray.mining.transitions import share
from lrat_ray.schema import Browse

TokenCounter = Callable[[Sequence[str]], list[int]]
"""Texts -> the tokens of each."""


def measured(browses: Sequence[Browse], count: TokenCounter) -> list[Browse]:
    """The browses with their reasoning length; what several have in common is counted once and shared out.

    A browse without text keeps the length that the log gives, if any.
    """
    texts = list(dict.fromkeys([browse.reasoning for browse in browses if browse.reasoning.strip()]))
    tokens = dict(zip(texts, count(texts), strict=True))
    out = []
    for browse in browses:
        length = tokens.get(browse.reasoning)
        out.append(browse if length is None else replace(browse, reasoning_tokens=share(length, browse.shared_by)))
    return out
