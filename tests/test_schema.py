"""Rows survive the way to Arrow and back, and older or foreign files are read or refused by name."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrat_ray import schema
from lrat_ray.schema import Browse, Document, Pair, Question, Subquestion, Trajectory, arrow_schema, from_table, to_table

ROWS = [Document, Question, Trajectory, Browse, Pair]

# What Parquet can hold: 64-bit integers, finite floats (NaN is not equal to itself), text without lone surrogates.
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(str, st.text(st.characters(exclude_categories=["Cs"])))
ROW_STRATEGIES = {row_type: st.from_type(row_type) for row_type in ROWS}


@pytest.mark.parametrize("row_type", ROWS)
def test_no_rows_still_make_a_table_in_the_schema(row_type):
    table = to_table([], row_type)
    assert table.num_rows == 0
    assert table.schema == arrow_schema(row_type)


@pytest.mark.parametrize("row_type", ROWS)
@given(data=st.data())
def test_rows_come_back_equal(row_type, data):
    rows = data.draw(st.lists(ROW_STRATEGIES[row_type], max_size=3))
    assert list(from_table(to_table(rows, row_type), row_type)) == rows


def test_columns_say_what_may_be_null():
    schema = arrow_schema(Question)
    assert not schema.field("answer").nullable
    assert schema.field("subquestions").nullable
    assert schema.field("subquestions").type.value_type.field("docid").type == pa.string()


def test_missing_optional_columns_take_defaults_and_foreign_ones_are_ignored():
    table = pa.table({"docid": ["1"], "text": ["a"], "url": ["http://x"]})
    assert list(from_table(table, Document)) == [Document(docid="1", text="a")]


def test_a_missing_required_column_is_named():
    with pytest.raises(ValueError, match=r"Document rows need the columns docid, text; missing: text; found: docid"):
        list(from_table(pa.table({"docid": ["1"]}), Document))


def test_null_lists_read_as_empty():
    table = pa.table(
        {"query_id": ["q"], "question": ["?"], "answer": ["!"], "answer_aliases": pa.array([None], pa.list_(pa.string()))}
    )
    (question,) = from_table(table, Question)
    assert question.answer_aliases == []
    assert question.subquestions is None


def test_nested_rows_are_rebuilt():
    question = Question(query_id="q", question="?", answer="!", subquestions=[Subquestion(question="a", answer="b")])
    (back,) = from_table(to_table([question], Question), Question)
    assert back.subquestions == [Subquestion(question="a", answer="b")]


def test_tables_of_other_writers_are_read_alike():
    """Spark and Hugging Face write large strings, null lists between others, and fields of structs that we do not know."""
    hop = pa.struct([("answer", pa.large_string()), ("page", pa.int32()), ("question", pa.large_string())])
    table = pa.table(
        {
            "query_id": pa.array(["x", "q", "r"], pa.large_string()),
            "question": pa.array(["x", "?", "?"], pa.dictionary(pa.int32(), pa.string())),
            "answer": ["x", "!", "!"],
            "answer_aliases": pa.array([["x"], ["a", "b"], []], pa.large_list(pa.large_string())),
            "subquestions": pa.array(
                [[{"answer": "x", "question": "x"}], None, [{"answer": "b", "question": "a"}]], pa.list_(hop)
            ),
        }
    )
    first, second = from_table(table.slice(1), Question)
    assert first == Question(query_id="q", question="?", answer="!", answer_aliases=["a", "b"])
    assert second == Question(query_id="r", question="?", answer="!", subquestions=[Subquestion(question="a", answer="b")])


def test_rows_that_are_too_much_for_one_arrow_array_become_several(monkeypatch):
    rows = [Document(docid=str(number), text="t") for number in range(5)]
    columns = schema._columns

    def small_columns(some, row_type):
        if len(some) > 2:
            raise pa.ArrowCapacityError("2 GiB")
        return columns(some, row_type)

    monkeypatch.setattr(schema, "_columns", small_columns)
    table = to_table(rows, Document)
    assert table.column("docid").num_chunks == 3
    assert list(from_table(table, Document)) == rows
