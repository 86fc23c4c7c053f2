from __future__ import annotations

import pytest

from lrat_ray.quickstart.plans import PlanError, Plans, plan, worded
from lrat_ray.schema import Question, Subquestion
from tests.quickstart.questions import FILM


@pytest.mark.parametrize(
    ("subquestion", "question"),
    [
        ("Van Hook Township >> capital", "What is the capital of Van Hook Township?"),
        ("Rowan County >> shares border with", "What shares a border with Rowan County?"),
        (
            "Cleveland >> located in the administrative territorial entity",
            "In which administrative territorial entity is Cleveland located?",
        ),
        ("who sang hungry eyes", "who sang hungry eyes"),
    ],
)
def test_triples_are_worded_as_questions(subquestion: str, question: str) -> None:
    assert worded(subquestion) == question


def test_a_hop_needs_the_earlier_answers_that_it_mentions() -> None:
    assert [hop.needs for hop in plan(FILM).hops] == [(), (0,)]


def test_an_answer_that_the_question_names_is_not_needed() -> None:
    named = Question(
        query_id="q",
        question="Tomas Verrin made The Amber Harbour. Where was he born?",
        answer="Hallmere",
        subquestions=FILM.subquestions,
    )
    assert [hop.needs for hop in plan(named).hops] == [(), ()]


def test_plans_hold_no_docids() -> None:
    assert "d1" not in repr(plan(FILM)) and "d2" not in repr(plan(FILM))


def test_plans_are_found_by_the_text_of_the_question() -> None:
    without = Question(query_id="q2", question="Unplanned?", answer="x")
    plans = Plans([FILM, without])
    assert len(plans) == 1
    assert plans.find("where was the director of The Amber Harbour born").answer == "Hallmere"
    with pytest.raises(PlanError, match=r"no plan for the question 'Unplanned\?' \(it knows 1\)"):
        plans.find("Unplanned?")


def test_repeated_answers_need_every_hop_that_gave_them() -> None:
    parts = [Subquestion(question=q, answer=a) for q, a in (("A?", "Kel"), ("B?", "Kel"), ("And Kel?", "Tarn"))]
    asked = Question(query_id="q", question="Which one?", answer="Tarn", subquestions=parts)
    assert plan(asked).hops[2].needs == (0, 1)
