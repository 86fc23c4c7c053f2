"""Trajectories per second of `lrat mine` (judge none) beside a plain single-process miner that makes the same pairs.

    python tests/perf/mining.py --runs DIR [--trajectories 20000] [--quick] [--json]

DIR holds real run files, from which as many run files of about 60 kB as are asked for are made: their steps strung together,
with docids and texts of their own. The plain miner is a loop over files with the same libraries (orjson, tokenizers, numpy,
pyarrow); its pairs must equal ours, weights included. It counts tokens by encoding each text; a second one counts them word by
word as we do, which shows what Ray and the rest of the pipeline cost and gain by themselves. Starting Ray and its workers is
timed apart. CPU seconds are those of the driver and of everything that it started. `--quick` makes 2,000 and leaves out the
larger runs.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from lrat_ray import cluster, documents
from lrat_ray.artifacts import Manifest, read_rows, read_table, remove
from lrat_ray.config import Config
from lrat_ray.mining import pipeline
from lrat_ray.models import resolve_model
from lrat_ray.schema import Pair, arrow_schema
from lrat_ray.sections import QUICKSTART_ENCODER
from lrat_ray.tokens import count_tokens

_BYTES = 60_000
_DOCID = re.compile(r"^DocID:(.*)$", re.MULTILINE)
_DOCIDS_IN_ARGUMENTS = re.compile(r'("docid": *"?)(\d+)')
_SEARCH, _BROWSE = {"search"}, {"get_document", "visit", "open", "fetch", "browse"}
_MB = 1024 * 1024

Counter = Callable[[Sequence[str]], list[int]]
"""Texts -> the tokens of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, type=Path, help="directory of real run files (*.json)")
    parser.add_argument("--trajectories", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="2,000 trajectories, one round: under two minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    count, rounds = (2_000, 1) if args.quick else (args.trajectories, 3)
    with tempfile.TemporaryDirectory(prefix="lrat-perf-") as folder:
        ratios, figures = measure(args.runs, Path(folder), count, rounds, quick=args.quick)
    if args.json:
        print(json.dumps({"ratios": ratios, "figures": figures}))
        return
    for title, values in (("ratios, ours to plain", ratios), ("figures", figures)):
        print(title, *(f"  {name}: {value}" for name, value in values.items()), sep="\n")


def measure(runs: Path, folder: Path, count: int, rounds: int, *, quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """(ratios, figures) of `count` made trajectories; the two miners take turns."""
    size = make_run_files(runs, folder / "runs", count)
    began = time.perf_counter()
    cluster.connect(Config().ray)
    mine(folder / "runs" / "000", folder / "warm-up")
    ray_start_s = time.perf_counter() - began

    miners: dict[str, Callable[[], object]] = {
        "plain": lambda: mine_plainly(folder / "runs", folder / "plain.parquet", encoding_counter()),
        "ours": lambda: mine(folder / "runs", folder / "pairs"),
        "plain_with_our_counter": lambda: mine_plainly(
            folder / "runs", folder / "plain.parquet", functools.partial(count_tokens, model=QUICKSTART_ENCODER)
        ),
    }
    usage: dict[str, list[Usage]] = {name: [] for name in miners}
    for _ in range(rounds):
        for name, miner in miners.items():
            usage[name].append(use(miner))
        check_equal(folder / "pairs", folder / "plain.parquet")

    ours = usage["ours"]
    ratios: dict[str, float] = {}
    for name in ("plain", "plain_with_our_counter"):
        both = list(zip(ours, usage[name], strict=True))
        ratios[f"trajectories_per_s_to_{name}"] = middle([peer.wall_s / our.wall_s for our, peer in both])
        ratios[f"cpu_s_per_trajectory_to_{name}"] = middle([our.cpu_s / peer.cpu_s for our, peer in both])
    figures: dict[str, Any] = {
        "trajectories": count,
        "kb_per_trajectory": round(size / count / 1000, 1),
        "cores": os.cpu_count(),
        **{f"{name}_trajectories_per_s": round(count / middle([one.wall_s for one in of])) for name, of in usage.items()},
        **{
            f"{name}_cpu_ms_per_trajectory": round(1000 * middle([one.cpu_s for one in of]) / count, 3)
            for name, of in usage.items()
        },
        "peak_mb_of_any_process": round(max(one.peak_mb for one in ours)),
        "ray_start_s": round(ray_start_s, 1),
    }
    ratios["peak_memory_10x_corpus"] = memory_of_a_larger_corpus(folder, figures, quick)
    if not quick:
        ratios["cost_per_trajectory_50000_to_1000"] = cost_over_size(folder, figures, count)
    cluster.shutdown()
    return ratios, figures


def memory_of_a_larger_corpus(folder: Path, figures: dict[str, Any], quick: bool) -> float:
    """Peak memory of mining with a corpus, over that with one of a tenth; notes both."""
    large = 200_000 if quick else 2_000_000
    known = {result for path in sorted((folder / "runs" / "000").glob("*.json")) for result in _DOCID.findall(path.read_text())}
    peaks = []
    for size in (large // 10, large):
        corpus = make_corpus(folder / f"corpus-{size}.parquet", size, known)
        store = documents.build(str(corpus), str(folder / f"documents-{size}")).uri
        sub = folder / "runs" if quick else folder / "runs" / "000"
        usage = use(lambda sub=sub, store=store: mine(sub, folder / "checked", corpus=store))
        peaks.append(usage.peak_mb)
        figures[f"peak_mb_with_{size}_documents"] = round(usage.peak_mb)
    return round(peaks[1] / peaks[0], 2)


def cost_over_size(folder: Path, figures: dict[str, Any], count: int) -> float:
    """Seconds per trajectory of 50,000 over that of 1,000; the 50,000 are links to those there are."""
    paths = sorted((folder / "runs").rglob("*.json"))
    for size in (1_000, 50_000):
        target = folder / f"links-{size}"
        for number in range(size):
            link = target / f"{number // 1000:03}" / f"{number}.json"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(paths[number % count], link)
    costs: dict[int, list[float]] = {1_000: [], 50_000: []}
    for size, repeats in ((1_000, 5), (50_000, 1), (1_000, 5)):
        for _ in range(repeats):
            usage = use(lambda size=size: mine(folder / f"links-{size}", folder / "sized"))
            costs[size].append(usage.cpu_s / size * 1000)
    for size, values in costs.items():
        figures[f"cpu_ms_per_trajectory_of_{size}"] = round(middle(values), 3)
    return round(middle(costs[50_000]) / middle(costs[1_000]), 2)


def mine(runs: Path, output: Path, corpus: str | None = None) -> Manifest:
    """`lrat mine` from scratch."""
    remove(str(output))
    return pipeline.run(Config().replace(trajectories=str(runs), output=str(output), corpus=corpus, mining__protocol="window"))


# The peer


def encoding_counter() -> Counter:
    """Texts -> tokens of each, by encoding them."""
    tokenizer = Tokenizer.from_file(str(Path(resolve_model(QUICKSTART_ENCODER)) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def mine_plainly(runs: Path, output: Path, count: Counter) -> None:
    """A loop over run files: pairs of protocol window with strict negatives, every browse relevant, weighed by eq. 3."""
    rows: list[dict[str, Any]] = []
    for path in sorted(runs.rglob("*.json")):
        with open(path, "rb") as file:
            run = orjson.loads(file.read())
        rows += plain_pairs(run, str(path.relative_to(runs)).removesuffix(".json"), count)
    lengths = np.array([row["reasoning_tokens"] for row in rows], float)
    raw = 1 - np.exp(-np.log(2) * lengths / np.median(lengths))
    for row, weight in zip(rows, raw / raw.mean(), strict=True):
        row["weight"] = weight
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(Pair)), output)


def plain_pairs(run: dict[str, Any], trajectory_id: str, count: Counter) -> list[dict[str, Any]]:
    """The pairs of one run file, not weighed yet."""
    searches: dict[int, list[str]] = {}
    queries: dict[int, str] = {}
    thoughts_before: dict[int, str | None] = {}
    shown: dict[str, tuple[int, int]] = {}
    browses: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for number, entry in enumerate(run["result"]):
        if entry["type"] == "reasoning":
            thoughts.append(entry["output"])
            for browse in waiting:
                browse["thoughts"].append(entry["output"])
            continue
        if waiting and waiting[0]["thoughts"]:
            waiting = []
        if entry["type"] == "tool_call":
            arguments = entry["arguments"]
            arguments = orjson.loads(arguments) if isinstance(arguments, str) else arguments
            if entry["tool_name"] in _SEARCH:
                waiting = []
                query = arguments["query"]
                queries[number] = query[0] if isinstance(query, list) else query
                searches[number] = [docid.strip() for docid in _DOCID.findall(entry["output"])]
                thoughts_before[number] = "\n".join(thoughts) or None
                for rank in range(len(searches[number]), 0, -1):
                    shown[searches[number][rank - 1]] = number, rank
            elif entry["tool_name"] in _BROWSE:
                docid = str(arguments["docid"]).strip()
                search, rank = shown.get(docid, (-1, 0))
                browse = {"step": number, "docid": docid, "search": search, "rank": rank, "thoughts": []}
                browses.append(browse)
                waiting.append(browse)
                browse["together"] = waiting
        thoughts = []
    reasonings = ["\n".join(browse["thoughts"]) for browse in browses]
    different = list(set(reasonings))
    tokens = dict(zip(different, count(different), strict=True))
    opened = {browse["docid"] for browse in browses}
    pairs = []
    for place, (browse, reasoning) in enumerate(zip(browses, reasonings, strict=True)):
        if browse["search"] < 0 or not queries[browse["search"]].strip():
            continue
        since = browses[place - 1]["step"] if place else -1
        window = [n for n in searches if since < n < browse["step"] or n == browse["search"]]
        negatives = dict.fromkeys([d for n in reversed(window) for d in searches[n] if d not in opened])
        pairs.append(
            {
                "pair_id": f"{trajectory_id}/{browse['step']}",
                "trajectory_id": trajectory_id,
                "query_id": str(run["query_id"]),
                "agent": run["metadata"]["model"],
                "question": run["query"],
                "query": queries[browse["search"]],
                "positive_docid": browse["docid"],
                "positive_rank": browse["rank"],
                "negative_docids": list(negatives),
                "browse_step": browse["step"],
                "relevant": True,
                "reasoning_tokens": round(tokens[reasoning] / len(browse["together"])),
                "search_reasoning": thoughts_before[browse["search"]],
            }
        )
    return pairs


def check_equal(ours: Path, plain: Path) -> None:
    """Raise AssertionError unless both made the same pairs."""
    left = {pair.pair_id: pair for pair in read_rows(str(ours), Pair, "pairs")}
    right = {row["pair_id"]: row for row in read_table(str(plain)).to_pylist()}
    assert left.keys() == right.keys(), f"{len(left)} pairs, {len(right)} plain ones"
    for pair_id, row in right.items():
        pair = left[pair_id]
        different = [name for name, value in row.items() if name != "weight" and getattr(pair, name) != value]
        assert not different, f"{pair_id}: {different}"
        assert abs(pair.weight - row["weight"]) < 1e-9, f"{pair_id}: weights {pair.weight} and {row['weight']}"


# Made input


def make_run_files(runs: Path, target: Path, count: int) -> int:
    """Write `count` run files, 1,000 a folder; returns their bytes. Each is made of real ones, in turn, up to 60 kB."""
    real = [orjson.loads(path.read_bytes()) for path in sorted(runs.glob("*.json"))]
    total = 0
    for number in range(count):
        path = target / f"{number // 1000:03}" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = orjson.dumps(made_run(real, number))
        path.write_bytes(text)
        total += len(text)
    return total


def made_run(real: Sequence[dict[str, Any]], number: int) -> dict[str, Any]:
    """A run file of about 60 kB: the steps of real ones after each other, docids and reasoning marked with the number."""
    result: list[dict[str, Any]] = []
    size = 0
    for entry in _entries(real, number):
        if size > _BYTES:
            break
        entry = dict(entry)
        if entry["type"] == "reasoning":
            entry["output"] = f"Run {number}. {entry['output']}"
        elif entry["type"] == "tool_call":
            entry["arguments"] = _DOCIDS_IN_ARGUMENTS.sub(rf"\g<1>{number % 1000 + 1}\g<2>", entry["arguments"])
            entry["output"] = _DOCID.sub(rf"DocID:{number % 1000 + 1}\g<1>", entry["output"])
        size += len(str(entry["output"])) + 200
        result.append(entry)
    first = real[number % len(real)]
    return {**first, "query_id": str(number), "retrieved_docids": [], "result": result}


def _entries(real: Sequence[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    for offset in range(100):
        for entry in real[(number + offset) % len(real)]["result"]:
            if entry["type"] != "output_text":
                yield entry


def make_corpus(path: Path, size: int, known: set[str]) -> Path:
    """A corpus of `size` short documents, those that the run files show among them."""
    docids = [*sorted(known), *(f"made-{number}" for number in range(size - len(known)))]
    texts = pa.array(["A passage of some words."] * size)
    pq.write_table(pa.table({"docid": docids, "text": texts}), path)
    return path


# Measuring


@dataclass(frozen=True)
class Usage:
    """What a piece of work took: seconds, CPU seconds of all processes, and the highest memory (RSS) of any of them."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def use(work: Callable[[], object]) -> Usage:
    """Run something and say what it took of this process and everything it started."""
    gc.collect()
    with PeakOfAnyProcess() as memory:
        cpu, began = family_cpu_s(), time.perf_counter()
        work()
        wall_s = time.perf_counter() - began
        cpu_s = family_cpu_s() - cpu
    return Usage(wall_s, cpu_s, memory.peak_mb)


class PeakOfAnyProcess:
    """Context manager: `.peak_mb` is the highest resident memory that any process of the family had while the block ran."""

    def __enter__(self) -> PeakOfAnyProcess:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            for process in family():
                try:
                    self.peak_mb = max(self.peak_mb, process.memory_info().rss / _MB)
                except psutil.NoSuchProcess:
                    continue


def family() -> list[psutil.Process]:
    process = psutil.Process()
    return [process, *process.children(recursive=True)]


def family_cpu_s() -> float:
    """CPU seconds that the family has used, ended children included."""
    total = 0.0
    for process in family():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def middle(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


if __name__ == "__main__":
    main()
