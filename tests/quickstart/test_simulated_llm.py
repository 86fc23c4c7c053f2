from __future__ import annotations

import json
from typing import Any

import pytest

from lrat_ray.agents.tools import format_document, format_results
from lrat_ray.evaluation import answer_judge
from lrat_ray.mining import judge
from lrat_ray.quickstart.plans import PlanError, Plans
from lrat_ray.quickstart.simulated_judges import JudgeError
from lrat_ray.quickstart.simulated_llm import RequestError, model_names, respond
from lrat_ray.schema import Document, SearchResult
from tests.quickstart.questions import FILM, FILM_TEXT, PERSON_TEXT

PLANS = Plans([FILM])
DOCUMENTS = {
    "77": Document(docid="77", title="The Amber Harbour", text=FILM_TEXT),
    "78": Document(docid="78", title="Tomas Verrin", text=PERSON_TEXT),
    "79": Document(docid="79", title=None, text="Pots are made of clay.\n\nDocID is a word in this text, [not] a result."),
}


def request(*messages: dict[str, Any], model: str = "simulated-X", seed: int = 1) -> dict[str, Any]:
    return {"model": model, "seed": seed, "messages": [{"role": "user", "content": FILM.question}, *messages]}


def converse(score: float | None = None, model: str = "simulated-X") -> list[dict[str, Any]]:
    """The messages of a whole conversation in which every search shows all documents."""
    messages: list[dict[str, Any]] = []
    for _ in range(20):
        message = respond(request(*messages, model=model), PLANS)["choices"][0]["message"]
        messages.append(message)
        if "tool_calls" not in message:
            return messages
        call = message["tool_calls"][0]
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "search":
            results = [
                SearchResult(docid=d.docid, rank=rank, score=score, title=d.title, snippet=d.text)
                for rank, d in enumerate(DOCUMENTS.values(), start=1)
            ]
            output = format_results(results)
        else:
            output = format_document(DOCUMENTS[arguments["docid"]])
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})
    raise AssertionError("the simulated agent did not stop")


def test_a_conversation_ends_with_the_answer() -> None:
    messages = converse()
    calls = [m["tool_calls"][0]["function"] for m in messages if "tool_calls" in m]
    assert messages[-1]["content"] == "Hallmere"
    assert "search" in [c["name"] for c in calls] and "77" in str(calls) and "78" in str(calls)
    assert all(m["reasoning"] for m in messages if m["role"] == "assistant")


def test_the_same_request_gets_the_same_response() -> None:
    assert converse() == converse()
    assert respond(request(seed=1), PLANS) == respond(request(seed=1), PLANS)


def test_scores_are_never_shown() -> None:
    assert converse(score=0.123456) == converse(score=None)


def test_responses_are_in_openai_form_and_labelled() -> None:
    response = respond(request(), PLANS)
    assert response["object"] == "chat.completion" and response["system_fingerprint"] == "simulated"
    assert response["choices"][0]["finish_reason"] == "tool_calls"
    usage = response["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_a_request_to_stop_is_obeyed() -> None:
    stop = {"role": "user", "content": "All 2 tool calls are used up. Give your final answer now."}
    message = respond(request(*converse()[:2], stop), PLANS)["choices"][0]["message"]
    assert message["content"] == "unknown" and "tool_calls" not in message


def test_failed_tools_count_as_failed_searches() -> None:
    call = respond(request(), PLANS)["choices"][0]["message"]
    failed = {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "Error: no"}
    again = respond(request(call, failed), PLANS)["choices"][0]["message"]
    assert again["tool_calls"][0]["function"]["name"] == "search"


def test_models() -> None:
    assert {"simulated-V", "simulated-W-358B", "simulated-relevance-judge", "simulated-answer-judge"} <= set(model_names())
    for name in model_names()[:-2]:
        assert respond(request(model=name), PLANS)["model"] == name


@pytest.mark.parametrize("model", ["gpt-x", "simulated", "simulated-Q", "simulated-V-5B"])
def test_unknown_model(model: str) -> None:
    with pytest.raises(RequestError, match="unknown model .* offers simulated-V"):
        respond(request(model=model), PLANS)


def test_requests_that_cannot_be_answered() -> None:
    with pytest.raises(RequestError, match="needs a model and messages"):
        respond({"model": "simulated-V"}, PLANS)
    with pytest.raises(RequestError, match="no message has the role user"):
        respond({"model": "simulated-V", "messages": [{"role": "system", "content": "x"}]}, PLANS)
    with pytest.raises(RequestError, match="answers no call"):
        respond(request({"role": "tool", "tool_call_id": "nobody", "content": "x"}), PLANS)
    with pytest.raises(PlanError):
        respond({"model": "simulated-V", "messages": [{"role": "user", "content": "Something else?"}]}, PLANS)


@pytest.mark.parametrize(("reasoning", "relevant"), [("Here it is.", True), ("This page does not help with this.", False)])
def test_relevance_judge_answers_the_prompt_of_mining(reasoning: str, relevant: bool) -> None:
    asked = {"model": "simulated-relevance-judge", "messages": judge.judge_messages(reasoning)}
    assert judge.parse_verdict(respond(asked, PLANS)["choices"][0]["message"]["content"]) is relevant


@pytest.mark.parametrize(
    ("response", "correct"), [("Hallmere", True), ("It is hallmere.", True), ("unknown", False), ("Hallmeres", False)]
)
def test_answer_judge_answers_the_prompt_of_evaluation(response: str, correct: bool) -> None:
    asked = {"model": "simulated-answer-judge", "messages": answer_judge.judge_messages(FILM, response)}
    assert answer_judge.parse_verdict(respond(asked, PLANS)["choices"][0]["message"]["content"]) is correct


def test_answer_judge_needs_its_fields() -> None:
    with pytest.raises(JudgeError, match="question, answer, aliases and response"):
        respond({"model": "simulated-answer-judge", "messages": [{"role": "user", "content": "{}"}]}, PLANS)
