"""The analysis as one self-contained HTML page: verdicts, then Table 1 and Figures 4 and 6, each with its numbers as text.

Places in charts are per cent of their box; the template draws them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lrat_ray import __version__, pages
from lrat_ray.mining.analysis import POOLED
from lrat_ray.mining.assumptions import VERDICTS
from lrat_ray.mining.observations import NEXT

SHOWN_RANKS = 20
"""Ranks that are drawn; analysis.json has them all."""

Row = Mapping[str, Any]

_NEXT_NAMES = {"search": "search", "browse": "browse", "answer": "answer", "other": "other tool", "end": "end without answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a chart from 0 to 1: its end, its interval, and a mark to compare it with."""

    label: str
    value: str
    note: str
    width: float
    whisker: tuple[float, float] | None = None
    mark: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of a stacked bar."""

    name: str
    kind: str
    start: float
    width: float
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A bar of shares that add up to 1."""

    label: str
    number: int
    pieces: list[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Quantiles of a reasoning length on a logarithmic scale that all boxes of a figure share; ends are the 5% and 95% ones."""

    label: str
    browses: int
    numbers: dict[str, str]
    at: dict[str, float] = field(default_factory=dict)


def render_page(analysis: Mapping[str, Any]) -> str:
    """The page as HTML, without scripts or requests to anywhere. analysis: what analysis.json holds."""
    ranks = [row for row in _pooled(analysis["browse_ranks"]) if row["rank"] <= SHOWN_RANKS]
    lengths = _pooled(analysis["reasoning_lengths"])
    judged_lengths = [row for row in analysis["judged_lengths"] if row["agent"] == POOLED]
    scale = _scale([max(row["share"], row["even_share"]) for row in ranks])
    return (
        pages.environment("lrat_ray.mining")
        .get_template("analysis.html.j2")
        .render(
            version=__version__,
            headline=headline(analysis["assumptions"]),
            trajectories=sum(row["trajectories"] for row in _pooled(analysis["table_1"])),
            agents=len({row["agent"] for row in analysis["table_1"] if row["agent"] != POOLED}),
            assumptions=analysis["assumptions"],
            here={row["name"]: row["finding"] for row in analysis["assumptions"]},
            table_1=_table_1(analysis["table_1"]),
            transitions=[_stack(row) for row in _pooled(analysis["transitions"])],
            next_names={kind: _NEXT_NAMES[kind] for kind in NEXT},
            by_evidence=[_success_bar(row, "evidence") for row in _pooled(analysis["success_by_evidence"])],
            by_browses=[_success_bar(row, "browses") for row in _pooled(analysis["success_by_browses"])],
            ranks=[_rank_bar(row, scale) for row in ranks],
            later_browses=sum(r["browses"] for r in _pooled(analysis["browse_ranks"]) if r["rank"] > SHOWN_RANKS),
            evidence_ranks=[_open_bar(row) for row in _pooled(analysis["evidence_ranks"]) if row["rank"] <= SHOWN_RANKS],
            shown_by=next(iter(_pooled(analysis["shown_by"])), None),
            unbrowsed=next(iter(_pooled(analysis["unbrowsed"])), None),
            figure_6=[
                (title, _boxes(rows, *names), _length_range(rows))
                for title, rows, names in (
                    ("By outcome and document", lengths, ("outcome", "document")),
                    ("By the relevance judge’s verdict", judged_lengths, ("judged",)),
                )
                if rows
            ],
            protocol=analysis["protocol"],
        )
    )


def headline(assumptions: Sequence[Row]) -> str:
    """How many assumptions hold, do not, or cannot be measured, in a sentence without its full stop.

    >>> headline([{"verdict": "holds"}, {"verdict": "does not hold"}, {"verdict": "holds"}])
    'Of 3 assumptions 2 hold here, 1 does not'
    >>> headline([{"verdict": "not measurable here"}])
    'Of 1 assumption none holds here, 1 cannot be measured'
    """
    hold, fail, open_ = (sum(row["verdict"] == verdict for row in assumptions) for verdict in VERDICTS)
    found = [f"{hold or 'none'} hold{'s' if hold < 2 else ''} here"]
    found += [f"{fail} do{'es' if fail == 1 else ''} not"] if fail else []
    found += [f"{open_} cannot be measured"] if open_ else []
    return f"Of {len(assumptions)} assumption{'s' if len(assumptions) != 1 else ''} {', '.join(found)}"


def _pooled(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["agent"] == row["release_id"] == POOLED]


def _table_1(rows: Sequence[Row]) -> list[Row]:
    """Every group, then all of them together where there are several."""
    groups = [row for row in rows if row["agent"] != POOLED]
    several = len({(row["agent"], row["release_id"]) for row in groups}) > 1
    return [*groups, *(_pooled(rows) if several else [])]


def _stack(row: Row) -> Stack:
    pieces: list[Piece] = []
    start = 0.0
    for kind in NEXT:
        width = 100 * row[kind]
        if row[kind]:
            share = f"{row[kind]:.0%}"
            pieces.append(Piece(name=_NEXT_NAMES[kind], kind=kind, start=round(start, 2), width=round(width, 2), value=share))
        start += width
    return Stack(label=f"{row['outcome']}, after a {row['after']}", number=row["number"], pieces=pieces)


def _success_bar(row: Row, what: str) -> Bar:
    return _rate_bar(f"{row[what]}{'+' if row['or_more'] else ''}", row["success_rate"], row["ci95"], row["trajectories"])


def _open_bar(row: Row) -> Bar:
    return _rate_bar(f"rank {row['rank']}", row["open_rate"], row["ci95"], row["shown"])


def _rate_bar(label: str, rate: float, ci95: Sequence[float], number: int) -> Bar:
    low, high = ci95
    return Bar(
        label=label,
        value=f"{rate:.0%}",
        note=f"[{low:.0%}, {high:.0%}] of {number:,}",
        width=_place(rate, 1.0),
        whisker=(_place(low, 1.0), _place(high, 1.0)),
    )


def _rank_bar(row: Row, scale: float) -> Bar:
    return Bar(
        label=f"rank {row['rank']}",
        value=f"{row['share']:.0%}",
        note=f"{row['browses']:,} browses, even {row['even_share']:.0%}",
        width=_place(row["share"], scale),
        mark=_place(row["even_share"], scale),
    )


def _boxes(rows: Sequence[Row], *names: str) -> list[Box]:
    """Rows of reasoning lengths as boxes, from the shortest 5% quantile to the longest 95% one."""
    low, high = _length_range(rows)
    span = math.log1p(high) - math.log1p(low)
    quantiles = ("q05", "q25", "median", "q75", "q95")
    return [
        Box(
            label=", ".join(str(row[name]) for name in names),
            browses=row["browses"],
            numbers={name: f"{row[f'{name}_tokens']:.0f}" for name in (*quantiles, "mean")},
            at={name: _place(math.log1p(row[f"{name}_tokens"]) - math.log1p(low), span) for name in quantiles},
        )
        for row in rows
    ]


def _length_range(rows: Sequence[Row]) -> tuple[float, float]:
    """Both ends of the scale of reasoning lengths, in tokens."""
    return min([row["q05_tokens"] for row in rows], default=0.0), max([row["q95_tokens"] for row in rows], default=1.0)


def _scale(shares: Sequence[float]) -> float:
    """The end of a chart of shares: the next tenth, at most 1."""
    return min(1.0, math.ceil(10 * max(shares, default=1.0) + 1e-9) / 10)


def _place(number: float, scale: float) -> float:
    return round(100 * min(1.0, max(0.0, number / scale)), 2) if scale else 0.0
