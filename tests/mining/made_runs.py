"""Made trajectories of known behaviour for the tests of the analysis: outcomes, evidence, a liking for the top or none."""

from __future__ import annotations

import numpy as np

from lrat_ray.schema import Question, SearchResult, Step, Trajectory

_WORDS = ("this", "document", "says", "what", "was", "asked", "and", "names", "a", "place")


def made_questions(number: int) -> list[Question]:
    """Questions q0, q1 ... with two documents of evidence each, d<question>-0 and d<question>-1."""
    return [
        Question(query_id=f"q{i}", question=f"Question {i}?", answer="yes", evidence_docids=[f"d{i}-0", f"d{i}-1"])
        for i in range(number)
    ]


def made_runs(
    number: int, *, agents: tuple[str, ...] = ("agent-4B",), top_heavy: bool = True, seed: int = 0
) -> list[Trajectory]:
    """One run of each agent on each of the questions, that searches two to six times and opens up to one document a time.

    Evidence is shown at a random rank. top_heavy: documents are opened by rank (1/rank), else all ranks alike; evidence is then
    three times as likely. Success is likelier with evidence opened, and reasoning about evidence is longer.
    """
    generator = np.random.default_rng(seed)
    return [_run(generator, i, agent, top_heavy) for i in range(number) for agent in agents]


def _run(generator: np.random.Generator, question: int, agent: str, top_heavy: bool) -> Trajectory:
    steps: list[Step] = []
    turn, opened = 0, set()
    for search in range(int(generator.integers(2, 7))):
        docids = [f"d{question}-{n}" for n in generator.permutation(30)[:10]]
        results = [SearchResult(docid=docid, rank=rank) for rank, docid in enumerate(docids, start=1)]
        steps.append(Step(turn=turn, kind="reasoning", text="where to look"))
        steps.append(Step(turn=turn, kind="search", executed_query=f"query {search}", results=results))
        turn += 1
        if generator.random() < 0.7:
            evidence = np.array([docid.endswith(("-0", "-1")) for docid in docids])
            odds = (1 / np.arange(1, 11) if top_heavy else np.ones(10)) * np.where(evidence, 3, 1)
            docid = docids[int(generator.choice(10, p=odds / odds.sum()))]
            opened.add(docid)
            length = int(generator.lognormal(4.0 if docid.endswith(("-0", "-1")) else 3.3, 0.8)) + 1
            steps.append(Step(turn=turn, kind="browse", docid=docid))
            turn += 1
            steps.append(Step(turn=turn, kind="reasoning", text=" ".join(generator.choice(_WORDS, length))))
    found = len(opened & {f"d{question}-0", f"d{question}-1"})
    correct = bool(generator.random() < (0.2, 0.65, 0.9)[found])
    is_finished = correct or generator.random() < 0.7
    if is_finished:
        steps.append(Step(turn=turn, kind="answer", text="yes" if correct else "no"))
    return Trajectory(
        trajectory_id=f"{agent}-q{question}",
        query_id=f"q{question}",
        question=f"Question {question}?",
        agent=agent,
        release_id="bm25" if question % 2 else "dense",
        status="completed" if is_finished else "max steps",
        steps=steps,
        correct=correct,
    )
