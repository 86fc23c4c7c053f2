"""The table that a command ends with: every arm, and its paired differences from base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from lrat_ray.evaluation.compare import BASE, POOLED
from lrat_ray.evaluation.wording import arm_row, difference_row, interval, signed, title, value

_COLUMNS = {"success_rate": "success", "evidence_recall": "evidence recall", "avg_steps": "steps"}


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Success, evidence recall and steps per arm, pooled over agents, sources and training seeds, for a rich console.

    Under each value stands the difference from base with its paired 95% interval (points for shares).
    """
    questions = max((row["questions"] for row in summary["arms"] if row["agent"] == row["source"] == POOLED), default=0)
    table = Table(title=f"{questions} questions; difference from base and paired 95% interval below each value")
    table.add_column("arm")
    for name in _COLUMNS.values():
        table.add_column(name, justify="right")
    for arm in dict.fromkeys(row["name"] for row in summary["arms"]):
        row = arm_row(summary, arm)
        if row is not None:
            table.add_row(title(arm), *(_cell(summary, arm, metric, row[metric]) for metric in _COLUMNS))
    return table


def _cell(summary: Mapping[str, Any], arm: str, metric: str, number: float | None) -> Text:
    cell = Text(value(metric, number))
    if gap := difference_row(summary, arm, BASE, metric):
        cell.append(f"\n{signed(metric, gap['mean'])} {interval(metric, gap['ci95'])}", style="dim")
    return cell
