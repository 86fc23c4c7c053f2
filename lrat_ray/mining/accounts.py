"""A part of a stage's output together with its account: what became of every row that went into it.

The account lies in the part's own Parquet metadata, so that a rerun can add up the parts that an interrupted run left.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow.parquet as pq

from lrat_ray import artifacts
from lrat_ray.artifacts import Work
from lrat_ray.schema import Rejected, to_table

_KEY = b"lrat_ray.account"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Rows in, rows out, rejected rows by reason, and further counts by name."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Account) -> Account:
        return Account(
            rows_in=self.rows_in + other.rows_in,
            rows_out=self.rows_out + other.rows_out,
            rejected=_sum(self.rejected, other.rejected),
            counts=_sum(self.counts, other.counts),
        )

    def to_json(self) -> str:
        """The account as it travels and is stored."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Account:
        """The account that `to_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "rejected": Counter(data["rejected"]), "counts": Counter(data["counts"])})

    def rows(self) -> dict[str, int]:
        """The manifest's row counts."""
        return {"in": self.rows_in, "out": self.rows_out, "rejected": self.rejected.total()}

    def metrics(self) -> dict[str, Any]:
        """The manifest's metrics: the counts, and the rejected rows by reason."""
        return {**self.counts, "rejected_by_reason": dict(self.rejected)}


def write_part(
    work: Work,
    name: str,
    rows: Sequence[Any],
    row_type: type,
    *,
    rows_in: int,
    rejected: Sequence[Rejected],
    counts: dict[str, int],
) -> None:
    """Write a part, its rejected rows and its account; the part last, because its presence says that all of it is there."""
    assert rows_in == len(rows) + len(rejected), f"{name}: {rows_in} rows in, {len(rows)} out, {len(rejected)} rejected"
    work.write_rejected(posixpath.splitext(posixpath.basename(name))[0], rejected)
    reasons = Counter(row.reason for row in rejected)
    account = Account(rows_in=rows_in, rows_out=len(rows), rejected=reasons, counts=Counter(counts))
    work.write_table(name, to_table(rows, row_type).replace_schema_metadata({_KEY: account.to_json()}))


def read_account(work: Work, name: str) -> Account:
    """The account of a part that `write_part` wrote."""
    with fsspec.open(artifacts.join(work.uri, name), "rb") as file:
        return Account.from_json(pq.read_schema(file).metadata[_KEY])


def _sum(left: Counter[str], right: Counter[str]) -> Counter[str]:
    total = Counter(left)
    total.update(right)  # unlike `left + right`, it keeps the names that were counted 0 times
    return total
