"""The edge of the room: answers go to the answer judge in parallel, as a Ray Data pipeline that can be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from lrat_ray import artifacts, cluster
from lrat_ray.artifacts import ArtifactError, Manifest, Work, join
from lrat_ray.config import LLM, Config
from lrat_ray.evaluation.answer_judge import UnreadableVerdict, judge_messages, parse_verdict
from lrat_ray.evaluation.records import Verdict, final_response
from lrat_ray.llm import ChatClient, LLMError
from lrat_ray.schema import Question, from_table

_ANSWERS_PER_PART = 256


def judge_answers(config: Config, trajectories: Sequence[str], questions: str) -> Manifest:
    """Judge every distinct (question, response) of the `trajectories` artifacts; writes an artifact of kind "verdicts".

    One row per distinct answer, so that equal answers of any arm and seed get one verdict; a run without an answer has none.
    A call that fails is a row with judge_status "failed" and its reason, and a rerun asks for those again. Raises LLMError
    when the endpoint cannot be reached, ArtifactError when a run's question is not among `questions`.
    """
    output = config.require("output", "verdicts need a directory")
    inputs: dict[str, str | None] = {"questions": questions}
    inputs.update({f"trajectories.{i}": uri for i, uri in enumerate(trajectories)})
    recorded = config.only("evaluate.answer_judge")
    work = artifacts.begin(output, kind="verdicts", config=recorded, inputs=inputs, force=config.force)
    if work.manifest and not work.manifest.metrics["failed"]:
        return work.manifest
    runs, answers = _distinct_answers(trajectories, questions)
    starts = range(0, len(answers), _ANSWERS_PER_PART)
    parts = {f"part-{i:05d}.parquet": answers[start : start + _ANSWERS_PER_PART] for i, start in enumerate(starts)}
    if unfinished := {name: rows for name, rows in parts.items() if _unjudged(work, name, rows)}:
        _judge_parts(config, work, unfinished)
    failed = sum(len(_unjudged(work, name, rows)) for name, rows in parts.items())
    return work.finish(
        parts=list(parts),
        rows={"in": len(answers), "out": len(answers), "rejected": 0},
        metrics={"trajectories": runs, "judged": len(answers) - failed, "failed": failed},
        protocol={"answer_judge": config.evaluate.answer_judge},
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response to be judged, with the question that it answers."""

    question: Question
    response: str


def _distinct_answers(trajectories: Sequence[str], questions: str) -> tuple[int, list[_Answer]]:
    """(number of runs, their distinct answers in an order that does not depend on the runs')."""
    by_id = {question.query_id: question for question in artifacts.read_rows(questions, Question, "questions")}
    runs = 0
    distinct: set[tuple[str, str]] = set()
    for uri in trajectories:
        for part in artifacts.read_manifest(uri, "trajectories").part_uris():
            for row in artifacts.read_table(part).select(["query_id", "final_answer"]).to_pylist():
                runs += 1
                if row["query_id"] not in by_id:
                    raise ArtifactError(f"{part}: question {row['query_id']!r} is not in {questions}, but was asked")
                if response := final_response(row["final_answer"]):
                    distinct.add((row["query_id"], response))
    return runs, [_Answer(by_id[query_id], response) for query_id, response in sorted(distinct)]


def _unjudged(work: Work, part: str, answers: Sequence[_Answer]) -> list[_Answer]:
    """The answers of a part that have no verdict yet."""
    judged = {(verdict.query_id, verdict.response) for verdict in _judged(work, part)}
    return [answer for answer in answers if (answer.question.query_id, answer.response) not in judged]


def _judged(work: Work, part: str) -> list[Verdict]:
    """The verdicts that an earlier run wrote."""
    if not work.has(part):
        return []
    rows = from_table(artifacts.read_table(join(work.uri, part)), Verdict)
    return [verdict for verdict in rows if verdict.judge_status == "judged"]


def _judge_parts(config: Config, work: Work, parts: dict[str, list[_Answer]]) -> None:
    """Write these parts, one after the other, each with `evaluate.concurrency` requests in flight."""
    base_url = config.require("llm.base_url", "the answer judge needs an OpenAI-compatible endpoint")
    asyncio.run(_check_endpoint(config.llm, base_url))
    cluster.connect(config.ray)
    import ray

    def judge_part(row: dict[str, str]) -> dict[str, str]:
        name = row["part"]
        asking = _ask_all(config, base_url, _unjudged(work, name, parts[name]))
        work.write_rows(name, [*_judged(work, name), *asyncio.run(asking)], Verdict)
        return row

    dataset = ray.data.from_items([{"part": name} for name in parts], override_num_blocks=len(parts))
    dataset.map(judge_part, num_cpus=0.5, compute=ray.data.TaskPoolStrategy(size=1)).materialize()


async def _check_endpoint(config: LLM, base_url: str) -> None:
    client = ChatClient(config, base_url)
    try:
        await client.model_names()
    finally:
        await client.aclose()


async def _ask_all(config: Config, base_url: str, answers: Sequence[_Answer]) -> list[Verdict]:
    client = ChatClient(config.llm, base_url)
    slots = asyncio.Semaphore(config.evaluate.concurrency)

    async def ask(answer: _Answer) -> Verdict:
        query_id, response = answer.question.query_id, answer.response
        async with slots:
            try:
                reply = await client.complete(
                    model=config.evaluate.answer_judge, messages=judge_messages(answer.question, response), temperature=0.0
                )
                correct = parse_verdict(reply.content)
            except (LLMError, UnreadableVerdict) as error:
                return Verdict(
                    query_id=query_id, response=response, correct=None, judge_status="failed", judge_error=str(error)
                )
        return Verdict(query_id=query_id, response=response, correct=correct, judge_status="judged")

    try:
        return await asyncio.gather(*(ask(answer) for answer in answers))
    finally:
        await client.aclose()
