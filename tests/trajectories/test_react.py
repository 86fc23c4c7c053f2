"""Text with tags as steps: Tongyi-DeepResearch's messages with their broken JSON, Search-R1's one flat text."""

from __future__ import annotations

from typing import Any

import pytest

from lrat_ray.schema import Trajectory
from lrat_ray.trajectories import lenient_json, react
from lrat_ray.trajectories.dialect import Dialect, LogError
from lrat_ray.trajectories.tags import segments

SEARCH_R1_PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first. You can call a search engine by "
    "<search> query </search> and it will return results between <information> and </information>. Give the answer inside "
    "<answer> and </answer>. For example, <answer> Beijing </answer>. Question: who?\n"
)
SEARCH_R1 = (
    '<think>r1</think>\n<search> q </search>\n\n<information>Doc 1(Title: "A") text\nDoc 2(Title: "B") text</information>\n\n'
    "<think>r2</think><answer> x </answer>"
)
SEARCH_R1_STEPS = [
    (0, "reasoning", "r1"),
    (0, "search", "q"),
    (1, "reasoning", "r2"),
    (1, "answer", "x"),
]


def parse(record: Any) -> Trajectory:
    return react.parse(record, "t", Dialect())


def messages(*contents: str) -> dict[str, Any]:
    """The question, then the assistant and the tools in turns."""
    roles = ["user", *["assistant", "user"] * len(contents)]
    return {"messages": [{"role": role, "content": content} for role, content in zip(roles, ("who?", *contents), strict=False)]}


def told(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(s.turn, s.kind, s.docid or s.executed_query or s.text) for s in trajectory.steps]


def test_the_messages_of_tongyi_are_read() -> None:
    trajectory = parse(
        {
            **messages(
                '<think>\nr1\n</think>\n<tool_call>\n{"name": "search", "arguments": {"query": ["q", "p"]}}\n</tool_call>',
                "<tool_response>\nA Google search for 'q' found 1 results:\n\n1. [A](http://a)\ntext\n</tool_response>",
                'r2\n</think>\n<tool_call>\n{"name": "visit", "arguments": {"url": ["http://a"], "goal": "g"}}\n</tool_call>',
                "<tool_response>\ntext of a\n</tool_response>",
                "<think>r3</think>\nSo:\n<answer>x</answer>",
            ),
            "question": "named",
            "prediction": "x",
            "termination": "answer",
            "answer": "gold",
        }
    )
    assert told(trajectory) == [
        (0, "reasoning", "r1"),
        (0, "search", "q"),
        (1, "reasoning", "r2"),
        (1, "browse", "http://a"),
        (2, "reasoning", "r3"),
        (2, "reasoning", "So:"),
        (2, "answer", "x"),
    ]
    assert [r.docid for r in trajectory.steps[1].results] == ["http://a"]
    assert trajectory.steps[3].output == "text of a"
    assert (trajectory.question, trajectory.status, trajectory.final_answer) == ("named", "answer", "x")
    assert trajectory.metadata == '{"answer": "gold"}'


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "visit", "arguments": {"docid": "7", "goal": "g"}}',
        "{'name': 'visit', 'arguments': {'docid': '7', 'goal': 'it\\'s'}}",
        '{name: "visit", arguments: {docid: 7, goal: "g",},}',
        '{"name": "visit", "arguments": {"docid": "7", "goal": "two\nlines"}}',
        '{"name": "visit", // why\n "arguments": {"docid": "7" /* it */}}',
        '{"name": "visit", "arguments": {"docid": "7", "goal": "g"}',
        '{"name": "visit", "arguments": {"docid": "7"',
        '{"name": "visit", "arguments": {"docid": "7"}}\nand more',
        '{"name": "visit", "arguments": "{\\"docid\\": \\"7\\"}"}',
        '{"name": "visit", "parameters": {"docid": ["7", "8"], "flag": True}}',
    ],
)
def test_a_call_is_read_though_its_json_is_broken(text: str) -> None:
    (step,) = parse(messages(f"<tool_call>{text}</tool_call>", "<tool_response>seven</tool_response>")).steps
    assert (step.kind, step.docid, step.output, step.error) == ("browse", "7", "seven", None)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ('{"name": "search", "arguments": {"query": "q}}', "search", "search"),
        ("search for q", "other", ""),
        ("[1, 2]", "other", ""),
        ("", "other", ""),
        ('{"name":', "other", ""),
    ],
)
def test_a_call_that_cannot_be_read_keeps_its_place(text: str, kind: str, name: str) -> None:
    (step,) = parse(messages(f"<tool_call>{text}</tool_call>", "<tool_response>Error</tool_response>")).steps
    assert (step.kind, step.tool_name, step.arguments, step.output) == (kind, name, text, "Error")
    if text:
        assert step.error is not None and step.error.startswith("the arguments are not")


def test_several_calls_and_tool_messages_are_matched_in_order() -> None:
    call = '<tool_call>{{"name": "visit", "arguments": {{"docid": {}}}}}</tool_call>'
    record = messages(call.format(7) + call.format(8))
    record["messages"] += [
        {"role": "tool", "content": "seven"},
        {"role": "tool", "content": "<tool_response>eight</tool_response>"},
    ]
    assert [(s.turn, s.docid, s.output) for s in parse(record).steps] == [(0, "7", "seven"), (0, "8", "eight")]


@pytest.mark.parametrize(
    ("record", "question"),
    [
        ({"text": SEARCH_R1}, ""),
        ({"response": SEARCH_R1, "question": "who?"}, "who?"),
        ({"sequences_str": SEARCH_R1_PROMPT + SEARCH_R1}, "who?"),
        ({"text": f"<|im_start|>user\n{SEARCH_R1_PROMPT}<|im_end|>\n<|im_start|>assistant\n{SEARCH_R1}<|im_end|>"}, "who?"),
        ({"messages": [{"role": "user", "content": SEARCH_R1_PROMPT}, {"role": "assistant", "content": SEARCH_R1}]}, "who?"),
    ],
)
def test_search_r1_only_searches(record: dict[str, Any], question: str) -> None:
    assert react.matches(record)
    trajectory = parse(record)
    assert (told(trajectory), trajectory.question) == (SEARCH_R1_STEPS, question)
    assert [r.docid for r in trajectory.steps[1].results] == ["A", "B"]


@pytest.mark.parametrize(
    ("record", "position"),
    [
        ({}, "top level"),
        ({"messages": [3]}, "messages[0]"),
        (messages(), "messages"),
        (messages("<search>q</search>", '<information>[{"x": 1}]</information>'), "messages[2] <information>[0].docid"),
    ],
)
def test_what_is_no_such_text_is_refused_with_the_place(record: Any, position: str) -> None:
    with pytest.raises(LogError) as error:
        parse(record)
    assert error.value.position == position


def test_text_is_cut_at_its_tags() -> None:
    assert segments("a<think> b </think> <x>c</x><answer></answer>", ["think", "answer"]) == [
        ("", "a"),
        ("think", "b"),
        ("", "<x>c</x>"),
        ("answer", ""),
    ]
    assert segments("b</think>c<think>d", ["think"]) == [("think", "b"), ("", "c"), ("think", "d")]
    assert segments("", ["think"]) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ("[1, -2.5, 1e3, 'a', null, None, True, false,]", [1, -2.5, 1000.0, "a", None, None, True, False]),
        ('{a-b: "\\u00e1\\n", "c": [[], {}]}', {"a-b": "á\n", "c": [[], {}]}),
        ("'\\ud83d\\ude00 \\ud800'", "😀 �"),
        ("{'a': 12abc}", {"a": "12abc"}),
        ("{'a': ", ValueError),
        ("{'a' 1}", ValueError),
        ("", ValueError),
        ("]", ValueError),
    ],
)
def test_json_is_read_as_models_write_it(text: str, value: Any) -> None:
    if value is ValueError:
        with pytest.raises(ValueError, match="character"):
            lenient_json.loads(text)
    else:
        assert lenient_json.loads(text) == value
