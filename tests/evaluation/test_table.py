"""The console table."""

from __future__ import annotations

import io

from rich.console import Console

from lrat_ray.evaluation.compare import summarize
from lrat_ray.evaluation.table import comparison_table
from tests.evaluation.made import outcome


def test_every_arm_has_its_numbers_and_its_interval_below_them() -> None:
    rows = [
        outcome(arm, f"q{i}", success=arm == "lrat", training_seed=seed, steps=5 + i) for i in (1, 2) for arm, seed in _ARMS
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(summarize(rows, samples=50, seed=0)))
    lines = [line.split("│")[1:-1] for line in console.file.getvalue().splitlines() if "│" in line]  # type: ignore[attr-defined]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["base", "0.0%", "100.0%", "6.50"],
        ["LRAT", "100.0%", "100.0%", "6.50"],
        ["", "+100.0 [+100.0, +100.0]", "+0.0 [+0.0, +0.0]", "+0.00 [+0.00, +0.00]"],
    ]


_ARMS = (("base", None), ("lrat", 1), ("lrat", 2))
