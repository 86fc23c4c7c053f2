"""What is known of a question over all its trajectories: documents found useful, evidence the judge kept, a cap on pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lrat_ray.docids import hash_docids
from lrat_ray.schema import Browse

USEFUL = pa.schema([("hash", pa.uint64()), ("query_id", pa.large_string()), ("docid", pa.large_string())])
"""A table of documents that some trajectory found useful, by question; sorted by the hash of query_id."""

VERDICTS = ("query_id", "docid", "judge_status", "relevant", "relevance_probability")
"""What is read of browses to know what was found useful."""


def at_threshold(browses: pa.Table, threshold: float) -> pa.Table:
    """Browses (with the columns VERDICTS) as `judge.with_threshold` sees them: relevant from this probability on."""
    probability = browses["relevance_probability"]
    relevant = pc.if_else(pc.is_valid(probability), pc.greater_equal(probability, threshold), browses["relevant"])
    return browses.set_column(browses.schema.get_field_index("relevant"), "relevant", relevant)


def useful_documents(browses: Iterable[pa.Table]) -> pa.Table:
    """The documents found useful among some browses (tables with the columns VERDICTS), each once a question; schema USEFUL.

    One whose judgement failed may have been: it is among them.
    """
    names = USEFUL.names[1:]
    rows = pa.concat_tables([_distinct(_useful(table).select(names)) for table in browses])
    rows = _distinct(rows).cast(pa.schema([USEFUL.field(name) for name in names]))
    hashes = hash_docids(rows["query_id"].combine_chunks())
    return pa.table([pa.array(hashes), *rows.columns], schema=USEFUL).take(pa.array(np.argsort(hashes, kind="stable")))


def _useful(browses: pa.Table) -> pa.Table:
    may_be = pc.is_in(browses["judge_status"], pa.array(["unjudged", "failed"]))
    return browses.filter(pc.or_(may_be, pc.fill_null(browses["relevant"], False)))


def _distinct(rows: pa.Table) -> pa.Table:
    return rows.group_by(rows.column_names).aggregate([])


def by_question(useful: pa.Table, browses: Sequence[Browse]) -> dict[str, set[str]]:
    """query_id -> documents found useful (schema USEFUL), for the questions of some browses.

    `useful` may be mapped into memory: it is searched, not read.
    """
    asked = sorted({browse.query_id for browse in browses})
    hashes = hash_docids(pa.array(asked, pa.large_string()))
    column = useful["hash"].to_numpy()
    ends = zip(np.searchsorted(column, hashes, "left"), np.searchsorted(column, hashes, "right"), strict=True)
    found: dict[str, set[str]] = {}
    for query_id, (start, end) in zip(asked, ends, strict=True):
        rows = useful.slice(start, end - start)
        docids = rows.filter(pc.equal(rows["query_id"], query_id))["docid"].to_pylist()  # another may have the same hash
        if docids:
            found[query_id] = set(docids)
    return found


def over_the_cap(query_ids: pa.ChunkedArray, pair_ids: Sequence[str], relevant: np.ndarray, cap: int) -> np.ndarray:
    """[N] bool: which relevant pairs are too many for their question. Those kept are the `cap` with the lowest hash of pair_id.

    By a hash, the choice does not favour any trajectory, place or agent, and is the same in every run.
    """
    hashes = np.array([int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) for name in pair_ids], np.uint64)
    questions = query_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    positions = np.flatnonzero(relevant)
    order = positions[np.lexsort((hashes[positions], questions[positions]))]
    starts = np.flatnonzero(np.r_[True, np.diff(questions[order]) != 0]) if order.size else order
    place = np.arange(order.size) - np.repeat(starts, np.diff(np.r_[starts, order.size]))
    out = np.zeros(len(pair_ids), dtype=bool)
    out[order[place >= cap]] = True
    return out


def retention(browses: Iterable[pa.Table], evidence: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """How many judged browses of evidence and of other documents the judge kept (published: 97.2% and 74.8%).

    browses: tables with the columns VERDICTS; evidence: query_id -> docids; browses of a question without
    annotations do not count. Shares are None where nothing was judged.
    """
    judged = {True: 0, False: 0}
    kept = {True: 0, False: 0}
    for table in browses:
        rows = zip(*(table[name].to_pylist() for name in VERDICTS[:4]), strict=True)
        for query_id, docid, status, relevant in rows:
            if status == "judged" and (annotated := evidence.get(query_id)):
                judged[docid in annotated] += 1
                kept[docid in annotated] += bool(relevant)
    return {
        f"{name}_{what}": value
        for name, is_evidence in (("evidence", True), ("non_evidence", False))
        for what, value in (
            ("browses_judged", judged[is_evidence]),
            ("browses_kept", kept[is_evidence]),
            ("retention", kept[is_evidence] / judged[is_evidence] if judged[is_evidence] else None),
        )
    }
