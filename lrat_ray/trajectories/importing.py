"""`lrat import trajectories`: the logs of agents, in any format and container, as a trajectories artifact; on Ray Data."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow.compute as pc

from lrat_ray import artifacts
from lrat_ray import corpus as corpora
from lrat_ray.accounts import finish, read_account, total, write_part
from lrat_ray.artifacts import ArtifactError, Manifest, Work
from lrat_ray.config import Config
from lrat_ray.documents import DocumentStore
from lrat_ray.parts import Row, each_part
from lrat_ray.schema import Rejected, Trajectory
from lrat_ray.trajectories import parquet_entries, source
from lrat_ray.trajectories.corpus_match import in_corpus
from lrat_ray.trajectories.inventory import hints, inventory
from lrat_ray.trajectories.streams import open_file

_DOCIDS = ("steps.list.element.docid", "steps.list.element.results.list.element.docid")  # Parquet's names of these columns

_log = logging.getLogger(__name__)


def run(config: Config) -> Manifest:
    """`config.trajectories` -> trajectories artifact at `config.output`, read as section logs says; the rest is rejected.

    metrics: what the trajectories hold (inventory.py), trajectory_ids that stand twice and, with `config.corpus`, how many of
    the docids it has. Raises ConfigError for a setting that is missing, ArtifactError for a source without trajectories and,
    before anything is imported, for a corpus that cannot be read.
    """
    uri = config.require("trajectories", "it is what is imported")
    output = config.require("output", "the trajectories artifact needs a directory")
    if config.corpus is not None:
        _check_corpus(config.corpus)
    work = artifacts.begin(
        output,
        kind="trajectories",
        config=config.only("logs", "mining.trajectories_per_part"),
        inputs={"trajectories": uri, "logs.docid_aliases": config.logs.docid_aliases, "corpus": config.corpus},
        force=config.force,
    )
    if work.manifest:
        return work.manifest
    shares = source.shares(uri, config.mining.trajectories_per_part, format_name=config.logs.format)
    parts: list[Row] = [
        {"part": f"part-{number:05}.parquet", "slices": [asdict(piece) for piece in share]}
        for number, share in enumerate(shares)
    ]
    account = total(each_part(config.ray, "imported", parts, functools.partial(_import_part, work=work, config=config)))
    if account.rows_out == 0:
        first = next(artifacts.read_rejected(output), None)
        raise ArtifactError(f"trajectories: {uri} holds no trajectory{f'; {first.detail}' if first else ''}")
    names = [row["part"] for row in parts]
    metrics = {"repeated_trajectory_ids": _count_repeated(work, names), **_corpus_metrics(work, names, config.corpus)}
    for hint in hints(account.counts, metrics.get("docids", 0), metrics.get("docids_in_corpus", 0)):
        _log.warning("%s: %s", output, hint)
    return finish(work, account, parts=names, protocol={}, metrics=metrics)


def _check_corpus(corpus: str) -> None:
    """Open every file of the corpus. Raises ArtifactError for one that is missing, unreadable or without a column."""
    if artifacts.is_artifact(corpus, "documents"):
        DocumentStore.open(corpus)
        return
    for path in corpora.files(corpus):
        next(corpora.read([path]), None)


def _import_part(row: Row, *, work: Work, config: Config) -> Row:
    part = row["part"]
    if not work.has(part):
        dialect = source.dialect(config.logs)
        trajectories: list[Trajectory] = []
        rejected: list[Rejected] = []
        counts: Counter[str] = Counter()
        for piece in row["slices"]:
            for item in source.read(source.Slice(**piece), str(config.trajectories), config.logs.format, dialect):
                if isinstance(item, Rejected):
                    rejected.append(item)
                else:
                    trajectories.append(item)
                    counts.update(inventory(item))
        rows_in = len(trajectories) + len(rejected)
        write_part(work, part, trajectories, Trajectory, rows_in=rows_in, rejected=rejected, counts=dict(counts))
    return {"account": read_account(work, part).to_json()}


def _count_repeated(work: Work, parts: Sequence[str]) -> int:
    """How many trajectories have the id of an earlier one: copies of a file, or ids of the log that are not unique."""
    seen: set[str] = set()
    repeated = 0
    for part in parts:
        for trajectory_id in artifacts.read_table(artifacts.join(work.uri, part), ["trajectory_id"])[0].to_pylist():
            repeated += trajectory_id in seen
            seen.add(trajectory_id)
    if repeated:
        _log.warning(
            "%s: %d trajectories have the trajectory_id of another one and count as the same; are there copies among the logs?",
            work.uri,
            repeated,
        )
    return repeated


def _corpus_metrics(work: Work, parts: Sequence[str], corpus: str | None) -> dict[str, int]:
    if corpus is None:
        return {}
    docids: set[str] = set()
    for part in parts:
        with open_file(artifacts.join(work.uri, part)) as stream:
            for batch in parquet_entries.open_parquet(stream).iter_batches(columns=list(_DOCIDS)):
                steps = pc.list_flatten(batch.column("steps"))
                results = pc.list_flatten(pc.struct_field(steps, "results"))
                for column in (pc.struct_field(steps, "docid"), pc.struct_field(results, "docid")):
                    docids.update(column.unique().drop_null().to_pylist())
    return {"docids": len(docids), "docids_in_corpus": len(in_corpus(docids, corpus))}
