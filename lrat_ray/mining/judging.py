"""The judging stage on Ray Data: browses -> the same browses with verdicts; an LLM is asked once for each different reasoning.

With an LLM it has three passes. Each part names the reasonings that it has no verdict on; those that differ go, over all parts
in one stream, to the engines or to the endpoint, whose verdicts are written down as they come (verdicts.py); then each part is
joined with its verdicts. So engines never wait for a part to end, an interrupted run asks only for what is not written down,
and a rerun asks again for what failed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from lrat_ray import artifacts
from lrat_ray.accounts import finish, read_account, total, write_part
from lrat_ray.artifacts import Manifest, Work
from lrat_ray.config import LLM, Config, ConfigError
from lrat_ray.llm import ChatClient
from lrat_ray.mining import judge_openai, judge_vllm, verdicts
from lrat_ray.mining.judge import Judgement, can_be_judged, id_of, rule_verdict, with_verdict
from lrat_ray.parts import Row, each_part
from lrat_ray.progress import Progress
from lrat_ray.schema import Browse, from_table

_log = logging.getLogger(__name__)
_ASK_LLM = ("vllm", "openai")
_STORE = "verdicts"
_IO_CPUS = 0.25  # reading and writing, beside engines that take all they can get
_LARGEST_BATCH = 32


def judge(config: Config, browses: str) -> Manifest:
    """A browses artifact -> the same rows with the verdicts of `config.judge.backend`, at `config.output`.

    No row is lost: a browse whose judgement failed has judge_status "failed", and a rerun asks for those again, finished or
    not, where it can and judge.retry_failed says so. Raises, before any work, what `judge_endpoint` raises.
    """
    output = config.require("output", "the judged browses are written there")
    keys = ("judge.backend", "judge.pattern", "judge.model", "judge.thinking", "judge.sampling")
    # Before the output is touched: a mistyped model should not leave a directory that the right one cannot continue.
    endpoint = judge_endpoint(config, output)
    asks = _has_to_ask(config, output)
    work = artifacts.begin(output, kind="browses", config=config.only(*keys), inputs={"browses": browses}, force=config.force)
    if work.manifest and not asks:
        _warn_of_failures(work.manifest.metrics, output)
        return work.manifest
    mined = artifacts.read_manifest(browses, "browses")
    parts: list[Row] = [{"part": part, "browses": uri} for part, uri in zip(mined.parts, mined.part_uris(), strict=True)]
    if asks:
        parts = _ask(config, work, parts, endpoint)
        account = total(each_part(config.ray, "judged", parts, functools.partial(_join_part, work=work)))
    else:
        pattern = config.judge.pattern if config.judge.backend == "rule" else None
        account = total(each_part(config.ray, "judged", parts, functools.partial(_rule_part, work=work, pattern=pattern)))
    artifacts.remove(artifacts.join(output, _STORE))
    _warn_of_failures(account.metrics(), output)
    if work.manifest and account.metrics() == work.manifest.metrics:
        return work.manifest  # nothing was gained, so what was made from the artifact stays valid
    chosen: Row = {"backend": config.judge.backend, "model": None}
    if asks:
        chosen |= {"model": config.judge.model, "thinking": config.judge.thinking}
    protocol = {**mined.protocol, "judge": chosen}
    return finish(work, account, parts=[row["part"] for row in parts], protocol=protocol, metrics={})


def judge_endpoint(config: Config, judged: str) -> str | None:
    """Check that the judge can be asked for what `judged` lacks; the URL of its endpoint, None with another backend.

    None also when there is nothing to ask: the artifact is finished without a failure, or has some that cannot be asked again
    (no endpoint, no engines) or shall not be (judge.retry_failed=false). With
    the openai backend raises ConfigError when llm.base_url is not set or its endpoint does not offer judge.model, LLMError when
    it cannot be reached; with the vllm backend ConfigError when vLLM or a GPU is missing.
    """
    if not _has_to_ask(config, judged):
        return None
    if config.judge.backend == "vllm":
        if (problem := judge_vllm.missing(config)) is not None:
            raise ConfigError(problem)
        return None
    endpoint = config.require("llm.base_url", "judge.backend=openai asks an OpenAI-compatible endpoint")
    offered = asyncio.run(_offered(endpoint, config.llm))
    if config.judge.model not in offered:
        raise ConfigError(
            f"judge.model: the LLM endpoint {endpoint} does not offer {config.judge.model}; it offers "
            f"{', '.join(offered) or 'nothing'}"
        )
    return endpoint


def _has_to_ask(config: Config, judged: str) -> bool:
    """Whether an LLM has verdicts to give: all, those that an interrupted run lacks, or those that failed."""
    if config.judge.backend not in _ASK_LLM:
        return False
    if config.force or not artifacts.is_artifact(judged, "browses"):
        return True
    if not config.judge.retry_failed or not artifacts.read_manifest(judged).metrics.get("failed", 0):
        return False
    return judge_vllm.missing(config) is None if config.judge.backend == "vllm" else config.llm.base_url is not None


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
            "The same command with its endpoint or engines at hand asks for them again",
            judged,
            failed,
            total,
        )


def _ask(config: Config, work: Work, parts: Sequence[Row], endpoint: str | None) -> list[Row]:
    """Judge every reasoning that has no verdict; the parts, each with the judgements that it waits for (Arrow IPC)."""
    store = artifacts.join(work.uri, _STORE)
    reports = each_part(config.ray, "read", parts, functools.partial(_open_part, work=work))
    ids_by_part = [verdicts.unpack(report["ids"]) for report in reports]
    asked = verdicts.to_ask(ids_by_part, verdicts.read(store))
    jobs = [{**row, "ids": ids.tobytes()} for row, ids in zip(parts, asked, strict=True) if len(ids)]
    if jobs:
        _judge_all(config, jobs, sum(map(len, asked)), store, endpoint)
    judgements = verdicts.read(store)
    return [{**row, "judgements": _to_ipc(verdicts.only(judgements, ids))} for row, ids in zip(parts, ids_by_part, strict=True)]


def _judge_all(config: Config, jobs: list[Row], reasonings: int, store: str, endpoint: str | None) -> None:
    """Stream the reasonings that `jobs` name through the judge into the store."""
    import ray.data

    judge = config.judge
    rows_per_batch = max(1, min(_LARGEST_BATCH, judge.concurrency // 2))
    # A batch is done with its slowest row. So twice as many rows as may be in flight stand ready in each replica.
    batches = -(-2 * judge.concurrency // rows_per_batch)
    stream: ray.data.Dataset = ray.data.from_items(jobs, override_num_blocks=len(jobs))
    stream = stream.map_batches(_read_reasonings, batch_size=1, num_cpus=_IO_CPUS)
    stream = stream.repartition(target_num_rows_per_block=rows_per_batch)  # a block is what one replica takes at a time
    if endpoint is None:
        stream = judge_vllm.ask(stream, judge, rows_per_batch, batches)
    else:
        stream = judge_openai.ask(stream, judge, config.llm, endpoint, rows_per_batch, batches)
    # At most about as many verdicts wait to be written as are in flight: files neither too small nor too late.
    write = functools.partial(_write_verdicts, store=store)
    stream = stream.map_batches(write, batch_size=judge.concurrency, batch_format="pyarrow", num_cpus=_IO_CPUS)
    progress, done = Progress("judged", reasonings, "reasonings"), 0
    for row in stream.iter_rows():
        done += row["judgements"]
        progress.update(done)


def _open_part(row: Row, *, work: Work) -> Row:
    """The ids of a part's reasonings that need a judgement: all or, where it was judged before, those that failed."""
    part = row["part"]
    if not work.has(part):
        reasonings = _reasonings(row["browses"])
    elif read_account(work, part).counts["failed"]:
        table = artifacts.read_table(artifacts.join(work.uri, part), ["reasoning", "judge_status"])
        statuses = table["judge_status"].to_pylist()
        reasonings = (text for text, status in zip(table["reasoning"].to_pylist(), statuses, strict=True) if status == "failed")
    else:
        reasonings = iter(())
    return {"ids": verdicts.pack(dict.fromkeys(map(id_of, reasonings)))}


def _reasonings(browses: str) -> Iterator[str]:
    """The reasonings of a part that can be judged."""
    return filter(can_be_judged, artifacts.read_table(browses, ["reasoning"])["reasoning"].to_pylist())


def _read_reasonings(batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """The reasonings that a job names by their ids, once each."""
    (browses,), (packed,) = batch["browses"].tolist(), batch["ids"].tolist()
    asked = {reasoning_id.decode() for reasoning_id in verdicts.unpack(packed)}
    found = {key: reasoning for reasoning in _reasonings(browses) if (key := id_of(reasoning)) in asked}
    return {"reasoning_id": list(found), "reasoning": list(found.values())}


def _write_verdicts(batch: pa.Table, *, store: str) -> dict[str, list[int]]:
    rows = batch.to_pylist()
    fields = Judgement.__dataclass_fields__
    judgements = [
        judge_vllm.failure_of(row) if row.get("__inference_error__") else Judgement(**{name: row[name] for name in fields})
        for row in rows
    ]
    verdicts.write(store, judgements)
    return {"judgements": [len(judgements)]}


def _join_part(row: Row, *, work: Work) -> Row:
    """The browses of one part with their verdicts; a part that was judged before stays unless one of its failures is cured."""
    part = row["part"]
    judgements = verdicts.by_id(_from_ipc(row["judgements"]))
    is_judged = work.has(part)
    if not is_judged or any(judgement.relevant is not None for judgement in judgements.values()):
        uri = artifacts.join(work.uri, part) if is_judged else row["browses"]
        browses = list(from_table(artifacts.read_table(uri), Browse))
        _write(work, part, [_with_judgement(browse, judgements, is_judged) for browse in browses])
    return {"account": read_account(work, part).to_json()}


def _with_judgement(browse: Browse, judgements: dict[str, Judgement], is_judged: bool) -> Browse:
    if not can_be_judged(browse.reasoning) or (is_judged and browse.judge_status != "failed"):
        return browse
    judgement = judgements[id_of(browse.reasoning)]
    return with_verdict(browse, judgement.verdict, judgement.relevance_probability)


def _rule_part(row: Row, *, work: Work, pattern: str | None) -> Row:
    """The browses of one part with the verdicts of a rule, or without any."""
    part = row["part"]
    if not work.has(part):
        browses = from_table(artifacts.read_table(row["browses"]), Browse)
        judged = (
            with_verdict(browse, rule_verdict(browse.reasoning, pattern))
            if pattern is not None and can_be_judged(browse.reasoning)
            else browse
            for browse in browses
        )
        _write(work, part, list(judged))
    return {"account": read_account(work, part).to_json()}


def _write(work: Work, part: str, browses: list[Browse]) -> None:
    write_part(work, part, browses, Browse, rows_in=len(browses), rejected=[], counts=_verdict_counts(browses))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_ipc(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


def _verdict_counts(browses: Iterable[Browse]) -> dict[str, int]:
    counts = Counter(relevant=0, irrelevant=0, failed=0, unjudged=0)
    for browse in browses:
        judged = "relevant" if browse.relevant else "irrelevant"
        counts[judged if browse.judge_status == "judged" else browse.judge_status] += 1
    return dict(counts)
