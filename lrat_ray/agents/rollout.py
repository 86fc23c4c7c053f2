"""Many agent runs in parallel: Ray actors that each keep some trajectories in flight and write them part by part."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow.parquet as pq
import ray

from lrat_ray import artifacts, cluster, questions
from lrat_ray.agents.loop import run_agent
from lrat_ray.agents.tools import GET_DOCUMENT, SEARCH
from lrat_ray.artifacts import Manifest, Work
from lrat_ray.config import Config
from lrat_ray.llm import ChatClient
from lrat_ray.progress import Progress
from lrat_ray.retrieval.client import SearchClient
from lrat_ray.schema import Question, Trajectory

_POLL_S = 5.0
_PARTS_PER_ACTOR = 2  # the next part fills the gaps while the last runs of a part finish


class RolloutError(ValueError):
    """A rollout that cannot start or cannot be trusted; the message says why and what to do."""


@dataclass(frozen=True)
class Part:
    """Questions [start, stop) asked of one agent with one seed, and the file that will hold the trajectories."""

    name: str
    agent: str
    seed: int
    start: int
    stop: int


def parts(agents: Sequence[str], seeds: Sequence[int], count: int, questions_per_part: int) -> list[Part]:
    """How a rollout over `count` questions is cut; the same for every run with the same configuration."""
    return [
        Part(
            name=f"part-{agent.replace('/', '_')}-seed{seed}-{start // questions_per_part:05d}.parquet",
            agent=agent,
            seed=seed,
            start=start,
            stop=min(start + questions_per_part, count),
        )
        for agent in agents
        for seed in seeds
        for start in range(0, count, questions_per_part)
    ]


def run(config: Config) -> Manifest:
    """Ask `questions.eval` (a questions artifact) of every agent with every rollout seed; writes a trajectories artifact.

    An interrupted rollout continues at the first part that is missing. A run that fails is kept, with its status. Raises
    RolloutError when the endpoint does not offer an agent or when trajectories come from more than one release, LLMError and
    RetrieverError when a service cannot be reached at the start.
    """
    output = config.require("output", "a rollout needs a directory to write trajectories to")
    source = config.require("questions.eval", "a rollout needs questions to ask")
    # Before the output is touched: a mistyped agent should not leave a directory that the right one cannot continue.
    serving = (
        asyncio.run(_check_services(config)) if config.force or not artifacts.is_artifact(output, "trajectories") else None
    )
    keys = ("agent.names", "agent.k", "agent.max_steps", "rollout.seeds", "rollout.questions_per_part")
    work = artifacts.begin(
        output, kind="trajectories", config=config.only(*keys), inputs={"questions.eval": source}, force=config.force
    )
    if work.manifest:
        return work.manifest
    asked = questions.read(source)
    wanted = parts(config.agent.names, config.rollout.seeds, len(asked), config.rollout.questions_per_part)
    if missing := [part for part in wanted if not work.has(part.name)]:
        _check_release(work, [part for part in wanted if part not in missing], serving)
        _roll_out(config, work, asked, missing)
    summary = _summary(work, wanted)
    return work.finish(
        parts=[part.name for part in wanted],
        rows={"in": summary["trajectories"], "out": summary["trajectories"], "rejected": 0},
        metrics=summary,
        protocol={
            "agents": list(config.agent.names),
            "seeds": list(config.rollout.seeds),
            "k": config.agent.k,
            "max_steps": config.agent.max_steps,
            "tools": [SEARCH, GET_DOCUMENT],
            "release_id": _check_release(work, wanted, None),
        },
    )


async def _check_services(config: Config) -> str:
    """The release that the retriever serves. Raises when retriever or LLM cannot be reached, or an agent is not offered."""
    search, chat = _clients(config)
    try:
        health = await search.health()
        offered = await chat.model_names()
    finally:
        await search.aclose()
        await chat.aclose()
    if unknown := [name for name in config.agent.names if name not in offered]:
        raise RolloutError(
            f"agent.names: the LLM endpoint {config.llm.base_url} does not offer {', '.join(unknown)}; it offers "
            f"{', '.join(offered) or 'nothing'}"
        )
    return str(health["release_id"])


def _clients(config: Config) -> tuple[SearchClient, ChatClient]:
    retriever_url = config.require("rollout.retriever_url", "agents need a retriever; `lrat serve --release DIR` starts one")
    base_url = config.require("llm.base_url", "agents need an LLM; `lrat serve-llm` starts the simulated one")
    return SearchClient(retriever_url), ChatClient(config.llm, base_url)


def _roll_out(config: Config, work: Work, asked: list[Question], missing: list[Part]) -> None:
    """Run the missing parts on actors, and show how far they are."""
    cluster.connect(config.ray)
    count = min(config.rollout.num_actors, len(missing))
    new_actor = RolloutActor.remote  # type: ignore[attr-defined]  # the decorator makes it an ActorClass
    actors = [new_actor(config, work.uri, asked) for _ in range(count)]
    waiting = iter(missing)
    total, done = sum(part.stop - part.start for part in missing), 0
    running: dict[Any, Any] = {}
    progress = Progress("rollout", total, "runs")
    try:
        for actor in actors * _PARTS_PER_ACTOR:
            _start_next(actor, waiting, running)
        while running:
            finished, _ = ray.wait(list(running), timeout=_POLL_S)
            for reference in finished:
                actor = running.pop(reference)
                done += ray.get(reference)
                _start_next(actor, waiting, running)
            under_way = sum(ray.get([actor.finished_runs.remote() for actor in actors]))
            progress.update(max(done, under_way))
    finally:
        for actor in actors:
            ray.kill(actor)


def _start_next(actor: Any, waiting: Iterator[Part], running: dict[Any, Any]) -> None:
    if (part := next(waiting, None)) is not None:
        running[actor.run_part.remote(part)] = actor


@ray.remote(num_cpus=0.5, max_restarts=2, max_task_retries=2)
class RolloutActor:
    """Runs parts on one event loop, with at most `rollout.concurrency` trajectories in flight."""

    def __init__(self, config: Config, output: str, asked: list[Question]):
        self._config, self._output, self._asked = config, output, asked
        self._search, self._chat = _clients(config)
        self._slots = asyncio.Semaphore(config.rollout.concurrency)
        self._finished = 0

    async def run_part(self, part: Part) -> int:
        """Write the trajectories of a part; returns how many. A part that is run again gives the same file."""
        runs = [self._run(question, part) for question in self._asked[part.start : part.stop]]
        trajectories = await asyncio.gather(*runs)
        work = Work(self._output, "trajectories", {}, {})
        await asyncio.to_thread(work.write_rows, part.name, trajectories, Trajectory)
        return len(trajectories)

    async def finished_runs(self) -> int:
        return self._finished

    async def _run(self, question: Question, part: Part) -> Trajectory:
        async with self._slots:
            trajectory = await run_agent(
                question,
                model=part.agent,
                seed=part.seed,
                chat=self._chat,
                search=self._search,
                k=self._config.agent.k,
                max_steps=self._config.agent.max_steps,
            )
        self._finished += 1
        return trajectory


def _check_release(work: Work, written: Sequence[Part], serving: str | None) -> str | None:
    """The one release behind these parts (and the one being served). Raises RolloutError if there are several."""
    found = {value for part in written for value in _column(work, part, "release_id") if value is not None}
    releases = found | ({serving} if serving is not None else set())
    if len(releases) > 1:
        raise RolloutError(
            f"{work.uri}: trajectories come from several releases ({', '.join(sorted(releases))}), so they measure none of "
            "them. Serve the release that the rollout began with, or start over with --force"
        )
    return next(iter(releases), None)


def _summary(work: Work, written: Sequence[Part]) -> dict[str, Any]:
    """Counts by status and mean numbers of calls, read back from the parts: earlier runs may have written some of them."""
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for part in written:
        statuses.update(_column(work, part, "status"))
        for steps in _column(work, part, "steps.list.element.kind"):
            kinds.update(step["kind"] for step in steps)
    runs = statuses.total()
    calls = {"avg_searches": kinds["search"], "avg_browses": kinds["browse"], "avg_steps": kinds["search"] + kinds["browse"]}
    return {
        "trajectories": runs,
        "by_status": dict(statuses.most_common()),
        **{name: round(count / runs, 3) if runs else 0.0 for name, count in calls.items()},
    }


def _column(work: Work, part: Part, name: str) -> list[Any]:
    """One column of a part, without reading the texts beside it."""
    with fsspec.open(artifacts.join(work.uri, part.name), "rb") as file:
        return list(pq.ParquetFile(file).read(columns=[name]).column(0).to_pylist())
