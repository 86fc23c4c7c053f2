"""Small outcomes, questions and trajectories that the tests of this room share."""

from __future__ import annotations

from typing import Any

from lrat_ray.evaluation.records import Outcome
from lrat_ray.schema import Question, SearchResult, Step, Trajectory


def outcome(arm: str = "base", query_id: str = "q1", **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "training_seed": None,
        "agent": "V",
        "source": "made",
        "seed": 1,
        "success": True,
        "evidence_recall": 1.0,
        "steps": 4,
        "status": "completed",
    }
    return Outcome(arm=arm, query_id=query_id, **{**values, **changes})


def question(query_id: str = "q1", **changes: Any) -> Question:
    values: dict[str, Any] = {
        "question": f"What is {query_id}?",
        "answer": "Paris",
        "evidence_docids": ["d1", "d2"],
        "source": "made",
    }
    return Question(query_id=query_id, **{**values, **changes})


def trajectory(
    query_id: str = "q1", answer: str | None = "Paris", docids: tuple[str, ...] = ("d1",), **changes: Any
) -> Trajectory:
    results = [SearchResult(docid=docid, rank=rank, title=f"Title {docid}") for rank, docid in enumerate(docids, 1)]
    values: dict[str, Any] = {
        "trajectory_id": f"{query_id}-run",
        "question": f"What is {query_id}?",
        "agent": "V",
        "seed": 1,
        "status": "completed",
        "final_answer": answer,
        "steps": [
            Step(turn=0, kind="reasoning", text=f"I look for {query_id}."),
            Step(turn=0, kind="search", executed_query=query_id, results=results),
            Step(turn=1, kind="browse", docid=docids[0] if docids else "d9"),
            Step(turn=2, kind="answer", text=answer),
        ],
    }
    return Trajectory(query_id=query_id, **{**values, **changes})
