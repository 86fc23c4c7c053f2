"""Run files of every client that we know, and what is no run file at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrat_ray.schema import SearchResult, Step, Trajectory
from lrat_ray.trajectories import run_files
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.run_files import to_run_file


def parse(data: Any) -> Trajectory:
    return run_files.parse(data, "t", Dialect())


def step_of(entry: dict[str, Any], *before: dict[str, Any]) -> Step:
    return parse({"query_id": "1", "result": [*before, entry]}).steps[-1]


def call(tool: str, arguments: Any, output: Any = "") -> dict[str, Any]:
    return {"type": "tool_call", "tool_name": tool, "arguments": arguments, "output": output}


SHOWS_7 = call("search", {"query": "q"}, "DocID:7\n[T]\nT\ntext")


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ('{"query": "a"}', ["a"]),
        ({"query": "a"}, ["a"]),
        ({"query": ["a", "b"]}, ["a", "b"]),
        ({"user_query": "a"}, ["a"]),
        ({"query": [3]}, ["3"]),
    ],
)
def test_only_the_first_of_several_queries_was_executed(arguments: Any, queries: list[str]) -> None:
    step = step_of(call("search", arguments))
    assert (step.kind, step.queries, step.executed_query, step.error) == ("search", queries, queries[0], None)


@pytest.mark.parametrize("docid", ["7", 7, ["7"], [7, 8], "wiki:7", " 7 "])
@pytest.mark.parametrize("tool", ["get_document", "visit"])
def test_a_docid_is_found_however_it_is_written(tool: str, docid: Any) -> None:
    step = step_of(call(tool, json.dumps({"docid": docid}), "Document 7:\n{'docid': '7', 'text': 'T'}"), SHOWS_7)
    assert (step.kind, step.docid, step.output) == ("browse", "7", "Document 7:\n{'docid': '7', 'text': 'T'}")


def test_a_docid_with_a_colon_stays_whole_when_it_was_shown_like_that() -> None:
    shown = call("search", {"query": "q"}, [{"docid": "wiki:7", "score": 1.5, "snippet": "s"}])
    assert step_of(call("visit", {"docid": "wiki:7"}), shown).docid == "wiki:7"


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (call("visit", '{"docid": "7'), "the arguments are not JSON"),
        (call("visit", "[7]"), "the arguments are not an object but list"),
        (call("visit", {"goal": "the capital"}), "the arguments hold no docid"),
        (call("visit", {"docid": {"id": 7}}), "the arguments hold no docid"),
        (call("search", None), "the arguments hold no query"),
        (call("search", {"query": []}), "the arguments hold no query"),
    ],
)
def test_a_call_that_the_agent_got_wrong_keeps_its_place_and_says_why(entry: dict[str, Any], error: str) -> None:
    step = step_of(entry)
    assert step.error is not None and step.error.startswith(error)
    assert (step.docid, step.executed_query) == (None, None)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("thought", "thought"),
        (["one", "two"], "one two"),
        ([{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}], "one two"),
        ([], ""),
        (None, ""),
    ],
)
def test_reasoning_is_text_or_a_list_of_texts(output: Any, text: str) -> None:
    step = step_of({"type": "reasoning", "output": output})
    assert (step.kind, step.text) == ("reasoning", text)


def test_a_tools_answer_starts_the_next_turn_and_other_tools_are_kept() -> None:
    thought = {"type": "reasoning", "output": "t"}
    answer = {"type": "output_text", "output": "42"}
    run = {"query_id": 9, "status": "timeout", "result": [thought, SHOWS_7, thought, call("python", {}), answer]}
    trajectory = parse(run)
    assert [(step.turn, step.kind) for step in trajectory.steps] == [
        (0, "reasoning"),
        (0, "search"),
        (1, "reasoning"),
        (1, "other"),
        (2, "answer"),
    ]
    assert (trajectory.query_id, trajectory.status, trajectory.final_answer) == ("9", "timeout", "42")
    assert (trajectory.agent, trajectory.question) == ("unknown", "")


@pytest.mark.parametrize(
    ("data", "position"),
    [
        ([], "top level"),
        ({"query_id": "1"}, "result"),
        ({"query_id": "1", "result": "x"}, "result"),
        ({"query_id": "1", "result": [3]}, "result[0]"),
        ({"query_id": "1", "result": [{"output": "x"}]}, "result[0].type"),
        ({"query_id": "1", "result": [call("search", {"query": "q"}, [{"score": 1}])]}, "result[0].output[0].docid"),
        ({"result": []}, "query_id"),
        ({"query_id": True, "result": []}, "query_id"),
        ({"query_id": "1", "query": ["q"], "result": []}, "query"),
    ],
)
def test_what_is_no_run_file_is_refused_with_the_place(data: Any, position: str) -> None:
    with pytest.raises(LogError) as error:
        parse(data)
    assert error.value.position == position


@pytest.mark.parametrize("name", ["correct", "is_correct"])
def test_whether_the_answer_is_correct_is_read_where_the_log_says_it(name: str) -> None:
    assert [parse({"query_id": "1", "result": [], name: value}).correct for value in (True, False, 1, 0, "yes", 2)] == [
        True,
        False,
        True,
        False,
        None,
        None,
    ]


def test_a_status_and_a_model_that_are_null_are_unknown() -> None:
    trajectory = parse({"query_id": "1", "status": None, "metadata": {"model": None}, "result": []})
    assert (trajectory.status, trajectory.agent) == ("unknown", "unknown")


VARIANTS: dict[str, dict[str, Any]] = {
    "arguments as an object": {"query_id": "1", "result": [call("search", {"query": "q"}, "text")]},
    "arguments as text": {"query_id": "1", "result": [call("search", '{"query":"q"}', "text")]},
    "output as a list of results": {"query_id": "1", "result": [call("search", {"query": "q"}, [{"docid": 5, "score": 1}])]},
    "output as a list of texts": {"query_id": "1", "result": [{"type": "reasoning", "output": ["one", "two"]}]},
    "no output": {"query_id": "1", "result": [{**call("visit", '{"docid": 7}'), "output": None}]},
    "no tool name": {"query_id": "1", "result": [{"type": "tool_call", "tool_name": None, "arguments": "", "output": ""}]},
    "another key in an entry": {"query_id": "1", "result": [{**SHOWS_7, "id": "call_1"}]},
    "another type of entry": {"query_id": "1", "result": [{"type": "function_call", "output": {"a": [1]}}]},
    "integer query_id": {"query_id": 9, "result": []},
    "keys that we do not know": {"raw_messages": [{"role": "user"}], "result": [], "query_id": "1", "is_correct": True},
    "null where a text belongs": {"query_id": "1", "query": None, "status": None, "metadata": None, "result": []},
    "metadata of its own": {"query_id": "1", "metadata": {"seed": 4, "release_id": "r", "protocol": "p"}, "result": []},
}


@pytest.mark.parametrize("run", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_run_file_is_written_back_as_it_was(run: dict[str, Any]) -> None:
    assert json.dumps(to_run_file(parse(run))) == json.dumps(run)


def test_only_an_entry_that_could_not_be_rebuilt_is_kept_whole() -> None:
    plain = {"type": "tool_call", "tool_name": "search", "arguments": '{"query": "q"}', "output": "x"}
    steps = parse({"query_id": "1", "result": [plain, SHOWS_7]}).steps
    assert (steps[0].raw, json.loads(steps[1].raw or "")) == (None, SHOWS_7)


def test_without_texts_neither_entries_nor_the_top_level_are_kept() -> None:
    run = {"query_id": "1", "metadata": {"model": "m"}, "result": [SHOWS_7, {"type": "reasoning", "output": ["a"]}]}
    trajectory = run_files.parse(run, "t", Dialect(texts=False))
    assert (trajectory.metadata, [step.raw for step in trajectory.steps]) == (None, [None, None])
    assert trajectory.steps[0].results == [SearchResult(docid="7", rank=1)]
    assert (trajectory.agent, trajectory.steps[1].text) == ("m", "a")


def test_our_own_rollouts_are_written_as_run_files_that_read_the_same() -> None:
    steps = [
        Step(turn=0, kind="reasoning", text="t"),
        Step(
            turn=0,
            kind="search",
            queries=["q"],
            executed_query="q",
            results=[SearchResult(docid="8", rank=1, score=0.5, title="T", snippet="s"), SearchResult(docid="10", rank=2)],
            tool_name="search",
            arguments='{"query": "q"}',
        ),
        Step(turn=1, kind="browse", docid="8", tool_name="get_document", arguments='{"docid": "8"}', output="text"),
        Step(turn=2, kind="answer", text="a"),
    ]
    ours = Trajectory(
        trajectory_id="t",
        query_id="1",
        question="who?",
        agent="V",
        status="completed",
        steps=steps,
        seed=2,
        release_id="r",
        protocol="p",
        final_answer="a",
        correct=True,
    )
    run = to_run_file(ours)
    assert run == {
        "metadata": {"model": "V", "trajectory_id": "t", "seed": 2, "release_id": "r", "protocol": "p"},
        "query_id": "1",
        "tool_call_counts": {"search": 1, "get_document": 1},
        "status": "completed",
        "retrieved_docids": ["10", "8"],
        "result": [
            {"type": "reasoning", "tool_name": None, "arguments": None, "output": "t"},
            {
                "type": "tool_call",
                "tool_name": "search",
                "arguments": '{"query": "q"}',
                "output": '[{"docid": "8", "score": 0.5, "title": "T", "snippet": "s"}, {"docid": "10"}]',
            },
            {"type": "tool_call", "tool_name": "get_document", "arguments": '{"docid": "8"}', "output": "text"},
            {"type": "output_text", "tool_name": None, "arguments": None, "output": "a"},
        ],
        "query": "who?",
        "correct": True,
    }
    again = parse(run)
    assert [step.kind for step in again.steps] == ["reasoning", "search", "browse", "answer"]
    assert again.steps[1].results == steps[1].results
    assert (again.seed, again.release_id, again.protocol, again.correct) == (2, "r", "p", True)


def test_a_failed_step_without_a_tool_or_an_output_is_written_all_the_same() -> None:
    steps = [Step(turn=0, kind="other", error="no answer by the LLM"), Step(turn=0, kind="reasoning", tokens=5)]
    ours = Trajectory(trajectory_id="t", query_id="1", question="", agent="V", status="llm_failed", steps=steps)
    assert to_run_file(ours)["result"] == [
        {"type": "tool_call", "tool_name": "", "arguments": "", "output": None},
        {"type": "reasoning", "tool_name": None, "arguments": None, "output": ""},
    ]
    assert to_run_file(ours)["tool_call_counts"] == {}


def test_real_run_files_hold_what_their_own_statistics_say(lrat_trajectories: Path) -> None:
    for path in sorted((lrat_trajectories / "trajectories").glob("*.json")):
        run = json.loads(path.read_text())
        trajectory = parse(run)
        calls: dict[str, int] = {}
        for step in trajectory.steps:
            if step.tool_name:
                calls[step.tool_name] = calls.get(step.tool_name, 0) + 1
        assert calls == run["tool_call_counts_all"]
        results = [result for step in trajectory.steps for result in step.results]
        assert {result.docid for result in results} == set(run["retrieved_docids"])
        assert not any((result.title or "...").endswith("...") for result in results)
        assert all(step.error is None for step in trajectory.steps)
        assert json.dumps(to_run_file(trajectory)) == json.dumps(run)
        assert all(step.raw is None for step in trajectory.steps)


def test_real_run_files_show_the_same_docids_without_texts(lrat_trajectories: Path) -> None:
    for path in sorted((lrat_trajectories / "trajectories").glob("*.json")):
        run = json.loads(path.read_text())
        fast = run_files.parse(run, "t", Dialect(texts=False))
        for step, full in zip(fast.steps, parse(run).steps, strict=True):
            assert [(r.docid, r.rank) for r in step.results] == [(r.docid, r.rank) for r in full.results]
            assert (step.docid, step.queries, step.text) == (full.docid, full.queries, full.text)
