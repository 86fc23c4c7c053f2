"""BrowseComp-Plus run files, read into the normal form and written back: the format of the published LRAT trajectories.

A run file is one JSON object per question: `query_id`, `query`, `status`, `metadata`, and `result`, a list of
`{type: reasoning | tool_call | output_text, tool_name, arguments, output}`. Clients differ in how they fill it (arguments as
an object or as JSON text, results as text blocks or as a JSON list, docids as numbers, lists or `prefix:id`); here they meet.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from lrat_ray.schema import Step, Trajectory
from lrat_ray.trajectories.calls import ToolCalls
from lrat_ray.trajectories.dialect import Dialect
from lrat_ray.trajectories.head import correct_of
from lrat_ray.trajectories.json_text import as_text, count, expect, first

_RESULT = "result"
_ENTRY_TYPES = {"reasoning": "reasoning", "answer": "output_text"}
_UNKNOWN = "unknown"


def matches(record: dict[str, Any]) -> bool:
    """Whether a record looks like a run file."""
    return _RESULT in record and "query_id" in record


def parse(record: Any, trajectory_id: str, dialect: Dialect) -> Trajectory:
    """A run file's JSON as a trajectory; entry i of `result` becomes step i. Raises LogError when the object is no run file.

    With `dialect.texts`, `to_run_file` gives back the same object: `Trajectory.metadata` is its top level (null in place of
    `result`), and `Step.raw` an entry that the other fields would not write as it was.
    """
    run = expect(record, dict, "top level")
    calls = ToolCalls(dialect)
    steps: list[Step] = []
    turn = 0
    for number, entry in enumerate(expect(run.get(_RESULT), list, _RESULT)):
        position = f"result[{number}]"
        entry_type = expect(expect(entry, dict, position).get("type"), str, f"{position}.type")
        output = entry.get("output")
        if entry_type == "reasoning":
            step = Step(turn=turn, kind="reasoning", text=as_text(output))
        elif entry_type == "output_text":
            step = Step(turn=turn, kind="answer", text=as_text(output))
        else:
            name = as_text(entry.get("tool_name"))
            step = calls.step(name, entry.get("arguments"), output, turn=turn, position=f"{position}.output")
            turn += entry_type == "tool_call"  # the log does not mark LLM calls: a tool's answer starts the next one
        if dialect.texts and _entry(step) != entry:
            step = replace(step, raw=json.dumps(entry, ensure_ascii=False))
        steps.append(step)
    metadata = run["metadata"] if isinstance(run.get("metadata"), dict) else {}
    answers = [step.text for step in steps if step.kind == "answer"]
    return Trajectory(
        trajectory_id=trajectory_id,
        query_id=str(expect(run.get("query_id"), str | int, "query_id")),
        question=expect(run.get("query") or "", str, "query"),
        agent=_named(metadata.get("model")),
        status=_named(run.get("status")),
        steps=steps,
        seed=count(metadata.get("seed")) or 0,
        release_id=first(metadata, ["release_id"]),
        protocol=first(metadata, ["protocol"]),
        final_answer=answers[-1] if answers else None,
        correct=correct_of(run)[0],
        metadata=_top_level(run) if dialect.texts else None,
    )


def to_run_file(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as the JSON object of a run file: the one that it was read from, or a new one for any other origin.

    A new one counts calls by tool name, and lists what the searches showed as `retrieved_docids`. What a log of another format
    had at its top level is kept there.
    """
    entries = [json.loads(step.raw) if step.raw is not None else _entry(step) for step in trajectory.steps]
    logged = json.loads(trajectory.metadata) if trajectory.metadata is not None else {}
    if _RESULT in logged:
        return {name: entries if name == _RESULT else value for name, value in logged.items()}
    metadata = logged.pop("metadata", None)
    columns = {
        "model": trajectory.agent,
        "trajectory_id": trajectory.trajectory_id,
        "seed": trajectory.seed,
        "release_id": trajectory.release_id,
        "protocol": trajectory.protocol,
    }
    run: dict[str, Any] = {
        "metadata": {
            **(metadata if isinstance(metadata, dict) else {}),
            **{name: value for name, value in columns.items() if value is not None},
        },
        "query_id": trajectory.query_id,
        "tool_call_counts": dict(Counter(step.tool_name for step in trajectory.steps if step.tool_name)),
        "status": trajectory.status,
        "retrieved_docids": sorted({result.docid for step in trajectory.steps for result in step.results}),
        _RESULT: entries,
        "query": trajectory.question,
    }
    if trajectory.correct is not None:
        run["correct"] = trajectory.correct
    return {**logged, **run}


def _named(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)


def _entry(step: Step) -> dict[str, Any]:
    """A step as an entry of `result`, in the form in which most run files have it."""
    if entry_type := _ENTRY_TYPES.get(step.kind):
        return {"type": entry_type, "tool_name": None, "arguments": None, "output": step.text or ""}
    return {
        "type": "tool_call",
        "tool_name": step.tool_name or "",
        "arguments": step.arguments or "",
        "output": step.output if step.output or not step.results else _listed(step),
    }


def _listed(step: Step) -> str:
    """The results of a search as JSON, where the log has no text of them."""
    results = [{"docid": r.docid, "score": r.score, "title": r.title, "snippet": r.snippet} for r in step.results]
    return json.dumps(
        [{name: value for name, value in result.items() if value is not None} for result in results], ensure_ascii=False
    )


def _top_level(run: dict[str, Any]) -> str:
    return json.dumps({name: None if name == _RESULT else value for name, value in run.items()}, ensure_ascii=False)
