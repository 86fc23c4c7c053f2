"""Building and asking the doc store beside a plain Python dict, as public retrieval servers hold a corpus: memory, lookups.

    python tests/perf/documents.py --corpus corpus.parquet [--copies 100] [--quick] [--json]

The corpus is written `copies` times over, with suffixed docids, and each measurement runs in a process of its own. Memory is
what a process holds at the end beyond what it held before it opened the corpus: private is its own, resident has the pages of
mapped files besides, which the system shares between processes and takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrat_ray import documents
from lrat_ray.artifacts import read_table
from lrat_ray.documents import DocumentStore

_AT_ONCE = 25_000  # about what one part of a mining run asks for
_ONE_BY_ONE = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="Parquet with docid, title and text")
    parser.add_argument("--copies", type=int, help="default: 100, or 10 with --quick")
    parser.add_argument("--quick", action="store_true", help="a tenth of the corpus: under a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "CORPUS", "STORE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, corpus, store = args.measure
        print(json.dumps(_MEASUREMENTS[what](corpus, store)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        corpus, store = os.path.join(scratch, "corpus.parquet"), os.path.join(scratch, "store")
        count = _write_copies(args.corpus, corpus, args.copies or (10 if args.quick else 100))
        found = {what: _measure(what, args.corpus, corpus, store) for what in _MEASUREMENTS}
    built, ours, peer = found["build"], found["store"], found["dict"]
    ratios = {
        "dict/store_private_memory": round(peer["private_mb"] / ours["private_mb"], 1),
        "dict/store_resident_memory": round(peer["resident_mb"] / ours["resident_mb"], 1),
        "dict/store_seconds_to_open": round(peer["open_s"] / ours["open_s"], 1),
        "store/dict_lookups_at_once": round(ours["lookups_at_once_per_s"] / peer["lookups_at_once_per_s"], 3),
        "store/dict_lookups_one_by_one": round(ours["lookups_one_by_one_per_s"] / peer["lookups_one_by_one_per_s"], 4),
    }
    figures = {"documents": count}
    figures |= {f"{what}_{name}": value for what, values in found.items() for name, value in values.items()}
    figures["build_documents_per_s"] = round(count / built["seconds"])
    if args.json:
        print(json.dumps({"ratios": ratios, "figures": figures}))
        return
    for title, values in (("ratios", ratios), ("figures", figures)):
        print(title, *(f"  {name}: {value}" for name, value in values.items()), sep="\n")


def _write_copies(source: str, target: str, copies: int) -> int:
    table = read_table(source).select(["docid", "title", "text"])
    docids = table.column("docid").to_pylist()
    with pq.ParquetWriter(target, table.schema) as writer:
        for copy in range(copies):
            writer.write_table(table.set_column(0, "docid", pa.array([f"{docid}-{copy}" for docid in docids])))
    return copies * len(docids)


def _measure(what: str, source: str, corpus: str, store: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--corpus", source, "--measure", what, corpus, store]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _build(corpus: str, store: str) -> dict[str, float]:
    before, began = _peak_mb(), time.perf_counter()
    documents.build(corpus, store)
    return {"seconds": round(time.perf_counter() - began, 1), "peak_mb": _peak_mb(), "peak_mb_before": before}


def _store(corpus: str, store: str) -> dict[str, float]:
    sample = _sample(corpus)
    before, began = _memory_mb(), time.perf_counter()
    opened = DocumentStore.open(store)
    seconds = time.perf_counter() - began
    return {
        "open_s": round(seconds, 4),
        "lookups_at_once_per_s": _rate(lambda docids: opened.rows(docids), sample, _AT_ONCE),
        "lookups_one_by_one_per_s": _rate(lambda docids: [opened.get(docid) for docid in docids], sample, _ONE_BY_ONE),
        **_grown(before),
    }


def _dict(corpus: str, store: str) -> dict[str, float]:
    sample = _sample(corpus)
    before, began = _memory_mb(), time.perf_counter()
    held: dict[str, tuple[str, str]] = {}
    with pq.ParquetFile(corpus) as file:
        for batch in file.iter_batches():
            held.update((row["docid"], (row["title"], row["text"])) for row in batch.to_pylist())
    seconds = time.perf_counter() - began
    return {
        "open_s": round(seconds, 1),
        "lookups_at_once_per_s": _rate(lambda docids: [held.get(docid) for docid in docids], sample, _AT_ONCE),
        "lookups_one_by_one_per_s": _rate(lambda docids: [held[docid] for docid in docids], sample, _ONE_BY_ONE),
        **_grown(before),
    }


_MEASUREMENTS: dict[str, Callable[[str, str], dict[str, float]]] = {"build": _build, "store": _store, "dict": _dict}


def _sample(corpus: str) -> list[str]:
    """Docids in no order, from all over the corpus."""
    with pq.ParquetFile(corpus) as file:
        rng = np.random.default_rng(0)
        groups = rng.choice(file.num_row_groups, min(5, file.num_row_groups), replace=False)
        docids = np.concatenate([file.read_row_group(int(g), columns=["docid"]).column(0).to_numpy() for g in groups])
    return [str(docid) for docid in rng.permutation(docids)[: 2 * _AT_ONCE]]


def _rate(ask: Callable[[Sequence[str]], object], docids: Sequence[str], count: int) -> int:
    """Lookups per second: the best of five turns, each with other docids where there are enough."""
    seconds = []
    for turn in range(5):
        asked = (docids[turn * count % len(docids) :] + docids)[:count]
        began = time.perf_counter()
        ask(asked)
        seconds.append(time.perf_counter() - began)
    return round(len(asked) / min(seconds))


def _memory_mb() -> dict[str, float]:
    with open("/proc/self/status", encoding="ascii") as status:
        found = dict(line.split(":", 1) for line in status)
    private, mapped = (int(found[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return {"private_mb": private, "resident_mb": private + mapped}


def _grown(before: dict[str, float]) -> dict[str, float]:
    return {name: round(value - before[name], 1) for name, value in _memory_mb().items()}


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
