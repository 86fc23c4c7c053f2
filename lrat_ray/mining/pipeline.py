"""Mining on Ray Data: trajectories -> browses (`mine`) -> verdicts (`judge`) -> weighted training pairs (`weigh`).

Each stage works part by part: one Ray Data task makes a part of the output from the files of the same number of the input.
So a cluster shares the parts, an interrupted run continues with those that are missing, and the result does not depend on the
order in which they are made. The method is in the pure functions of this folder; this module moves their rows.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.core import url_to_fs

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest, Work
from lrat_ray.config import LLM, Config, ConfigError, Judge, Mining, RaySection
from lrat_ray.documents import DocumentStore, ensure
from lrat_ray.llm import ChatClient
from lrat_ray.mining.accounts import Account, read_account, write_part
from lrat_ray.mining.intensity import Intensity
from lrat_ray.mining.judge import Verdict, can_be_judged, endpoint_verdicts, rule_verdict, with_verdict
from lrat_ray.mining.negatives import window_pairs
from lrat_ray.mining.pairs import NoPair, Outcome, keep_known
from lrat_ray.mining.reference import reference_pairs
from lrat_ray.mining.tokens import count_tokens
from lrat_ray.mining.transitions import find_browses
from lrat_ray.progress import Progress
from lrat_ray.schema import Browse, Pair, Rejected, Trajectory, from_table
from lrat_ray.trajectories import source

_log = logging.getLogger(__name__)
_NEEDS_TRAJECTORIES = "mining reads run files or an artifact of `lrat rollout`"
_UNWEIGHTED = "unweighted"
_JUDGE_CPUS = 0.5  # a judging task mostly waits for the endpoint

Row = dict[str, Any]
"""A row of Ray Data. Going in, a part's name and the files that it is made from; coming out, its name and its account."""


def run(config: Config) -> Manifest:
    """Trajectories -> pairs artifact at `config.output`; the stages between lie inside it, at `mined` and `judged`.

    Raises ConfigError for a setting that is missing or a judge that is not offered, LLMError when the judge's endpoint cannot
    be reached, ArtifactError for a source without trajectories.
    """
    output = config.require("output", "mining writes its pairs there")
    trajectories = config.require("trajectories", _NEEDS_TRAJECTORIES)
    mined_at, judged_at = artifacts.join(output, "mined"), artifacts.join(output, "judged")
    _judge_endpoint(config, judged_at)
    if config.force:
        for begun in filter(artifacts.is_work, (output, mined_at, judged_at)):
            artifacts.start_over(begun, {"trajectories": trajectories, "corpus": config.corpus})
    config = config.replace(force=False)
    mined = mine(config.replace(output=mined_at))
    judged = judge(config.replace(output=judged_at), mined.uri)
    return weigh(config, trajectories, judged.uri)


def mine(config: Config) -> Manifest:
    """`config.trajectories` -> browses artifact at `config.output`: every browse step as a row, not judged yet.

    Rows in: browse steps, and one for each run file that cannot be read. Raises ArtifactError when the source is missing, holds
    no trajectories, or not one of its files can be read.
    """
    trajectories = config.require("trajectories", _NEEDS_TRAJECTORIES)
    output = config.require("output", "the browses are written there")
    keys = ("mining.protocol", "mining.browse_tools", "mining.search_tools", "mining.rows_per_part", "train.base_model")
    work = artifacts.begin(
        output, kind="browses", config=config.only(*keys), inputs={"trajectories": trajectories}, force=config.force
    )
    if work.manifest:
        return work.manifest
    parts: list[Row] = [
        {"part": f"part-{number:05}.parquet", "files": files} for number, files in enumerate(_chunks(config, trajectories))
    ]
    mine_part = functools.partial(
        _mine_part, work=work, root=trajectories, mining=config.mining, tokenizer=config.train.base_model
    )
    account = _total(_each_part(config.ray, "mined", parts, mine_part))
    if account.counts["trajectories"] == 0:
        first = next(artifacts.read_rejected(output), None)
        raise ArtifactError(f"trajectories: {trajectories} holds no trajectory{f'; {first.detail}' if first else ''}")
    return _finish(work, parts, account, {"tokenizer": config.train.base_model})


def judge(config: Config, browses: str) -> Manifest:
    """A browses artifact -> the same rows with the verdicts of `config.judge.backend`, at `config.output`.

    No row is lost: a browse whose judgement failed has judge_status "failed", and a rerun asks for those again, finished or not
    (where `llm.base_url` is set). With the openai backend raises, before any work, ConfigError when llm.base_url is not set or
    its endpoint does not offer judge.model, LLMError when it cannot be reached.
    """
    output = config.require("output", "the judged browses are written there")
    keys = ("judge.backend", "judge.pattern", "judge.model")
    # Before the output is touched: a mistyped model should not leave a directory that the right one cannot continue.
    endpoint = _judge_endpoint(config, output)
    work = artifacts.begin(output, kind="browses", config=config.only(*keys), inputs={"browses": browses}, force=config.force)
    if work.manifest and endpoint is None:
        _warn_of_failures(work.manifest.metrics, output)
        return work.manifest
    mined = artifacts.read_manifest(browses, "browses")
    parts: list[Row] = [{"part": part, "browses": uri} for part, uri in zip(mined.parts, mined.part_uris(), strict=True)]
    judge_part = functools.partial(_judge_part, work=work, judge=config.judge, llm=config.llm, endpoint=endpoint)
    if endpoint is None:
        reports = _each_part(config.ray, "judged", parts, judge_part)
    else:
        reports = _each_part(config.ray, "judged", parts, judge_part, max_tasks=config.judge.num_tasks, num_cpus=_JUDGE_CPUS)
    chosen = {"backend": config.judge.backend, "model": config.judge.model if endpoint else None}
    account = _total(reports)
    _warn_of_failures(account.metrics(), output)
    if work.manifest and account.metrics() == work.manifest.metrics:
        return work.manifest  # nothing was gained, so what was made from the artifact stays valid
    return _finish(work, parts, account, {**mined.protocol, "judge": chosen})


def weigh(config: Config, trajectories: str, browses: str) -> Manifest:
    """Trajectories and their browses -> pairs artifact at `config.output`: negatives and relevance intensity, no LLM call.

    browses: judged, or straight from `mine` (then every browse counts as relevant). Rows in are those of `mine`. With
    `config.corpus`, a pair whose positive is not in it is rejected, and unknown negatives are dropped and counted. Pairs from
    before failed browses were judged again are made anew. Raises ArtifactError when the browses were not mined from these
    trajectories.
    """
    output = config.require("output", "the pairs are written there")
    inputs = {"trajectories": trajectories, "browses": browses, "corpus": config.corpus}
    recorded = config.only("mining")
    _drop_outdated_pairs(output, recorded, inputs)
    work = artifacts.begin(output, kind="pairs", config=recorded, inputs=inputs, force=config.force)
    if work.manifest:
        return work.manifest
    mined = artifacts.read_manifest(browses, "browses")
    chunks = _chunks(config, trajectories)
    if len(chunks) != len(mined.parts):
        raise _mismatch(browses, trajectories, f"{len(mined.parts)} parts of browses, {len(chunks)} of trajectories")
    documents = ensure(config.corpus, artifacts.join(output, "documents")) if config.corpus else None
    parts: list[Row] = [
        {"part": part, "files": files, "browses": uri}
        for part, files, uri in zip(mined.parts, chunks, mined.part_uris(), strict=True)
    ]
    pair_part = functools.partial(
        _pair_part, work=work, root=trajectories, mining=config.mining, documents=documents, corpus=config.corpus or ""
    )
    reports = _each_part(config.ray, "paired", parts, pair_part)
    # Eq. 3 needs the median and the mean over all pairs, hence two passes.
    relevant_lengths = [length for report in reports for length in report["relevant_lengths"]]
    intensity = Intensity.fit(relevant_lengths) if config.mining.weights else None
    weigh_part = functools.partial(_weigh_part, work=work, intensity=intensity)
    account = _total(_each_part(config.ray, "weighed", parts, weigh_part))
    artifacts.remove(artifacts.join(output, _UNWEIGHTED))
    protocol = {**mined.protocol, **config.only("mining.protocol", "mining.strict_negatives", "mining.weights")["mining"]}
    constants = {"beta_tokens": intensity.beta, "mu_raw": intensity.mu_raw} if intensity else {}
    return _finish(work, parts, account, protocol, constants)


def _judge_endpoint(config: Config, judged: str) -> str | None:
    """URL of the judge's endpoint, which answers and offers the judge; None when there is nothing to ask it for `judged`.

    Nothing is asked by the other backends, for an artifact that is finished without a failure, and for one with failures where
    no endpoint is set.
    """
    if config.judge.backend != "openai":
        return None
    if not config.force and artifacts.is_artifact(judged, "browses"):
        failed = artifacts.read_manifest(judged).metrics.get("failed", 0)
        if not failed or config.llm.base_url is None:
            return None
    endpoint = config.require("llm.base_url", "judge.backend=openai asks an OpenAI-compatible endpoint")
    offered = asyncio.run(_offered(endpoint, config.llm))
    if config.judge.model not in offered:
        raise ConfigError(
            f"judge.model: the LLM endpoint {endpoint} does not offer {config.judge.model}; it offers "
            f"{', '.join(offered) or 'nothing'}"
        )
    return endpoint


async def _offered(endpoint: str, llm: LLM) -> tuple[str, ...]:
    client = ChatClient(llm, endpoint)
    try:
        return await client.model_names()
    finally:
        await client.aclose()


def _warn_of_failures(metrics: Row, judged: str) -> None:
    if failed := metrics.get("failed", 0):
        total = sum(metrics[name] for name in ("relevant", "irrelevant", "failed", "unjudged"))
        _log.warning(
            "%s: the judge failed on %d of %d browses, which give no pairs (column judge_error says why). "
            "The same command with llm.base_url set asks for them again",
            judged,
            failed,
            total,
        )


def _drop_outdated_pairs(output: str, config: Row, inputs: dict[str, str | None]) -> None:
    """Remove pairs weighed, with the same settings, before failed browses were judged again.

    They cost no LLM call. Stages that lie inside `output` stay, so that --force, which would remove them, is not needed.
    """
    records = [artifacts.join(output, name) for name in (artifacts.MANIFEST, artifacts.STARTED)]
    now = {name: artifacts.fingerprint(name, uri) for name, uri in inputs.items() if uri}
    outdated = False
    for record in map(artifacts.read_json, filter(artifacts.exists, records)):
        used = record["inputs"]
        changed = {name for name in {**used, **now} if used.get(name) != now.get(name)}
        is_ours = record["kind"] == "pairs" and record["config"] == config
        outdated |= is_ours and changed == {"browses"} and used["browses"]["uri"] == now["browses"]["uri"]
    if not outdated:
        return
    fs, path = url_to_fs(output)
    for entry in fs.ls(path, detail=True):
        name = posixpath.basename(entry["name"])
        if name in ("rejected", _UNWEIGHTED) or name.endswith(".parquet"):
            fs.rm(entry["name"], recursive=True)
    for record in records:  # last: parts without a record would be taken for those of the new browses
        artifacts.remove(record)


def _chunks(config: Config, trajectories: str) -> list[list[str]]:
    return source.chunks(trajectories, config.mining.rows_per_part)


def _mismatch(browses: str, trajectories: str, found: str) -> ArtifactError:
    fix = "Pass the trajectories (and mining.rows_per_part) that they were mined from, or mine again"
    return ArtifactError(f"the browses {browses} were not mined from {trajectories}: {found}. {fix}")


def _total(reports: Iterable[Row]) -> Account:
    return sum((Account.from_json(report["account"]) for report in reports), Account())


def _finish(
    work: Work, parts: Sequence[Row], account: Account, protocol: Row, constants: dict[str, float] | None = None
) -> Manifest:
    metrics = {**account.metrics(), **(constants or {})}
    return work.finish(parts=[row["part"] for row in parts], rows=account.rows(), metrics=metrics, protocol=protocol)


def _each_part(
    ray_config: RaySection,
    done: str,
    parts: Sequence[Row],
    work_on: Callable[[Row], Row],
    *,
    max_tasks: int | None = None,
    num_cpus: float = 1,
) -> list[Row]:
    """What `work_on` reports of each part, in the order of `parts`; it runs in Ray Data tasks, at most `max_tasks` at once.

    A part that is already there is reported, not made again. Raises ArtifactError, after the other parts are done, when a task
    found input that it could not use.
    """
    from lrat_ray.cluster import connect

    connect(ray_config)
    import ray.data

    def task(row: Row) -> Row:
        try:
            return {"part": row["part"], "error": "", **work_on(row)}
        except (ArtifactError, ConfigError) as error:  # as a value: Ray Data turns every exception into one of its own
            return {"part": row["part"], "error": str(error)}

    # One block for each part: Ray Data would put a small input into one block, which is one task.
    tasks = ray.data.from_items(list(parts), override_num_blocks=len(parts))
    reports: dict[str, Row] = {}
    progress = Progress(done, len(parts), "parts")
    for report in tasks.map(task, compute=ray.data.TaskPoolStrategy(max_tasks), num_cpus=num_cpus).iter_rows():
        reports[report["part"]] = report
        progress.update(len(reports))
    in_order = [reports[row["part"]] for row in parts]
    if errors := [report["error"] for report in in_order if report["error"]]:
        raise ArtifactError(errors[0])
    return in_order


def _mine_part(row: Row, *, work: Work, root: str, mining: Mining, tokenizer: str) -> Row:
    """Browses of the trajectories in some files."""
    part = row["part"]
    if not work.has(part):
        trajectories, rejected = _read(row["files"], root, mining)
        # The public miner takes the first reasoning step after a browse only.
        limit = 1 if mining.protocol == "reference" else None
        found: list[Browse] = []
        for file, trajectory in trajectories:
            browses, failed = find_browses(trajectory, file, max_reasoning_steps=limit)
            found += browses
            rejected += failed
        tokens = count_tokens([browse.reasoning for browse in found], tokenizer)
        rows = [replace(browse, reasoning_tokens=n) for browse, n in zip(found, tokens, strict=True)]
        rows_in = len(found) + len(rejected)
        counts = _trajectory_counts(trajectory for _, trajectory in trajectories)
        write_part(work, part, rows, Browse, rows_in=rows_in, rejected=rejected, counts=counts)
    return {"account": read_account(work, part).to_json()}


def _judge_part(row: Row, *, work: Work, judge: Judge, llm: LLM, endpoint: str | None) -> Row:
    """Verdicts on the browses of one part: on all or, where it was judged before, on those whose judgement failed."""
    part = row["part"]
    is_judged = work.has(part)
    if not is_judged or (endpoint is not None and read_account(work, part).counts["failed"]):
        browses = list(
            from_table(artifacts.read_table(artifacts.join(work.uri, part) if is_judged else row["browses"]), Browse)
        )
        asked = [not is_judged or browse.judge_status == "failed" for browse in browses]
        reasonings = [browse.reasoning for browse in itertools.compress(browses, asked) if can_be_judged(browse)]
        verdicts: dict[str, Verdict] = {}
        if endpoint is not None:
            verdicts = asyncio.run(_ask(endpoint, reasonings, judge, llm))
        elif judge.backend == "rule":
            verdicts = {reasoning: rule_verdict(reasoning, judge.pattern) for reasoning in reasonings}
        rows = [
            with_verdict(browse, verdicts.get(browse.reasoning)) if ask else browse
            for browse, ask in zip(browses, asked, strict=True)
        ]
        counts = _verdict_counts(rows)
        write_part(work, part, rows, Browse, rows_in=len(browses), rejected=[], counts=counts)
    return {"account": read_account(work, part).to_json()}


async def _ask(endpoint: str, reasonings: Sequence[str], judge: Judge, llm: LLM) -> dict[str, Verdict]:
    client = ChatClient(llm, endpoint)
    try:
        return await endpoint_verdicts(client, judge.model, reasonings, judge.concurrency)
    finally:
        await client.aclose()


def _pair_part(row: Row, *, work: Work, root: str, mining: Mining, documents: str | None, corpus: str) -> Row:
    """Pairs, not weighted yet, of the trajectories in some files and of the part that holds their browses."""
    part = artifacts.join(_UNWEIGHTED, row["part"])
    if not work.has(part):
        browses = list(from_table(artifacts.read_table(row["browses"]), Browse))
        trajectories, rejected = _read(row["files"], root, mining)
        found: list[Browse] = []
        for file, trajectory in trajectories:
            browsed, failed = find_browses(trajectory, file)
            found += browsed
            rejected += failed
        if [_identity(browse) for browse in found] != [_identity(browse) for browse in browses]:
            raise _mismatch(row["browses"], root, f"{len(browses)} browses there, {len(found)} others here")
        outcomes = _outcomes([trajectory for _, trajectory in trajectories], browses, mining)
        store = None if documents is None else DocumentStore.open(documents)
        pairs: list[Pair] = []
        unknown_negatives = 0
        for number, (browse, outcome) in enumerate(zip(browses, outcomes, strict=True)):
            if store is not None and isinstance(outcome, Pair):
                outcome, lost = keep_known(outcome, browse, store.__contains__, corpus)
                unknown_negatives += lost
            if isinstance(outcome, Pair):
                pairs.append(outcome)
            else:
                rejected.append(_rejection(outcome, row["browses"], number))
        counts = {**_pair_counts(pairs), "negatives_not_in_corpus": unknown_negatives}
        write_part(work, part, pairs, Pair, rows_in=len(pairs) + len(rejected), rejected=rejected, counts=counts)
    table = artifacts.read_table(artifacts.join(work.uri, part))
    return {"relevant_lengths": table.filter(pc.field("relevant"))["reasoning_tokens"].to_pylist()}


def _weigh_part(row: Row, *, work: Work, intensity: Intensity | None) -> Row:
    """The pairs of one part with their weights: relevance intensity (or 1) for relevant ones, 0 for the others."""
    part = row["part"]
    if not work.has(part):
        table = artifacts.read_table(artifacts.join(work.uri, _UNWEIGHTED, part))
        relevant = table["relevant"].to_numpy()
        weights = np.ones(len(table)) if intensity is None else intensity.weights(table["reasoning_tokens"].to_numpy())
        column = table.schema.get_field_index("weight")
        weighted = pa.array(np.where(relevant, weights, 0.0))
        work.write_table(part, table.set_column(column, table.schema.field(column), weighted))
    return {"account": read_account(work, part).to_json()}


def _read(files: Sequence[str], root: str, mining: Mining) -> tuple[list[tuple[str, Trajectory]], list[Rejected]]:
    """The trajectories in some files, each with the file that it is from, and the rejected rows of unreadable files."""
    trajectories: list[tuple[str, Trajectory]] = []
    rejected: list[Rejected] = []
    for file in files:
        for item in source.read(file, root, search_tools=mining.search_tools, browse_tools=mining.browse_tools):
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                trajectories.append((file, item))
    return trajectories, rejected


def _outcomes(trajectories: Iterable[Trajectory], browses: Iterable[Browse], mining: Mining) -> list[Outcome]:
    """One outcome per browse, in order."""
    of = {key: list(group) for key, group in itertools.groupby(browses, lambda browse: browse.trajectory_id)}
    outcomes: list[Outcome] = []
    for trajectory in trajectories:
        its_browses = of.get(trajectory.trajectory_id, [])
        if mining.protocol == "reference":
            outcomes += reference_pairs(trajectory, its_browses)
        else:
            outcomes += window_pairs(trajectory, its_browses, strict=mining.strict_negatives)
    return outcomes


def _identity(browse: Browse) -> tuple[str, int, str]:
    return browse.trajectory_id, browse.browse_step, browse.docid


def _rejection(outcome: NoPair, source_uri: str, number: int) -> Rejected:
    position = f"row {number}"
    detail = f"{source_uri} {position}, {outcome.detail}"
    return Rejected(source=source_uri, position=position, reason=outcome.reason, detail=detail)


def _trajectory_counts(trajectories: Iterable[Trajectory]) -> dict[str, int]:
    """How many trajectories were read, and what in them is not mined: so that a tool of another name shows."""
    counts = Counter(trajectories=0, trajectories_without_browses=0)
    for trajectory in trajectories:
        kinds = {step.kind for step in trajectory.steps}
        counts.update(trajectories=1, trajectories_without_browses="browse" not in kinds)
        counts.update(f"other_tool_calls.{step.tool_name}" for step in trajectory.steps if step.kind == "other")
    return dict(counts)


def _verdict_counts(browses: Iterable[Browse]) -> dict[str, int]:
    counts = Counter(relevant=0, irrelevant=0, failed=0, unjudged=0)
    for browse in browses:
        judged = "relevant" if browse.relevant else "irrelevant"
        counts[judged if browse.judge_status == "judged" else browse.judge_status] += 1
    return dict(counts)


def _pair_counts(pairs: Iterable[Pair]) -> dict[str, int]:
    counts = Counter(relevant_pairs=0, irrelevant_pairs=0, pairs_without_negatives=0)
    for pair in pairs:
        counts["relevant_pairs" if pair.relevant else "irrelevant_pairs"] += 1
        counts["pairs_without_negatives"] += not pair.negative_docids
    return dict(counts)
