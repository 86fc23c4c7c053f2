"""The table of aliases: what a log calls a document (its URL, say), and the corpus docid that it means."""

from __future__ import annotations

import csv
import functools
import io
import logging
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

import pyarrow as pa

from lrat_ray.artifacts import ArtifactError
from lrat_ray.trajectories import json_entries, parquet_entries
from lrat_ray.trajectories.dialect import LogError
from lrat_ray.trajectories.listing import PARQUET
from lrat_ray.trajectories.streams import BROKEN, open_file, unpacked

_ROWS_PER_BATCH = 1 << 16
_COLUMNS = ("alias", "docid")

_log = logging.getLogger(__name__)


@functools.cache
def load(uri: str) -> Mapping[str, str]:
    """alias -> docid, from Parquet, JSONL, CSV or TSV with the columns alias and docid; read once in each process.

    The first row of an alias counts, and a warning says how many others there are. Raises ArtifactError for a table that is
    missing, is none of these, lacks a column, or has a row without a value.
    """
    table: dict[str, str] = {}
    others = 0
    try:
        with open_file(uri) as stream:
            for alias, docid in _rows(stream, uri):
                others += table.setdefault(alias, docid) != docid
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _unfit(uri, "there is no such file") from error
    except (LogError, UnicodeDecodeError, csv.Error, *BROKEN) as error:
        raise _unfit(uri, str(error)) from error
    if others:
        _log.warning("logs.docid_aliases: %s gives %d aliases a second docid, which does not count", uri, others)
    return table


def _rows(stream: BinaryIO, uri: str) -> Iterator[tuple[str, str]]:
    name = posixpath.basename(uri).lower()
    if name.endswith(PARQUET):
        rows = _parquet_rows(stream, uri)
    elif ".csv" in name or ".tsv" in name:
        rows = _csv_rows(unpacked(stream), uri, "\t" if ".tsv" in name else ",")
    else:
        rows = _json_rows(unpacked(stream), uri)
    for position, alias, docid in rows:
        if alias in (None, "") or docid in (None, ""):
            raise _unfit(uri, f"{position} has no {'alias' if alias in (None, '') else 'docid'}")
        yield str(alias), str(docid)


def _parquet_rows(stream: BinaryIO, uri: str) -> Iterator[tuple[str, object, object]]:
    parquet = parquet_entries.open_parquet(stream)
    _check(uri, parquet.schema_arrow.names)
    for number, batch in enumerate(parquet.iter_batches(_ROWS_PER_BATCH, columns=list(_COLUMNS))):
        columns = (batch.column(name).cast(pa.string()).to_numpy(zero_copy_only=False) for name in _COLUMNS)
        for row, (alias, docid) in enumerate(zip(*columns, strict=True), start=number * _ROWS_PER_BATCH):
            yield f"row {row}", alias, docid


def _csv_rows(stream: BinaryIO, uri: str, delimiter: str) -> Iterator[tuple[str, object, object]]:
    reader = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter=delimiter)
    _check(uri, reader.fieldnames or [])
    for row in reader:
        yield f"line {reader.line_num}", row["alias"], row["docid"]


def _json_rows(stream: BinaryIO, uri: str) -> Iterator[tuple[str, object, object]]:
    for entry in json_entries.entries(stream, uri):
        if isinstance(entry.value, LogError):
            raise LogError(", ".join(filter(None, (entry.position, entry.value.position))), entry.value.problem)
        if not isinstance(entry.value, dict):
            raise _unfit(uri, f"{entry.position or 'the file'} is not an object")
        _check(uri, entry.value)
        yield entry.position, entry.value["alias"], entry.value["docid"]


def _check(uri: str, found: Iterable[str]) -> None:
    names = list(found)
    if missing := [name for name in _COLUMNS if name not in names]:
        raise _unfit(uri, f"no column {' and no column '.join(missing)} (found: {', '.join(names) or 'none'})")


def _unfit(uri: str, problem: str) -> ArtifactError:
    return ArtifactError(
        f"logs.docid_aliases: {uri}: {problem}. It must be a Parquet, JSONL, CSV or TSV file with the columns alias and docid"
    )
