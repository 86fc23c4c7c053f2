"""The examples of docs/formats.md give the steps that stand under them; whatever a log holds, only LogError escapes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrat_ray.schema import Step, Trajectory, to_table
from lrat_ray.trajectories import calls, formats, search_output
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.run_files import to_run_file

DOCS = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
EXAMPLES = {
    name: (language, example, steps.strip().split("\n"))
    for name, language, example, steps in re.findall(
        r"^## ([\w-]+)\n.*?^```(jsonl?)\n(.*?)^```.*?^```text\n(.*?)^```", DOCS, re.M | re.S
    )
}
QUESTION = "Which river flows through Kutná Hora?"


def told(step: Step) -> str:
    """A step as the examples tell it."""
    what = {
        "search": f"{step.executed_query} -> {' '.join(result.docid for result in step.results)}",
        "browse": str(step.docid),
    }.get(step.kind, step.text if step.text is not None else f"({step.tokens} tokens)")
    return f"{step.turn} {step.kind} {what}"


def read_example(name: str, format_name: str = "auto") -> Trajectory:
    language, example, _ = EXAMPLES[name]
    if language == "json":
        return formats.parse(json.loads(example), "t", format_name, Dialect())
    rows = [(f"line {number}", json.loads(line)) for number, line in enumerate(example.splitlines(), 1)]
    assert {formats.row_format(row) for _, row in rows} == {name}
    ((key, record),) = formats.group(name, rows)
    assert not isinstance(record, LogError)
    return formats.parse(record, key, format_name, Dialect())


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("query", calls.QUERY),
        ("results", search_output.RESULTS),
        ("docid", search_output.DOCID),
        ("title", search_output.TITLE),
        ("snippet", search_output.SNIPPET),
        ("score", search_output.SCORE),
    ],
)
def test_the_usual_names_are_documented(field: str, names: tuple[str, ...]) -> None:
    (listed,) = re.findall(rf"^\| {field} \| ([\w, ]+)", DOCS, re.M)
    assert listed.strip().split(", ") == list(names)


def test_every_format_has_an_example() -> None:
    assert EXAMPLES.keys() == formats.FORMATS.keys()


@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
@pytest.mark.parametrize("name", formats.FORMATS)
def test_an_example_of_the_documentation_gives_the_steps_under_it(name: str, named: bool) -> None:
    trajectory = read_example(name, name if named else "auto")
    assert [told(step) for step in trajectory.steps] == EXAMPLES[name][2]
    assert [step.error for step in trajectory.steps] == [None] * 5
    assert (trajectory.query_id, trajectory.question, trajectory.final_answer) == ("7", QUESTION, "Vrchlice")
    assert trajectory.status == "completed"
    assert trajectory.agent == {"run-file": "tongyi", "react": "tongyi", "anthropic": "claude", "responses": "gpt-oss"}.get(
        name, "qwen3"
    )


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_trajectory_of_any_format_is_exported_as_a_run_file_that_reads_the_same(name: str) -> None:
    trajectory = read_example(name)
    run = to_run_file(trajectory)
    again = formats.parse(json.loads(json.dumps(run)), "t", "auto", Dialect())
    lines = [told(step).replace("(412 tokens)", "") for step in trajectory.steps]
    assert [told(step) for step in again.steps] == lines
    assert (again.query_id, again.question, again.agent, again.status) == ("7", QUESTION, trajectory.agent, "completed")
    assert run["retrieved_docids"] == ["11", "12"]
    assert sorted(run["tool_call_counts"].values()) == [1, 1]


@pytest.mark.parametrize("name", ["chat", "anthropic", "react", "responses"])
def test_a_bare_list_is_read_like_a_record(name: str) -> None:
    record = json.loads(EXAMPLES[name][1])
    bare = record["output"] if name == "responses" else record["messages"]
    trajectory = formats.parse(bare, "t", "auto", Dialect())
    assert [told(step) for step in trajectory.steps] == EXAMPLES[name][2]
    assert trajectory.query_id == "t"


def test_messages_may_be_json_text_as_in_a_column() -> None:
    record = json.loads(EXAMPLES["chat"][1])
    trajectory = formats.parse({**record, "messages": json.dumps(record["messages"])}, "t", "auto", Dialect())
    assert [told(step) for step in trajectory.steps] == EXAMPLES["chat"][2]


def test_without_texts_docids_queries_and_reasoning_are_the_same() -> None:
    for name in ("run-file", "chat", "anthropic"):
        trajectory = formats.parse(json.loads(EXAMPLES[name][1]), "t", "auto", Dialect(texts=False))
        assert [told(step) for step in trajectory.steps] == EXAMPLES[name][2]
        assert {(result.title, result.snippet) for step in trajectory.steps for result in step.results} == {(None, None)}
        assert trajectory.metadata is None


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (3, "expected an object, found int"),
        (None, "expected an object, found NoneType"),
        ({"a": 1, "b": 2}, "no known format (keys: a, b)"),
        ({}, "no known format (keys: none)"),
        ([], "no known format (a list)"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no message is by the assistant"),
    ],
)
def test_what_is_in_no_format_is_refused(record: Any, problem: str) -> None:
    with pytest.raises(LogError) as error:
        formats.parse(record, "t", "auto", Dialect())
    assert problem in error.value.problem


def test_what_a_record_says_beyond_the_columns_is_kept_and_exported() -> None:
    messages = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": "said"}]
    record = {
        "id": 4,
        "question": "named",
        "agent": "a",
        "messages": messages,
        "status": "max_steps",
        "final_answer": "f",
        "is_correct": False,
        "seed": 3,
        "release_id": "r",
        "protocol": "p",
        "tags": ["x"],
        "metadata": {"host": "h"},
    }
    trajectory = formats.parse(record, "t", "auto", Dialect())
    assert (trajectory.query_id, trajectory.question, trajectory.agent) == ("4", "named", "a")
    assert (trajectory.status, trajectory.final_answer, trajectory.correct) == ("max_steps", "f", False)
    assert (trajectory.seed, trajectory.release_id, trajectory.protocol) == (3, "r", "p")
    assert json.loads(trajectory.metadata or "") == {"tags": ["x"], "metadata": {"host": "h"}}
    run = to_run_file(trajectory)
    assert (run["tags"], run["correct"]) == (["x"], False)
    assert run["metadata"] == {"host": "h", "model": "a", "trajectory_id": "t", "seed": 3, "release_id": "r", "protocol": "p"}


def test_known_keys_whose_value_was_not_used_are_kept() -> None:
    messages = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": "said"}]
    used = {"query_id": "7", "status": "done", "final_answer": "f", "is_correct": 1, "model": "m", "trajectory_id": "t"}
    others = {"id": 4, "termination": "answer", "prediction": "p", "correct": "yes", "seed": "3", "protocol": 5}
    trajectory = formats.parse({"messages": messages, **used, **others, "agent": None}, "t", "chat", Dialect())
    assert (trajectory.query_id, trajectory.status, trajectory.final_answer) == ("7", "done", "f")
    assert (trajectory.correct, trajectory.agent, trajectory.seed, trajectory.protocol) == (True, "m", 0, None)
    assert json.loads(trajectory.metadata or "") == others


@pytest.mark.parametrize(
    ("record", "position"),
    [({"query_id": ["7"]}, "query_id"), ({"query_id": True}, "query_id"), ({"question": 5}, "question")],
)
def test_a_query_id_or_a_question_of_a_wrong_type_is_refused(record: dict[str, Any], position: str) -> None:
    with pytest.raises(LogError) as error:
        formats.parse({"messages": [{"role": "assistant", "content": "a"}], **record}, "t", "chat", Dialect())
    assert error.value.position == position


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"trajectory_id": "a", "type": "search"}, "events"),
        ({"trajectory_id": 3, "type": "end"}, "events"),
        ({"type": "search"}, None),
        ({"trajectory_id": "a", "type": "run"}, None),
        ({"trajectory_id": "a", "events": []}, None),
        ({"traceId": "t", "spanId": "s"}, "spans"),
        ({"context": {"trace_id": "t"}, "name": "n"}, "spans"),
        ({"context.trace_id": "t", "attributes.llm.model_name": "m"}, "spans"),
        ({"trace_id": "t", "attributes": {}}, "spans"),
        ({"trace_id": "t", "messages": []}, None),
        ({"resourceSpans": []}, "spans"),
        ({}, None),
    ],
)
def test_rows_of_which_several_make_a_trajectory_are_told_by_their_keys(row: dict[str, Any], name: str | None) -> None:
    assert formats.row_format(row) == name


# --- whatever a log holds, only LogError escapes --------------------------------------------------------------------------

WORDS = st.sampled_from(
    "type role content messages result results output input items events spans query query_id docid id url tool_calls function "
    "name arguments tool_call_id text reasoning thinking summary action sources call_id trace_id span_id parent_id attributes "
    "context traceId resourceSpans scopeSpans start_time status turn tokens error latency_s seed correct metadata question "
    "tool_use_id is_error source title score snippet data structuredContent gen_ai.operation.name gen_ai.tool.name "
    "gen_ai.output.messages gen_ai.input.messages gen_ai.tool.call.arguments gen_ai.tool.call.result parts message contents "
    "openinference.span.kind llm.output_messages.0.message.content input.value output.value retrieval.documents code key value "
    "reasoning_details function_call final_answer gen_ai.conversation.id gen_ai.usage.reasoning_tokens".split()
)
KINDS = (
    "search visit get_document reasoning tool_call output_text assistant user tool system function_call function_call_output "
    "web_search_call file_search_call mcp_call message thinking tool_use tool_result server_tool_use text search_result browse "
    "answer question end execute_tool chat retrieval invoke_agent TOOL LLM RETRIEVER ERROR open_page tool_call_response".split()
)
TEXTS = (
    '{"query": "q"}',
    '[{"docid": 1}]',
    "[[1]]",
    '{"content": [{"type": "text", "text": "[]"}]}',
    "<tool_call>{'name': 'search', 'arguments': {'query': 1",
    "<tool_call>{}</tool_call>",
    "<think>",
    "</think><search>q</search><information>Doc 1(Title: T) x</information>",
    "DocID:7\n[T]\nx",
    "1. [T](http://x)",
    "<|im_start|>assistant\n<tool_call>[</tool_call>",
    "99999999999999999999",
    "-1",
    "",
)
VALUES = st.sampled_from((*KINDS, *TEXTS))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | VALUES | VALUES | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5) | st.dictionaries(WORDS, SCALARS, max_size=7)
    ),
    max_leaves=30,
)
LISTS = st.lists(st.dictionaries(WORDS, JSON, max_size=7) | JSON, max_size=5)
BODIES = st.fixed_dictionaries(
    {}, optional={name: LISTS for name in ("messages", "result", "output", "items", "events", "spans", "resourceSpans")}
)


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """A documented example in which some values, anywhere, were replaced or taken away."""
    language, example, _ = EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))]
    if language == "json":
        record = json.loads(example)
    else:
        rows = [json.loads(line) for line in example.splitlines()]
        record = {"spans" if "trace_id" in rows[0] else "events": rows}
    for _ in range(draw(st.integers(1, 4))):
        holder: Any = record
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and draw(st.integers(0, 3)):
                holder = holder[key]
                continue
            if draw(st.booleans()):
                holder[key] = draw(JSON)
            else:
                del holder[key]
            break
    return record


@pytest.mark.parametrize("name", ["auto", *formats.FORMATS])
@settings(max_examples=50, deadline=None)
@given(record=JSON | BODIES | broken(), texts=st.booleans())
def test_only_log_errors_escape_and_every_trajectory_can_be_stored(name: str, record: Any, texts: bool) -> None:
    try:
        trajectory = formats.parse(record, "t", name, Dialect(texts=texts))
    except LogError as error:
        assert error.problem
        return
    assert to_table([trajectory], Trajectory).num_rows == 1
    assert isinstance(json.dumps(to_run_file(trajectory)), str)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(broken() | JSON, max_size=6), name=st.sampled_from(["spans", "events"]))
def test_grouping_any_rows_gives_records_or_log_errors(rows: list[Any], name: str) -> None:
    for number, (key, record) in enumerate(formats.group(name, [(f"line {i}", row) for i, row in enumerate(rows)])):
        assert isinstance(key, str) and number < 100
        assert isinstance(record, dict | LogError)


@settings(max_examples=50, deadline=None)
@given(
    run=st.fixed_dictionaries(
        {"query_id": st.integers() | st.text(), "result": LISTS},
        optional={"query": st.text(), "status": JSON, "metadata": JSON, "correct": JSON, "answer": JSON},
    )
)
def test_any_run_file_is_written_back_as_it_was(run: dict[str, Any]) -> None:
    try:
        trajectory = formats.parse(run, "t", "run-file", Dialect())
    except LogError as error:
        assert error.position
        return
    assert json.dumps(to_run_file(trajectory)) == json.dumps(run)
