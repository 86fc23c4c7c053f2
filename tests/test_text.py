from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.text import without_lone_surrogates


@pytest.mark.parametrize(
    ("data", "clean"),
    [
        ("plain", "plain"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"k\udc00": ["\ud800", 1, None, 0.5]}, {"k\ufffd": ["\ufffd", 1, None, 0.5]}),
    ],
)
def test_half_characters_are_replaced_and_split_ones_joined(data: Any, clean: Any) -> None:
    assert without_lone_surrogates(data) == clean
