"""The analysis stage on Ray Data: trajectories -> tallies, part by part -> analysis.json and analysis.html.

A task counts the trajectories of one part and writes its tally; the driver adds the tallies up and never sees a trajectory.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from lrat_ray import artifacts, questions
from lrat_ray.artifacts import ArtifactError, Manifest, Work, join
from lrat_ray.config import Config
from lrat_ray.mining.analysis import analyse
from lrat_ray.mining.analysis_page import render_page
from lrat_ray.mining.assumptions import Assumption, Given
from lrat_ray.mining.lengths import measured
from lrat_ray.mining.observations import count_judged, count_trajectory
from lrat_ray.mining.position_bias import even_ranks, evidence_at_any_rank, latest_search
from lrat_ray.mining.tally import Tally
from lrat_ray.mining.transitions import find_browses
from lrat_ray.mining.value_of_browsing import browsing, opening_evidence, reasoning_length
from lrat_ray.parts import Row, each_part
from lrat_ray.schema import Browse, Rejected, Trajectory, from_table
from lrat_ray.tokens import count_tokens
from lrat_ray.trajectories import source

ANALYSIS, PAGE = "analysis.json", "analysis.html"

Evidence = Mapping[str, Sequence[str]]
"""query_id -> docids annotated for it."""

_JUDGED = "judged"


def run(config: Config) -> Manifest:
    """`config.trajectories` -> an artifact of kind "analysis" at `config.output`: analysis.json, analysis.html, the tallies.

    Evidence comes from questions.eval and questions.train, verdicts on browses from analyze.browses; each may be missing, and
    what hangs on it is then said to be not measurable. Rows in are trajectories, and one for each record that cannot be read,
    which is rejected. Raises ConfigError for a setting that is missing, ArtifactError for a source that is missing, holds no
    trajectory, or is of another kind, and for questions that contradict each other.
    """
    output = config.require("output", "the analysis is written there")
    trajectories = config.require("trajectories", "they are what is analysed")
    asked = {name: uri for name in ("eval", "train") if (uri := getattr(config.questions, name))}
    keys = ("logs", "mining.trajectories_per_part", "mining.shared_reasoning", "train.base_model")
    work = artifacts.begin(
        output,
        kind="analysis",
        config=config.only(*keys, "analyze.bootstrap_samples", "analyze.seed"),
        inputs={
            "trajectories": trajectories,
            "logs.docid_aliases": config.logs.docid_aliases,
            "analyze.browses": config.analyze.browses,
            **{f"questions.{name}": uri for name, uri in asked.items()},
        },
        force=config.force,
    )
    if work.manifest:
        return work.manifest
    judged = _judged_parts(config.analyze.browses)
    evidence = _evidence(asked, output)
    shares = source.shares(trajectories, config.mining.trajectories_per_part, format_name=config.logs.format)
    parts: list[Row] = [
        {"part": f"part-{number:05}.parquet", "slices": [asdict(piece) for piece in slices]}
        for number, slices in enumerate(shares)
    ]
    reports = each_part(
        config.ray, "analysed", parts, functools.partial(_count_part, work=work, config=config, evidence=evidence)
    )
    if judged:
        each_part(config.ray, "judged browses", judged, functools.partial(_count_judged_part, work=work, config=config))
    names = [row["part"] for row in [*parts, *judged]]
    tally = _total(work, names, config)
    if not tally.num_questions("all"):
        first = next(artifacts.read_rejected(output), None)
        raise ArtifactError(f"trajectories: {trajectories} holds no trajectory{f'; {first.detail}' if first else ''}")
    given = Given(questions=bool(asked), browses=bool(config.analyze.browses))
    return _finish(work, names, tally, assess(tally, given), _protocol(config, tally), sum(row["rejected"] for row in reports))


def verdict_lines(manifest: Manifest) -> list[str]:
    """The verdicts of a finished analysis as a person reads them in a terminal: verdict, name and finding."""
    assumptions = artifacts.read_json(join(manifest.uri, ANALYSIS))["assumptions"]
    return [f"{row['verdict']}: {row['name']}. {row['finding']}" for row in assumptions]


def assess(tally: Tally, given: Given) -> list[Assumption]:
    """A verdict on every assumption, in the order in which the method makes them.

    tally: of the trajectories (`count_trajectory`), and of the judged browses where there are any (`count_judged`).
    """
    return [
        even_ranks(tally),
        evidence_at_any_rank(tally, given),
        latest_search(tally),
        browsing(tally),
        opening_evidence(tally, given),
        reasoning_length(tally, given),
    ]


def _finish(
    work: Work, names: list[str], tally: Tally, assumptions: list[Assumption], protocol: Row, rejected: int
) -> Manifest:
    """Write the analysis, its page and the manifest."""
    analysis = {"assumptions": [asdict(assumption) for assumption in assumptions], **analyse(tally), "protocol": protocol}
    work.write_json(ANALYSIS, analysis)
    with artifacts.atomic_write(join(work.uri, PAGE)) as file:
        file.write(render_page(analysis).encode())
    trajectories = sum(count for _, count in tally.select("trajectories"))
    return work.finish(
        parts=names,
        rows={"in": trajectories + rejected, "out": trajectories, "rejected": rejected},
        metrics={
            "verdicts": {assumption.name: assumption.verdict for assumption in assumptions},
            "questions": tally.num_questions("all"),
            "annotated_questions": tally.num_questions("annotated"),
            "failed_browses": tally.counts[("failed_browses",)],
            "browses_without_reasoning": sum(count for _, count in tally.select("no_reasoning")),
        },
        protocol=protocol,
    )


def _judged_parts(uri: str | None) -> list[Row]:
    if uri is None:
        return []
    manifest = artifacts.read_manifest(uri, "browses")
    names = (f"{_JUDGED}-{number:05}.parquet" for number in range(len(manifest.parts)))
    return [{"part": name, "browses": part} for name, part in zip(names, manifest.part_uris(), strict=True)]


def _evidence(asked: Mapping[str, str], output: str) -> dict[str, list[str]]:
    """The annotated evidence of all questions that were passed."""
    evidence: dict[str, list[str]] = {}
    for name, uri in asked.items():
        for question in questions.read(questions.ensure(uri, join(output, "questions", name)), need_answers=False):
            docids = question.evidence_docids
            if docids and sorted(evidence.setdefault(question.query_id, docids)) != sorted(docids):
                raise ArtifactError(
                    f"questions.{name}: question {question.query_id!r} of {uri} has other evidence than in the other file. "
                    "Pass only the questions that these trajectories were asked"
                )
    return evidence


def _count_part(row: Row, *, work: Work, config: Config, evidence: Evidence) -> Row:
    """The tally of the trajectories in some slices of the source, and how many records could not be read."""
    part = row["part"]
    if not work.has(part):
        tally = _empty(config)
        rejected: list[Rejected] = []
        read: list[tuple[Trajectory, list[Browse]]] = []
        for file, item in _read(row["slices"], str(config.trajectories), config):
            if isinstance(item, Rejected):
                rejected.append(item)
                continue
            browses, failed = find_browses(item, file, config.mining.shared_reasoning)
            tally.counts[("failed_browses",)] += len(failed)
            read.append((_without_texts(item), browses))
        count = functools.partial(count_tokens, model=config.train.base_model)
        with_lengths = iter(measured([browse for _, browses in read for browse in browses], count))
        for trajectory, browses in read:
            its_browses = list(itertools.islice(with_lengths, len(browses)))
            count_trajectory(tally, trajectory, its_browses, evidence.get(trajectory.query_id))
        tally.counts[("rejected",)] += len(rejected)
        work.write_rejected(part.removesuffix(".parquet"), rejected)
        work.write_table(part, tally.to_table())  # last: its presence says that all of the part is there
    return {"rejected": _read_tally(work, part, config).counts[("rejected",)]}


def _count_judged_part(row: Row, *, work: Work, config: Config) -> Row:
    """The tally of one part of the judged browses."""
    if not work.has(row["part"]):
        tally = _empty(config)
        count_judged(tally, from_table(artifacts.read_table(row["browses"]), Browse))
        work.write_table(row["part"], tally.to_table())
    return {}


def _read(slices: Iterable[Row], root: str, config: Config) -> Iterator[tuple[str, Trajectory | Rejected]]:
    dialect = source.dialect(config.logs, texts=False)
    for piece in slices:
        for item in source.read(source.Slice(**piece), root, config.logs.format, dialect):
            yield piece["file"], item


def _without_texts(trajectory: Trajectory) -> Trajectory:
    """What is counted needs no text, which is nearly all of a trajectory's memory."""
    return replace(trajectory, steps=[replace(step, text=None, output=None, raw=None) for step in trajectory.steps])


def _empty(config: Config) -> Tally:
    return Tally(samples=config.analyze.bootstrap_samples, seed=config.analyze.seed)


def _read_tally(work: Work, part: str, config: Config) -> Tally:
    table = artifacts.read_table(join(work.uri, part))
    return Tally.from_table(table, samples=config.analyze.bootstrap_samples, seed=config.analyze.seed)


def _total(work: Work, names: Iterable[str], config: Config) -> Tally:
    total = _empty(config)
    for name in names:
        total.update(_read_tally(work, name, config))
    return total


def _protocol(config: Config, tally: Tally) -> dict[str, Any]:
    """How the analysis was made: what another one must share before its numbers may stand beside these."""
    judged = artifacts.read_manifest(config.analyze.browses).protocol if config.analyze.browses else None
    statuses: Counter[str] = Counter({str(key[0]): count for key, count in tally.select("judged")})
    return {
        "questions": tally.num_questions("all"),
        "annotated_questions": tally.num_questions("annotated"),
        "tokenizer": config.train.base_model,
        "shared_reasoning": config.mining.shared_reasoning,
        "browses": {**judged, **statuses} if judged is not None else None,
        "intervals": {
            "method": "Poisson bootstrap, percentile 95%, questions drawn; shares by outcome or rank: Wilson, runs independent",
            "samples": config.analyze.bootstrap_samples,
            "seed": config.analyze.seed,
        },
    }
