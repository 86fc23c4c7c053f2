"""The report: one self-contained HTML page that says what a comparison found, shows it, and tells how it was made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lrat_ray import __version__, pages
from lrat_ray.evaluation import charts
from lrat_ray.evaluation.compare import BASE, METRICS, POOLED
from lrat_ray.evaluation.example import Change, Example
from lrat_ray.evaluation.records import Outcome
from lrat_ray.evaluation.wording import arm_row, difference_row, headline, interval, signed, subject, title, value
from lrat_ray.metrics import evidence_recall, num_steps
from lrat_ray.schema import Trajectory

Curves: TypeAlias = Mapping[str, Sequence[Mapping[str, float]]]

METRIC_NAMES = {
    "success_rate": "Success rate",
    "evidence_recall": "Evidence recall",
    "avg_steps": "Steps",
    "avg_steps_both_solved": "Steps, both solved",
}
_SHOWN_CHARACTERS = 220


def render_report(summary: Mapping[str, Any], *, curves: Curves, change: Change | None, example: Example | None) -> str:
    """The page as HTML, without scripts or requests to anywhere.

    summary: in the shape of summary.json; "timings_s" and "peak_memory_mb" may be absent, and protocol["simulated"] lists the
    models that were simulated. curves: {encoder: [{"step", "loss"}, ...]}. change and example: the runs to show before and
    after. All text of runs is escaped: it comes from models and documents that nobody vouches for.
    """
    arm = subject(summary)
    baselines = [name for name in (BASE, "control") if difference_row(summary, arm, name, "success_rate")]
    return (
        pages.environment("lrat_ray.evaluation")
        .get_template("report.html.j2")
        .render(
            version=__version__,
            headline=headline(summary),
            arm=arm,
            title=title,
            questions=max(row["questions"] for row in summary["arms"]),
            figures=_figures(summary, arm),
            metric_names=METRIC_NAMES,
            bar_charts=[charts.bar_chart(summary, metric) for metric in ("success_rate", "evidence_recall", "avg_steps")],
            table=_table(summary),
            seeds=_training_seeds(summary),
            breakdown=_breakdown(summary, arm, baselines),
            baselines=baselines,
            curves=charts.loss_curves(curves),
            change=change,
            example=example,
            sides=_sides(change, example),
            protocol=summary["protocol"],
            timings=summary.get("timings_s", {}),
            memory=summary.get("peak_memory_mb", {}),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number of the report's table, with its difference from base where there is one."""

    value: str
    difference: str | None = None
    sign: str = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A candidate as it is shown in the report."""

    rank: int
    docid: str
    name: str
    is_evidence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing that the agent did: `text` is a thought, query, opened document's name or answer; `rest` is its remainder."""

    kind: str
    text: str
    rest: str = ""
    docid: str | None = None
    is_evidence: bool = False
    results: list[Result] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two runs of the example."""

    arm: str
    success: bool
    answer: str | None
    status: str
    steps: int
    recall: str
    moves: list[Move]


def _figures(summary: Mapping[str, Any], arm: str) -> list[tuple[str, str, str]]:
    """(metric, difference from base, interval) of the page's large numbers."""
    gaps = [difference_row(summary, arm, BASE, metric) for metric in METRICS]
    return [(g["metric"], signed(g["metric"], g["mean"]), interval(g["metric"], g["ci95"])) for g in gaps if g]


def _table(summary: Mapping[str, Any]) -> list[tuple[str, list[Cell]]]:
    """(arm, its metrics), pooled over agents, sources and training seeds."""
    rows = [(arm, arm_row(summary, arm)) for arm in charts.arm_names(summary)]
    return [(title(arm), [_cell(summary, row, metric) for metric in METRICS]) for arm, row in rows if row]


def _cell(summary: Mapping[str, Any], row: Mapping[str, Any], metric: str) -> Cell:
    (mark,) = charts.interval_marks([difference_row(summary, row["name"], BASE, metric)])
    if mark is None:
        return Cell(value=value(metric, row[metric]))
    return Cell(value=value(metric, row[metric]), difference=mark.text, sign=mark.sign)


def _training_seeds(summary: Mapping[str, Any]) -> list[tuple[str, int, list[str]]]:
    """(arm, training seed, its metrics) of every trained encoder, pooled over agents and sources."""
    return [
        (title(row["name"]), row["training_seed"], [value(metric, row[metric]) for metric in METRICS])
        for row in summary["arms"]
        if isinstance(row["training_seed"], int) and row["agent"] == row["source"] == POOLED
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The comparison within one agent or one source: success of base and of the arm, and its differences from each baseline."""

    name: str
    questions: int
    base: str
    arm: str
    marks: list[charts.IntervalMark | None]


def _breakdown(summary: Mapping[str, Any], arm: str, baselines: Sequence[str]) -> list[Slice]:
    """Success overall, per agent and per source, all intervals on one scale."""
    agents = dict.fromkeys(row["agent"] for row in summary["arms"] if row["agent"] != POOLED)
    sources = dict.fromkeys(row["source"] for row in summary["arms"] if row["source"] != POOLED)
    keys = [(POOLED, POOLED), *((agent, POOLED) for agent in agents), *((POOLED, source) for source in sources)]
    gaps = [difference_row(summary, arm, baseline, "success_rate", *key) for key in keys for baseline in baselines]
    marks = charts.interval_marks(gaps)
    slices = []
    for i, (agent, source) in enumerate(keys):
        base, ours = arm_row(summary, BASE, agent, source), arm_row(summary, arm, agent, source)
        if base and ours:
            slices.append(
                Slice(
                    name="all" if agent == source else f"agent {agent}" if source == POOLED else f"source {source}",
                    questions=base["questions"],
                    base=value("success_rate", base["success_rate"]),
                    arm=value("success_rate", ours["success_rate"]),
                    marks=marks[i * len(baselines) : (i + 1) * len(baselines)],
                )
            )
    return slices


def _sides(change: Change | None, example: Example | None) -> list[Side]:
    if change is None or change.shown is None or example is None:
        return []
    evidence = set(example.question.evidence_docids)
    return [_side(*pair, evidence) for pair in zip(change.shown, (example.before, example.after), strict=True)]


def _side(outcome: Outcome, run: Trajectory, evidence: Collection[str]) -> Side:
    recall = evidence_recall(run, evidence)
    return Side(
        arm=title(outcome.arm),
        success=bool(outcome.success),
        answer=run.final_answer,
        status=run.status,
        steps=num_steps(run),
        recall=value("evidence_recall", recall),
        moves=_moves(run, evidence),
    )


def _moves(run: Trajectory, evidence: Collection[str]) -> list[Move]:
    names = {r.docid: r.title or _shorten(r.snippet or r.docid)[0] for step in run.steps for r in step.results}
    moves = []
    for step in run.steps:
        if step.kind == "search":
            results = [
                Result(rank=r.rank, docid=r.docid, name=names[r.docid], is_evidence=r.docid in evidence) for r in step.results
            ]
            query = step.executed_query or "; ".join(step.queries)
            moves.append(Move(kind="search", text=query, results=results, error=step.error))
        elif step.kind == "browse":
            docid = step.docid or ""
            name = names.get(docid, docid)
            moves.append(Move(kind="browse", text=name, docid=docid, is_evidence=docid in evidence, error=step.error))
        elif step.text:
            text, rest = _shorten(step.text)
            moves.append(Move(kind=step.kind, text=text, rest=rest, error=step.error))
    return moves


def _shorten(text: str) -> tuple[str, str]:
    """(beginning, rest), cut at a space."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text, ""
    cut = text.rfind(" ", 0, _SHOWN_CHARACTERS)
    cut = cut if cut > 0 else _SHOWN_CHARACTERS
    return text[:cut], text[cut:]
