"""Corpora in the formats of the wild: where files lie, what columns are called, and which rows cannot be used."""

from __future__ import annotations

import gzip
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lrat_ray import corpus
from lrat_ray.artifacts import ArtifactError

ROWS = [{"docid": "1", "title": "A", "text": "x"}, {"docid": "2", "title": None, "text": "y"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def read(uri) -> tuple[list[tuple], list[tuple]]:
    """((docid, title, text) of each usable row with its position, (position, reason) of the others)."""
    pieces = list(corpus.read(corpus.files(str(uri))))
    used = [(*row.values(), piece.position(i)) for piece in pieces for i, row in enumerate(piece.rows.to_pylist())]
    return used, [(bad.position, bad.reason) for piece in pieces for bad in piece.rejected]


def write(path, *lines):
    path.write_bytes(b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.jsonl", JSONL),
        ("c.jsonl", b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n")),
        ("c.jsonl", JSONL.rstrip(b"\n")),
        ("c.jsonl.gz", gzip.compress(JSONL)),
        ("c.jsonl.gz", b"".join(gzip.compress(line + b"\n") for line in JSONL.splitlines())),  # pigz and bgzip: many members
        ("c.jsonl.zst", zstandard.compress(JSONL)),
        ("c.jsonl.zst", b"".join(zstandard.compress(line + b"\n") for line in JSONL.splitlines())),  # pzstd: many frames
    ],
)
def test_jsonl_plain_and_packed(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == ([("1", "A", "x", "line 1"), ("2", None, "y", "line 2")], [])


@pytest.mark.parametrize("columns", [["docid", "text"], ["_id", "text"], ["id", "contents"], ["doc_id", "contents"]])
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_columns_by_their_usual_names(tmp_path, columns, ending):
    rows = [dict(zip(columns, values, strict=True)) for values in (("a", "x"), ("b", "y"))]
    path = tmp_path / f"c.{ending}"
    pq.write_table(pa.Table.from_pylist(rows), path) if ending == "parquet" else write(path, *rows)
    assert [row[:3] for row in read(path)[0]] == [("a", None, "x"), ("b", None, "y")]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_quoted_first_line_of_contents_is_the_title(tmp_path, ending):
    contents = [
        '"A title"\nthe text\n"more"',
        '"quoted" is no title\nx',
        "plain",
        '"only"\n',
        '""\nno title',
        '"\n"',
        '"win"\r\nx',
    ]
    rows = [{"id": i, "contents": text} for i, text in enumerate(contents)]
    path = tmp_path / f"c.{ending}"
    pq.write_table(pa.Table.from_pylist(rows), path) if ending == "parquet" else write(path, *rows)
    used, rejected = read(path)
    assert [row[1:3] for row in used] == [
        ("A title", 'the text\n"more"'),
        (None, '"quoted" is no title\nx'),
        (None, "plain"),
        ("", "no title"),
        (None, '"\n"'),
        ("win", "x"),
    ]
    assert rejected == [("line 4" if ending == "jsonl" else "row 3", "no text")]


def test_a_title_of_its_own_wins_over_the_one_in_contents(tmp_path):
    path = write(tmp_path / "c.jsonl", {"id": "1", "title": "own", "contents": '"other"\nx'})
    assert read(path)[0] == [("1", "own", "x", "line 1")]


def test_every_unusable_line_is_listed_with_its_reason(tmp_path):
    path = write(
        tmp_path / "c.jsonl",
        {"docid": 1, "text": "good"},
        b"{broken",
        b'["a list"]',
        b'{"docid": "3", "text": "\xff"}',
        {"text": "nameless"},
        {"docid": "", "text": "nameless"},
        {"docid": "6"},
        {"docid": "7", "text": " \n\u3000"},
        {"docid": "8", "text": ["a", "list"]},
        {"docid": 9.5, "text": "x"},
        {"docid": True, "text": "x"},
        b"",
        b"  ",
        b'{"docid": "13", "text": "cut \\ud83d"}',
        b'{"docid": 123456789012345678901234567890, "text": "a float would lose digits"}',
        b'{"docid": "16", "text": ' + b"[" * 100_000,
        {"docid": "17", "text": "x", "title": 3},
    )
    used, rejected = read(path)
    assert used == [
        ("1", None, "good", "line 1"),
        ("13", None, "cut \ufffd", "line 14"),
    ]
    assert sorted(rejected, key=lambda bad: int(bad[0].split()[1])) == [
        ("line 2", "malformed JSON"),
        ("line 3", "malformed row"),
        ("line 4", "not UTF-8"),
        ("line 5", "no docid"),
        ("line 6", "no docid"),
        ("line 7", "no text"),
        ("line 8", "no text"),
        ("line 9", "malformed row"),
        ("line 10", "malformed row"),
        ("line 11", "malformed row"),
        ("line 15", "malformed row"),
        ("line 16", "malformed JSON"),
        ("line 17", "malformed row"),
    ]


def test_positions_go_on_from_block_to_block(tmp_path, monkeypatch):
    monkeypatch.setattr("lrat_ray.lines._BYTES_PER_BLOCK", 7)
    path = write(tmp_path / "c.jsonl", *[{"docid": str(i), "text": "x"} for i in range(20)], b"{broken")
    used, rejected = read(path)
    assert [(row[0], row[3]) for row in used] == [(str(i), f"line {i + 1}") for i in range(20)]
    assert rejected == [("line 21", "malformed JSON")]


@pytest.mark.parametrize(
    "docids",
    [
        pa.array(["7", "8", None]),
        pa.array([7, 8, None]),
        pa.array(["7", "8", None], pa.large_string()),
        pa.array(["7", "8", None], pa.string_view()),
        pa.array([7, 8, None], pa.uint16()),
        pa.array([7.0, 8.0, None]),
        pa.array([7.0, 8.0, float("nan")], pa.float32()),
        pa.array([b"7", b"8", None]),
        pa.array([b"7", b"8", None], pa.binary_view()),
        pa.array([b"7", b"8", None], pa.binary(1)),
        pa.array(["7", "8", None]).dictionary_encode(),
    ],
)
def test_parquet_docids_of_any_type(tmp_path, docids):
    pq.write_table(pa.table({"docid": docids, "text": ["a", "", "c"]}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet") == ([("7", None, "a", "row 0")], [("row 1", "no text"), ("row 2", "no docid")])


def test_large_docids_that_pandas_made_floats_of_keep_their_digits(tmp_path):
    pq.write_table(pa.table({"docid": [123456789012.0, 2.0**53 - 1], "text": ["a", "b"]}), tmp_path / "c.parquet")
    assert [row[0] for row in read(tmp_path / "c.parquet")[0]] == ["123456789012", "9007199254740991"]


@pytest.mark.parametrize(
    ("docids", "message"),
    [
        (pa.array([1.0, 0.5]), "column 'docid' holds double, and 0.5 is no whole number"),
        (pa.array([2.0**53]), "holds double, and 9007199254740992.0 is no whole number that it holds exactly"),
        (pa.array([2.0**24], pa.float32()), "holds float, and 16777216.0 is no whole number"),
        (pa.array([float("inf")]), "holds double, and inf is no whole number"),
        (pa.array([True]), "holds bool, which is no text; write it as strings"),
        (pa.array([0], pa.timestamp("s")), "holds timestamp.*, which is no text"),
    ],
)
def test_parquet_docids_that_have_no_text_are_refused_with_their_type(tmp_path, docids, message):
    pq.write_table(pa.table({"docid": docids, "text": ["x"] * len(docids)}), tmp_path / "c.parquet")
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path / "c.parquet")


def test_parquet_rows_that_are_not_utf8(tmp_path):
    """Nothing checks the bytes of a string column, neither when it is written nor when it is read."""
    raw = pa.array([b"good", b"bad \xff", b"", None, b"good"])
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    pq.write_table(pa.table({"docid": ["a", "b", "c", "d", "e"], "text": text}), tmp_path / "c.parquet")
    used, rejected = read(tmp_path / "c.parquet")
    assert [row[0] for row in used] == ["a", "e"]
    assert rejected == [("row 1", "not UTF-8"), ("row 2", "no text"), ("row 3", "no text")]


def test_a_directory_a_glob_and_a_beir_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    pq.write_table(pa.table({"docid": ["1"], "text": ["x"]}), tmp_path / "a.parquet")
    write(tmp_path / "sub" / "b.jsonl", {"docid": "2", "text": "y"})
    (tmp_path / "README.md").write_text("not a corpus")
    (tmp_path / ".hidden.jsonl").write_text("not a corpus")
    assert [row[0] for row in read(tmp_path)[0]] == ["1", "2"]
    assert [row[0] for row in read(tmp_path / "*" / "*.jsonl")[0]] == ["2"]
    assert corpus.files(f"file://{tmp_path}/*.parquet") == [f"file://{tmp_path}/a.parquet"]
    write(tmp_path / "corpus.jsonl", {"_id": "3", "title": "", "text": "z"})
    write(tmp_path / "queries.jsonl", {"_id": "q", "text": "no document"})
    assert [row[0] for row in read(tmp_path)[0]] == ["3"]


def test_a_corpus_in_an_object_store():
    with fsspec.open("memory://corpora/c.jsonl.gz", "wb") as file:
        file.write(gzip.compress(JSONL))
    for uri in ("memory://corpora", "memory://corpora/*.gz", "memory://corpora/c.jsonl.gz"):
        assert [row[0] for row in read(uri)[0]] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("c.jsonl.gz", gzip.compress(JSONL * 99)[:-9], "c.jsonl.gz is damaged after line 0: .*[Tt]runcated"),
        ("c.jsonl.zst", b"no Zstandard at all", "c.jsonl.zst is damaged after line 0"),
        ("c.parquet", b"no Parquet at all", "c.parquet is not a Parquet file"),
        (
            "c.csv",
            b"docid,text\n",
            r"holds no file whose name ends in .parquet, .jsonl, .jsonl.gz, .jsonl.zst \(found: c.csv\)",
        ),
        ("c.jsonl", b'{"docid": "1", "body": "x"}\n', r"no column 'text' \(found: docid, body\)"),
        ("c.jsonl", b'broken\n{"title": "1"}\n', r"no column 'docid' and no column 'text' \(found: title\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path):
    for missing in ("nowhere", "no*.jsonl"):
        with pytest.raises(ArtifactError, match=r"corpus: .*(does not exist|found: nothing)"):
            corpus.files(str(tmp_path / missing))


def test_a_column_that_holds_no_text_is_named(tmp_path):
    pq.write_table(pa.table({"docid": ["1"], "text": [["a", "b"]]}), tmp_path / "c.parquet")
    with pytest.raises(ArtifactError, match="column 'text' holds list<.*>, which is no text"):
        read(tmp_path / "c.parquet")
