"""The rules of the simulated agent, with the noise of its browse choice switched off where a rule is at stake."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lrat_ray.quickstart.plans import plan
from lrat_ray.quickstart.simulated_agent import (
    Agent,
    Answer,
    Browsed,
    Candidate,
    Open,
    Search,
    Searched,
    Strength,
    next_action,
    query_style,
    recall_events,
)
from tests.quickstart.questions import FILM, FILM_TEXT, NAMESAKE_TEXT, PERSON_TEXT

PLAN = plan(FILM)
AGENT = Agent(name="simulated-V", styles=("a", "b", "c", "d"), seed=1, strength=Strength(browse_noise=0.0))
FILM_PAGE = Candidate("1", "The Amber Harbour", FILM_TEXT)
PERSON_PAGE = Candidate("2", "Tomas Verrin (painter)", PERSON_TEXT)
NAMESAKE_PAGE = Candidate("3", "Tomas Verrin (judge)", NAMESAKE_TEXT)
OTHER_PAGE = Candidate("4", "Pottery", "Pots are made of clay.")


def act(*events: Searched | Browsed, agent: Agent = AGENT) -> Search | Open | Answer:
    return next_action(PLAN, agent, recall_events(PLAN, agent, events))


def test_begins_with_the_first_subquestion() -> None:
    assert act() == Search(hop=0, attempt=0)


def test_opens_what_looks_right_and_leaves_the_rest() -> None:
    assert act(Searched((OTHER_PAGE, FILM_PAGE))) == Open(FILM_PAGE)
    assert act(Searched((OTHER_PAGE,))) == Search(hop=0, attempt=1)


def test_moves_on_once_the_answer_was_read() -> None:
    events = (Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT))
    assert act(*events) == Search(hop=1, attempt=0)


def test_a_dependent_subquestion_is_not_asked_after_two_failed_searches() -> None:
    assert act(Searched(()), Searched(())) == Answer("unknown")


def test_reads_at_most_two_candidates_of_a_search() -> None:
    first = (Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT))
    pages = tuple(Candidate(f"n{i}", f"Tomas Verrin ({i})", NAMESAKE_TEXT) for i in range(4))
    searched = act(*first, Searched(pages))
    assert isinstance(searched, Open)
    once = (*first, Searched(pages), Browsed(searched.candidate.docid, NAMESAKE_TEXT))
    again = act(*once)
    assert isinstance(again, Open) and again != searched
    assert act(*once, Browsed(again.candidate.docid, NAMESAKE_TEXT)) == Search(hop=1, attempt=1)


def test_does_not_open_a_page_twice() -> None:
    events = (Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT))
    assert act(*events, Searched((FILM_PAGE, PERSON_PAGE))) == Open(PERSON_PAGE)


def test_answers_when_every_subanswer_was_found() -> None:
    events = (Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT), Searched((PERSON_PAGE,)), Browsed("2", PERSON_TEXT))
    assert act(*events) == Answer("Hallmere")


def test_one_document_may_settle_two_subquestions() -> None:
    both = f"{FILM_TEXT} {PERSON_TEXT}"
    assert act(Searched((FILM_PAGE,)), Browsed("1", both)) == Answer("Hallmere")


def test_a_namesake_is_on_topic_and_no_answer() -> None:
    events = (Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT), Searched((NAMESAKE_PAGE,)), Browsed("3", NAMESAKE_TEXT))
    assert recall_events(PLAN, AGENT, events).finding == "on topic"
    assert recall_events(PLAN, AGENT, (*events[:-1], Browsed("3", "Pots are made of clay."))).finding == "off topic"


def test_an_answer_in_a_text_about_something_else_is_not_recognised() -> None:
    events = (Searched((FILM_PAGE,)), Browsed("1", "Tomas Verrin likes pottery."))
    assert recall_events(PLAN, AGENT, events).found == {}


def test_stops_after_all_its_steps() -> None:
    hasty = replace(AGENT, strength=Strength(steps=2, browse_noise=0.0))
    assert act(Searched((FILM_PAGE,)), Browsed("1", FILM_TEXT), agent=hasty) == Answer("unknown")


@given(st.permutations([FILM_PAGE, PERSON_PAGE, NAMESAKE_PAGE, OTHER_PAGE]), st.integers(0, 50))
def test_the_order_of_results_has_no_influence(shown: list[Candidate], seed: int) -> None:
    noisy = Agent(name="simulated-V", styles=("a",), seed=seed)
    assert act(Searched(tuple(shown)), agent=noisy) == act(
        Searched((FILM_PAGE, PERSON_PAGE, NAMESAKE_PAGE, OTHER_PAGE)), agent=noisy
    )


@given(st.permutations(["1", "2", "3", "4"]), st.integers(0, 50))
def test_docids_have_no_influence(docids: list[str], seed: int) -> None:
    noisy = Agent(name="simulated-V", styles=("a",), seed=seed)
    pages = (FILM_PAGE, PERSON_PAGE, NAMESAKE_PAGE, OTHER_PAGE)
    renamed = tuple(replace(page, docid=docid) for page, docid in zip(pages, docids, strict=True))
    before, after = act(Searched(pages), agent=noisy), act(Searched(renamed), agent=noisy)
    assert type(before) is type(after)
    if isinstance(before, Open) and isinstance(after, Open):
        assert before.candidate.title == after.candidate.title


def test_styles_are_drawn_evenly_whatever_the_retriever_shows() -> None:
    drawn = [query_style(PLAN, replace(AGENT, seed=seed), Search(0, 0)) for seed in range(2000)]
    assert all(400 < drawn.count(style) < 600 for style in AGENT.styles)
