"""A part of a stage's output together with its account: what became of every row that went into it.

The account lies in the part's own Parquet metadata, so that a rerun can add up the parts that an interrupted run left.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from lrat_ray import artifacts
from lrat_ray.artifacts import Manifest, Work
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
    reasons = Counter(row.reason for row in rejected)
    account = Account(rows_in=rows_in, rows_out=len(rows), rejected=reasons, counts=Counter(counts))
    write_part_table(work, name, to_table(rows, row_type), account, rejected)


def write_part_table(work: Work, name: str, table: pa.Table, account: Account, rejected: Sequence[Rejected]) -> None:
    """The same for rows that are a table already, with an account that was counted elsewhere."""
    out, refused = len(table), account.rejected.total()
    assert (account.rows_in, account.rows_out) == (out + refused, out), f"{name}: {account} of {out} rows"
    work.write_rejected(part_stem(name), rejected)
    work.write_table(name, table.replace_schema_metadata({_KEY: account.to_json()}))


def part_stem(name: str) -> str:
    """The name by which the rejected rows of a part go: part-00000 of unweighted/part-00000.parquet."""
    return posixpath.splitext(posixpath.basename(name))[0]


def read_account(work: Work, name: str) -> Account:
    """The account of a part that `write_part` wrote."""
    with fsspec.open(artifacts.join(work.uri, name), "rb") as file:
        return Account.from_json(pq.read_schema(file).metadata[_KEY])


def total(reports: Iterable[dict[str, Any]]) -> Account:
    """The sum of the accounts that tasks report under "account"."""
    return sum((Account.from_json(report["account"]) for report in reports), Account())


def finish(work: Work, account: Account, *, parts: list[str], protocol: dict[str, Any], metrics: dict[str, Any]) -> Manifest:
    """Write the manifest of a stage: its account, and `metrics` beside the account's own."""
    return work.finish(parts=parts, rows=account.rows(), metrics={**account.metrics(), **metrics}, protocol=protocol)


def _sum(left: Counter[str], right: Counter[str]) -> Counter[str]:
    total = Counter(left)
    total.update(right)  # unlike `left + right`, it keeps the names that were counted 0 times
    return total
