"""The table of aliases is read from any of four formats, once; a table that is none is said by option and found columns."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrat_ray.artifacts import ArtifactError
from lrat_ray.sections import Logs
from lrat_ray.trajectories import aliases, source

ROWS = [("http://a", "1"), ("http://b,c", "2")]


def write(folder: Path, name: str) -> str:
    path = folder / name
    if name.endswith(".parquet"):
        columns = {"docid": pa.array([int(docid) for _, docid in ROWS]), "alias": [alias for alias, _ in ROWS], "x": [0, 0]}
        pq.write_table(pa.table(columns), path)
    elif ".jsonl" in name:
        path.write_text("".join(f'{{"alias": "{alias}", "docid": {docid}}}\n' for alias, docid in ROWS))
    elif ".csv" in name:
        path.write_bytes(("\ufeffdocid,alias\r\n" + "".join(f'{docid},"{alias}"\r\n' for alias, docid in ROWS)).encode())
    else:
        path.write_text("alias\tdocid\n" + "".join(f"{alias}\t{docid}\n" for alias, docid in ROWS))
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return str(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.gz"])
def test_any_format(tmp_path: Path, name: str) -> None:
    uri = write(tmp_path, name)
    assert aliases.load(uri) == dict(ROWS)
    assert source.dialect(Logs(docid_aliases=uri)).aliases is aliases.load(uri)


def test_the_first_docid_of_an_alias_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("alias,docid\nx,1\nx,2\nx,1\n")
    assert aliases.load(str(path)) == {"x": "1"}
    assert "gives 1 aliases a second docid" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"url,docid\nx,1\n", "no column alias (found: url, docid)"),
        ("a.csv", b"", "no column alias and no column docid (found: none)"),
        ("a.tsv", b"alias\tdocid\nx\t\n", "line 2 has no docid"),
        ("a.csv", b"alias,docid\n\xff,1\n", "can't decode byte 0xff"),
        ("a.jsonl", b'{"alias": "x", "docid": "1"}\n{"alias": null, "docid": 1}\n', "line 2 has no alias"),
        ("a.jsonl", b'{"alias": "x", "docid": "1"}\n{"alias"\n', "line 2 column 9: not JSON"),
        ("a.jsonl", b'{"alias": "x", "id": "1"}\n', "no column docid (found: alias, id)"),
        ("a.jsonl", b"1\n2\n", "line 1 is not an object"),
        ("a.jsonl.gz", b"\x1f\x8bnot", "damaged"),
        ("a.parquet", b"x", "not a Parquet file"),
    ],
)
def test_a_table_that_is_none_names_the_option(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        aliases.load(str(path))
    assert f"logs.docid_aliases: {path}: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"logs.docid_aliases: .*nowhere.csv: there is no such file"):
        source.dialect(Logs(docid_aliases=str(tmp_path / "nowhere.csv")))
