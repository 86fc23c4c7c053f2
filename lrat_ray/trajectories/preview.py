"""`--dry-run`: the first few trajectories of a source as they are understood, without Ray and without an output."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from lrat_ray.config import Config
from lrat_ray.schema import Rejected, Step, Trajectory
from lrat_ray.trajectories import formats, source
from lrat_ray.trajectories.corpus_match import in_corpus
from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.inventory import docids, hints, inventory, other_tools
from lrat_ray.trajectories.sharing import Slice

SAMPLE = 20
"""Trajectories that are read."""

_TEXT = 200
_RESULTS = 3
_SHOWN_KINDS = ("reasoning", "search", "browse", "other", "answer")


@dataclass(kw_only=True)
class Preview:
    """What the first records of a source are: trajectories, or rejected rows; and their formats, counted."""

    uri: str
    trajectories: list[Trajectory] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    corpus: str | None = None
    docids: int = 0
    docids_in_corpus: int = 0


def look(config: Config, sample: int = SAMPLE) -> Preview:
    """The first `sample` records of `config.trajectories`, of each file in turn; with `config.corpus`, how many of their docids
    it has. Raises as `lrat import trajectories` and `lrat mine` do for a source without logs."""
    uri = config.require("trajectories", "it is what is looked at")
    dialect = source.dialect(config.logs)
    preview = Preview(uri=uri, corpus=config.corpus)
    for file, record in itertools.islice(_records(uri, config.logs.format, sample), sample):
        preview.formats[_format_of(record)] += 1
        item = record if isinstance(record, Trajectory) else source.parse(record, file, dialect)
        if isinstance(item, Trajectory):
            preview.trajectories.append(item)
        else:
            preview.rejected.append(item)
    if config.corpus is not None:
        wanted = docids(preview.trajectories)
        preview.docids, preview.docids_in_corpus = len(wanted), len(in_corpus(wanted, config.corpus))
    return preview


def describe(preview: Preview) -> str:
    """A preview as lines of text: formats, three steps, counts, and hints where something looks wrong."""
    counts: Counter[str] = Counter(dict.fromkeys(("trajectories", "searches", "results", "browses", "browses_shown"), 0))
    for trajectory in preview.trajectories:
        counts.update(inventory(trajectory))
    found = ", ".join(f"{name} ({number})" for name, number in preview.formats.most_common()) or "nothing"
    lines = [f"{preview.uri}: the first {preview.formats.total()} records", f"format: {found}"]
    if preview.trajectories:
        lines += ["", *_trajectory_lines(preview.trajectories[0]), "", *_count_lines(counts)]
    if preview.corpus is not None and preview.docids:
        lines.append(f"docids in the corpus {preview.corpus}: {_share(preview.docids_in_corpus, preview.docids)}")
    if preview.rejected:
        lines += [f"records that cannot be read: {len(preview.rejected)}; the first: {preview.rejected[0].detail}"]
    if preview.trajectories:
        lines += [f"hint: {hint}" for hint in hints(counts, preview.docids, preview.docids_in_corpus)]
    return "\n".join(lines)


def _records(uri: str, format_name: str, max_open: int) -> Iterator[tuple[str, source.Record | Trajectory]]:
    """The records of a source, one of each file in turn; of at most `max_open` files at once."""
    pieces: dict[str, list[Slice]] = {}
    for piece in itertools.chain.from_iterable(source.shares(uri, SAMPLE, format_name=format_name)):
        pieces.setdefault(piece.file, []).append(piece)
    waiting = (_records_of(file, slices, uri, format_name) for file, slices in pieces.items())
    turns = deque(itertools.islice(waiting, max_open))
    while turns:
        records = turns.popleft()
        if (found := next(records, None)) is not None:
            yield found
            turns.append(records)
        else:
            turns.extend(itertools.islice(waiting, 1))


def _records_of(file: str, slices: list[Slice], uri: str, format_name: str) -> Iterator[tuple[str, source.Record | Trajectory]]:
    for piece in slices:
        for record in source.records(piece, uri, format_name):
            yield file, record


def _format_of(record: source.Record | Trajectory) -> str:
    if isinstance(record, Trajectory):
        return "trajectories in our own schema"
    if record.format_name != "auto":
        return record.format_name
    if isinstance(record.value, LogError):
        return "unreadable"
    matching = (
        name for name, known in formats.FORMATS.items() if isinstance(record.value, dict) and known.matches(record.value)
    )
    return next(matching, "unknown")


def _trajectory_lines(trajectory: Trajectory) -> list[str]:
    head = f"trajectory {trajectory.trajectory_id} (query_id {trajectory.query_id}, agent {trajectory.agent}, "
    head += f"{trajectory.status}, {len(trajectory.steps)} steps): {_cut(trajectory.question)}"
    first_of_kind = {step.kind: number for number, step in reversed(list(enumerate(trajectory.steps)))}
    numbers = [first_of_kind[kind] for kind in _SHOWN_KINDS if kind in first_of_kind][:3]
    return [head, *(_step_line(number, trajectory.steps[number]) for number in sorted(numbers))]


def _step_line(number: int, step: Step) -> str:
    head = f"  step {number}, {step.kind}{f' ({step.tool_name})' if step.tool_name else ''}: "
    if step.error:
        return f"{head}failed, {_cut(step.error)}"
    if step.kind == "search":
        shown = [f"{result.docid}{f' ({_cut(result.title)})' if result.title else ''}" for result in step.results[:_RESULTS]]
        more = f", and {len(step.results) - _RESULTS} more" if len(step.results) > _RESULTS else ""
        query = step.executed_query or " | ".join(step.queries)
        return f"{head}{_cut(query)!r} showed {', '.join(shown) or 'no results'}{more}"
    if step.kind == "browse":
        return f"{head}opened {step.docid}"
    if step.kind == "other":
        return f"{head}{_cut(step.arguments or '')}"
    return f"{head}{_cut(step.text or '')!r}"


def _count_lines(counts: Counter[str]) -> list[str]:
    lines = [
        f"{counts['trajectories']} trajectories, {counts['searches']} searches with {counts['results']} results, "
        f"{counts['browses']} browses"
    ]
    if counts["browses"]:
        lines.append(f"browses of a document that a search showed before: {_share(counts['browses_shown'], counts['browses'])}")
    if others := other_tools(counts):
        lines.append(f"other tools: {', '.join(f'{name} ({number})' for name, number in others.items())}")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else f"{line[: _TEXT - 3]}..."
