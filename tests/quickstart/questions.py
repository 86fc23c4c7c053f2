"""A question of two hops, and what a retriever could show for it."""

from __future__ import annotations

from lrat_ray.schema import Question, Subquestion

FILM = Question(
    query_id="q1",
    question="Where was the director of The Amber Harbour born?",
    answer="Hallmere",
    evidence_docids=["d1", "d2"],
    subquestions=[
        Subquestion(question="Who directed the film The Amber Harbour?", answer="Tomas Verrin", docid="d1"),
        Subquestion(question="Where was Tomas Verrin born?", answer="Hallmere", docid="d2"),
    ],
)
FILM_TEXT = "The Amber Harbour is a film about a bell. It was directed by Tomas Verrin."
PERSON_TEXT = "Tomas Verrin was a painter. He was born in Hallmere, by the sea."
NAMESAKE_TEXT = "Tomas Verrin was a judge. He was born in Coldwick and never left it."
