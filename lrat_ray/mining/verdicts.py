"""The verdicts of a judging run while they come in: Parquet files that are durable one by one, and what is left to ask.

Every different reasoning of a whole run is judged once, so verdicts are kept by the id of the reasoning (judge.py), apart from
the browses that share them. Ids are handled as numpy arrays of 32 bytes: a driver holds those of tens of millions of browses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrat_ray import artifacts
from lrat_ray.mining.judge import Judgement
from lrat_ray.schema import arrow_schema, from_table, to_table

ID_TYPE = np.dtype("S32")
"""A reasoning's id: 32 hexadecimal digits."""
_READERS = 16


def pack(ids: Iterable[str]) -> bytes:
    """Ids one behind the other, as they travel."""
    return "".join(ids).encode()


def unpack(packed: bytes | pa.Buffer) -> np.ndarray:
    """[n] ids, of ID_TYPE."""
    return np.frombuffer(packed, ID_TYPE)


def write(uri: str, judgements: Sequence[Judgement]) -> None:
    """Add judgements to the store at `uri`, in a file that is there whole or not at all.

    The file is named by the reasonings in it, so that work which is done twice is not kept twice.
    """
    name = hashlib.blake2b(pack(sorted(j.reasoning_id for j in judgements)), digest_size=12).hexdigest()
    with artifacts.atomic_write(artifacts.join(uri, f"{name}.parquet")) as file:
        pq.write_table(to_table(judgements, Judgement), file)


def read(uri: str) -> pa.Table:
    """One row (schema Judgement) for each reasoning in the store at `uri`, by id; none where there is no store.

    Of several rows for a reasoning a verdict counts more than a failure, which was asked again.
    """
    files = artifacts.list_files(uri, ".parquet") if artifacts.exists(uri) else []
    with ThreadPoolExecutor(_READERS) as pool:  # an object store answers each of them late, and all of them at once
        tables = list(pool.map(artifacts.read_table, files))
    table = pa.concat_tables([arrow_schema(Judgement).empty_table(), *tables])
    # Nulls sort last. The probability orders what a lost node had judged twice, in another batch: any order will do, but one.
    order = [(name, "ascending") for name in ("reasoning_id", "relevant", "relevance_probability", "error")]
    table = table.sort_by(order).combine_chunks()
    ids = ids_of(table)
    is_first = np.ones(len(ids), bool)
    is_first[1:] = ids[1:] != ids[:-1]
    return table.filter(pa.array(is_first))


def ids_of(table: pa.Table) -> np.ndarray:
    """[n] ids of a table of judgements."""
    return unpack(table["reasoning_id"].combine_chunks().cast(pa.binary(ID_TYPE.itemsize)).buffers()[1] or b"")


def to_ask(ids_by_part: Sequence[np.ndarray], judgements: pa.Table) -> list[np.ndarray]:
    """Of the reasonings of each part those that still need a judgement, each in the first part that has it.

    A failure among the judgements is asked again.
    """
    judged = ids_of(judgements.filter(judgements["relevant"].is_valid()))
    ids = np.concatenate([np.empty(0, ID_TYPE), *ids_by_part])
    unique, first = np.unique(ids, return_index=True)
    is_asked = np.zeros(len(ids), bool)
    is_asked[first[~np.isin(unique, judged)]] = True
    ends = np.cumsum([len(part) for part in ids_by_part])
    return [ids[start:end][is_asked[start:end]] for start, end in zip([0, *ends], ends, strict=False)]


def only(judgements: pa.Table, ids: np.ndarray) -> pa.Table:
    """The judgements (as `read` gives them) on these reasonings, each of which must be among them."""
    known = ids_of(judgements)
    wanted = np.unique(ids)
    at = np.searchsorted(known, wanted)
    assert at.max(initial=-1) < len(known) and (known[at] == wanted).all(), "a reasoning was not judged"
    return judgements.take(pa.array(at))


def by_id(judgements: pa.Table) -> dict[str, Judgement]:
    """A table of judgements as rows."""
    return {row.reasoning_id: row for row in from_table(judgements, Judgement)}
