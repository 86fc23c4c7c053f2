"""The head of a trajectory: what a record says about the run as a whole, under the names that logs use for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lrat_ray.schema import Step, Trajectory
from lrat_ray.trajectories.dialect import Dialect
from lrat_ray.trajectories.json_text import count, expect, first

QUESTION = ("question", "query")
_QUERY_ID = ("query_id", "question_id", "id")
_AGENT = ("agent", "model")
_STATUS = ("status", "termination")
_ANSWER = ("final_answer", "prediction")
_CORRECT = ("correct", "is_correct")
_OTHERS = ("trajectory_id", "seed", "release_id", "protocol")
_KNOWN = frozenset((*QUESTION, *_QUERY_ID, *_AGENT, *_STATUS, *_ANSWER, *_CORRECT, *_OTHERS))


def correct_of(record: dict[str, Any]) -> tuple[bool | None, str]:
    """Whether the answer was judged correct (true and false, or 1 and 0), and the key that says so; None where none does."""
    for name in _CORRECT:
        value = record.get(name)
        if isinstance(value, int | float) and value in (0, 1):
            return bool(value), name
    return None, ""


def assemble(
    record: dict[str, Any],
    steps: list[Step],
    trajectory_id: str,
    dialect: Dialect,
    *,
    body: Sequence[str],
    question: str = "",
    agent: str | None = None,
) -> Trajectory:
    """A trajectory from its steps and the record that held them.

    body: the keys that became steps; those whose value became no column are kept as `metadata`, if `dialect.texts`. question
    and agent: what the steps say, where the record does not. A record without a query_id is a question of its own, one without
    a status "completed" if it has an answer. Raises LogError for a query_id or a question that is none.
    """
    for name, kind in (("query_id", str | int), ("question", str)):
        if record.get(name) is not None:
            expect(record[name], kind, name)
    used = set(body)

    def take(names: Sequence[str], kind: Any = str) -> Any:
        for name in names:
            if (value := first(record, [name], kind)) is not None:
                used.add(name)
                return value
        return None

    final_answer = take(_ANSWER) or next((step.text for step in reversed(steps) if step.kind == "answer"), None)
    query_id, status = take(_QUERY_ID, str | int), take(_STATUS)
    asked, by = take(QUESTION), take(_AGENT)
    release_id, protocol = take(["release_id"]), take(["protocol"])
    correct, correct_name = correct_of(record)
    seed = count(record.get("seed"))
    used.update((correct_name, "" if seed is None else "seed"))
    if record.get("trajectory_id") == trajectory_id:
        used.add("trajectory_id")
    used.update(name for name in _KNOWN if record.get(name) is None)  # null says nothing
    metadata = {name: value for name, value in record.items() if name not in used}
    return Trajectory(
        trajectory_id=trajectory_id,
        query_id=trajectory_id if query_id is None else str(query_id),
        question=asked or question,
        agent=by or agent or "unknown",
        status=status or ("unknown" if final_answer is None else "completed"),
        steps=steps,
        seed=seed or 0,
        release_id=release_id,
        protocol=protocol,
        final_answer=final_answer,
        correct=correct,
        metadata=json.dumps(metadata, ensure_ascii=False) if metadata and dialect.texts else None,
    )
