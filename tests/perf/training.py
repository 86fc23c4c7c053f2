"""Examples per second of our training loop beside public trainers: same model, batches, lengths, precision, frozen layers.

    python tests/perf/training.py --data DIR [--flagembedding PYTHON] [--max-tokens 96] [--quick] [--json]

DIR holds corpus.parquet (docid, title, text), and questions-train.parquet and questions-dev.parquet (question, evidence_docids,
subquestions). A question or sub-question is a query, its document the positive, and negatives are what BM25 finds for it; no
document is the positive of two pairs, nor a positive here and a negative there, so that all losses are the same sum. The peers:

- sentence-transformers' trainer with MultipleNegativesRankingLoss, and with its cached kind
  (needs `pip install accelerate datasets` beside this project);
- FlagEmbedding's trainer for encoders, if PYTHON is given, that of an environment of its own, for it brings packages that this
  project does without: `python -m venv flag && flag/bin/pip install torch==2.13.0 "transformers<5.20" FlagEmbedding==1.4.2`.
  It has no option that freezes layers or chooses attention, so training_peers.py does that.

Every trainer is a process that takes a few steps when it is its turn, so that a busy machine slows all of them; the first turns
do not count, and ratios are medians over turns. Ours is what a Ray Train worker runs, without Ray around it: the training
table, batches read ahead, the DeepSpeed engine, its steps. Peers run in bf16 where we do, with the attention and the mini-batch
that took them the least CPU time in a trial. Memory is the most that a process held (RSS), imports included. Before that, all
of them take three steps in fp32, whose losses must be equal. After an epoch all models rank held-out pairs. `--quick` takes a
few turns, tries no settings and ranks nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from training_peers import Turns, read_settings, save

from lrat_ray import artifacts, documents
from lrat_ray.artifacts import read_table
from lrat_ray.config import Train
from lrat_ray.documents import DocumentStore
from lrat_ray.models import resolve_model, usable_precision
from lrat_ray.retrieval.bm25 import LexicalIndex
from lrat_ray.schema import Pair
from lrat_ray.training.batches import Batch, plan_batch, steps_per_epoch
from lrat_ray.training.loop import WORKER_ENVIRONMENT
from lrat_ray.training.prepare import TABLE, write_table
from lrat_ray.training.schedule import learning_rate
from lrat_ray.training.tokens import TrainingTable

_NEGATIVES_FROM = 30  # the first results of BM25 that are no evidence
_HELD_OUT = 200
_HELD_OUT_NEGATIVES = 10
_FP32_STEPS = 3
_TRIAL_STEPS = 2
_OPTIONS = ("attention", "mini_batch_size", "sub_batch_size")
_MINI_BATCHES: dict[str, list[tuple[str, int | None]]] = {
    "sentence_transformers": [("mini_batch_size", None)],
    "sentence_transformers_cached": [("mini_batch_size", 8), ("mini_batch_size", 32)],
    "flagembedding": [("sub_batch_size", None), ("sub_batch_size", 8)],
}
_TOLERANCE = 2e-3  # nats, after as many optimizer steps
_OUR_ENVIRONMENT = {**WORKER_ENVIRONMENT, "LOCAL_RANK": "0"}  # Ray Train sets the latter, which DeepSpeed reads
# On a machine that does anything else, peers take up to four times as long with the default, under which threads spin.
_PEERS_ENVIRONMENT = {"OMP_WAIT_POLICY": WORKER_ENVIRONMENT["OMP_WAIT_POLICY"]}


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--contestant":
        train_in_turns(sys.argv[2], sys.argv[3], Turns())
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="directory of corpus and questions")
    parser.add_argument("--flagembedding", metavar="PYTHON", help="interpreter of an environment with FlagEmbedding")
    parser.add_argument("--max-tokens", type=int, default=96, help="of a query or passage")
    parser.add_argument("--quick", action="store_true", help="a few steps: under two minutes on two free cores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lrat-perf-") as folder:
        ratios, figures = measure(args.data, folder, args.flagembedding, args.max_tokens, quick=args.quick)
    if args.json:
        print(json.dumps({"ratios": ratios, "figures": figures}))
        return
    for title, values in (("ratios", ratios), ("figures", figures)):
        print(title, *(f"  {name}: {value}" for name, value in values.items()), sep="\n")


def measure(
    data: Path, folder: str, flagembedding: str | None, max_tokens: int, *, quick: bool
) -> tuple[dict[str, float], dict[str, Any]]:
    """(ratios of ours to each peer, figures)."""
    train = write_data(data, folder, max_tokens)
    steps = steps_per_epoch(len(TrainingTable(os.path.join(folder, TABLE))), train)
    ours = {"python": sys.executable, "kind": "ours"}
    pythons = {"sentence_transformers": sys.executable}
    if not quick:
        pythons["sentence_transformers_cached"] = sys.executable
    if flagembedding:
        pythons["flagembedding"] = flagembedding
    peers: dict[str, dict[str, Any]] = {name: {"python": python, "kind": name} for name, python in pythons.items()}

    write_settings(folder, {"ours": ours, **peers}, train, steps=_FP32_STEPS, precision="fp32")
    figures = loss_equality(folder, ["ours", *peers])
    if not quick:
        peers = {name: best_settings(folder, peer, train) for name, peer in peers.items()}
    figures |= {f"{name}_{option}": peer[option] for name, peer in peers.items() for option in _OPTIONS if option in peer}

    size, turns = (3, 4) if quick else (5, steps // 5)  # what is left over runs untimed
    write_settings(folder, {"ours": ours, **peers}, train, steps=size * turns if quick else steps)
    taken = take_turns(folder, ["ours", *peers], turns=turns, steps=size)
    steady = {name: answers[1 if quick else 2 :] for name, answers in taken.items()}
    ratios: dict[str, float] = {}
    for name in peers:
        both = list(zip(steady["ours"], steady[name], strict=True))
        ratios[f"examples_per_s_to_{name}"] = round(statistics.median(p["wall_s"] / o["wall_s"] for o, p in both), 3)
        ratios[f"cpu_s_to_{name}"] = round(statistics.median(o["cpu_s"] / p["cpu_s"] for o, p in both), 3)
        ratios[f"peak_memory_to_{name}"] = round(taken["ours"][-1]["peak_mb"] / taken[name][-1]["peak_mb"], 3)
    for name, answers in taken.items():
        losses = [loss for answer in answers for loss in answer["losses"]]
        figures[f"{name}_examples_per_s"] = round(speed(steady[name], train), 2)
        figures[f"{name}_peak_mb"] = round(answers[-1]["peak_mb"])
        figures[f"{name}_loaded_mb"] = round(answers[-1]["loaded_mb"])
        figures[f"{name}_mean_loss_of_last_quarter"] = round(statistics.mean(losses[-len(losses) // 4 :]), 4)
    if not quick:
        figures |= rank_held_out(folder, ["base", "ours", *peers])
    return ratios, {**figures, "precision": usable_precision("bf16"), "cores": os.cpu_count(), "steps": steps}


def best_settings(folder: str, peer: dict[str, Any], train: Train) -> dict[str, Any]:
    """A peer with the settings under which it takes the least CPU time; tried alone, for some take much memory."""
    sizes = [{option: size} for option, size in _MINI_BATCHES[peer["kind"]]]
    variants = {
        f"trial_{attention}_{i}": {**peer, **size, "attention": attention}
        for attention in ("eager", "sdpa")
        for i, size in enumerate(sizes)
    }
    write_settings(folder, variants, train, steps=2 * _TRIAL_STEPS)
    cpu_s = {name: take_turns(folder, [name], turns=2, steps=_TRIAL_STEPS)[name][1]["cpu_s"] for name in variants}
    return variants[min(cpu_s, key=cpu_s.__getitem__)]


def speed(answers: Sequence[dict[str, Any]], train: Train) -> float:
    """Examples per second: the median of some turns."""
    return statistics.median(len(answer["losses"]) * train.batch_size / answer["wall_s"] for answer in answers)


def loss_equality(folder: str, names: Sequence[str]) -> dict[str, float]:
    """The fp32 losses of the first batches, with an optimizer step after each. Raises AssertionError if they differ."""
    taken = take_turns(folder, names, turns=1, steps=_FP32_STEPS)
    losses = {name: answers[0]["losses"] for name, answers in taken.items()}
    apart = {name: max(abs(a - b) for a, b in zip(losses["ours"], of, strict=True)) for name, of in losses.items()}
    # FlagEmbedding draws the order of an example's negatives, which changes rounding alone.
    assert max(apart.values()) < _TOLERANCE, f"losses differ: {losses}"
    return {f"fp32_loss_{i}": round(loss, 5) for i, loss in enumerate(losses["ours"])} | {
        f"{name}_fp32_loss_apart": float(f"{value:.1e}") for name, value in apart.items() if name != "ours"
    }


# The data, the same for all


def write_data(data: Path, folder: str, max_tokens: int) -> Train:
    """Write the training table of ours, and the same batches for the peers; returns section `train`."""
    store = DocumentStore.open(documents.build(str(data / "corpus.parquet"), os.path.join(folder, "documents")).uri)
    index = LexicalIndex.build(store.passages(range(len(store))))
    train_questions = read_table(str(data / "questions-train.parquet")).to_pylist()
    dev_questions = read_table(str(data / "questions-dev.parquet")).to_pylist()
    evidence = {store.row(docid) for question in (*train_questions, *dev_questions) for docid in question["evidence_docids"]}
    rng = np.random.default_rng(0)
    found = queries_and_positives(train_questions, store, rng)
    train = Train(
        pairs=os.path.join(folder, "pairs"),
        query_max_tokens=max_tokens,
        passage_max_tokens=max_tokens,
        validation_share=0,
        weight_decay=0.0,  # transformers' trainer leaves out some weights
    )
    found = found[: len(found) // train.batch_size * train.batch_size]
    pairs = []
    for number, (query, positive) in enumerate(found):
        negatives = lexical_negatives(index, query, evidence, train.group_size - 1, rng)
        pairs.append(pair(number, query, [store.docid(row) for row in (positive, *negatives)]))
    work = artifacts.begin(str(train.pairs), kind="pairs", config={}, inputs={})
    work.write_rows("part-00000.parquet", pairs, Pair)
    work.finish(parts=["part-00000.parquet"], rows={"in": len(pairs), "out": len(pairs), "rejected": 0})
    train = train.model_copy(update={"base_model": resolve_model(train.base_model)})
    write_table(folder, train, store)
    write_columns(folder, train, store, pairs)
    held_out = queries_and_positives(dev_questions, store, rng)[:_HELD_OUT]
    pool = {row for query, _ in held_out for row in lexical_negatives(index, query, evidence, _HELD_OUT_NEGATIVES, rng)}
    rows = sorted(pool | {positive for _, positive in held_out})
    passages = store.passages(rows)
    with open(os.path.join(folder, "held-out.json"), "w", encoding="utf-8") as file:
        json.dump({"pairs": [(query, rows.index(positive)) for query, positive in held_out], "passages": passages}, file)
    return train


def queries_and_positives(
    questions: list[dict[str, Any]], store: DocumentStore, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """(query, row of its document) in random order, each document once: of sub-questions, or else of the question."""
    found: dict[int, str] = {}
    for question in questions:
        for sub in question["subquestions"] or []:
            found.setdefault(store.row(sub["docid"]), sub["question"])
        for docid in question["evidence_docids"]:
            found.setdefault(store.row(docid), question["question"])
    pairs = [(query, row) for row, query in found.items()]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def lexical_negatives(index: LexicalIndex, query: str, evidence: set[int], count: int, rng: np.random.Generator) -> list[int]:
    """Rows drawn from the best results of BM25 that are nobody's evidence, filled up with any others."""
    results = [row for row, _ in index.search(query, _NEGATIVES_FROM + len(evidence)) if row not in evidence][:_NEGATIVES_FROM]
    chosen = rng.permutation(results)[:count].tolist()
    while len(chosen) < count:
        row = int(rng.integers(len(index)))
        if row not in evidence and row not in chosen:
            chosen.append(row)
    return chosen


def pair(number: int, query: str, docids: list[str]) -> Pair:
    return Pair(
        pair_id=str(number),
        trajectory_id=str(number),
        query_id=str(number),
        agent="made",
        question=query,
        query=query,
        positive_docid=docids[0],
        positive_rank=1,
        negative_docids=docids[1:],
        browse_step=0,
        relevant=True,
        reasoning_tokens=1,
        weight=1.0,
    )


def write_columns(folder: str, train: Train, store: DocumentStore, pairs: list[Pair]) -> None:
    """The first epoch of our batches as texts, in order: columns.parquet and pairs.jsonl."""
    table = TrainingTable(os.path.join(folder, TABLE))
    names = ["query", "positive", *(f"negative_{i}" for i in range(1, train.group_size))]
    columns: dict[str, list[str]] = {name: [] for name in names}
    for place in range(steps_per_epoch(len(table), train)):
        plan = plan_batch(table, train, seed=train.seeds[0], epoch=0, place=place)
        columns["query"] += [pairs[int(table.pair_id(i))].query for i in plan.examples.tolist()]
        for name, rows in zip(names[1:], plan.groups.T, strict=True):
            columns[name] += store.passages(rows.tolist())
    pq.write_table(pa.table(columns), os.path.join(folder, "columns.parquet"))
    with open(os.path.join(folder, "pairs.jsonl"), "w", encoding="utf-8") as file:
        for query, positive, *negatives in zip(*columns.values(), strict=True):
            file.write(json.dumps({"query": query, "pos": [positive], "neg": negatives}) + "\n")


def write_settings(
    folder: str, contestants: dict[str, dict[str, Any]], train: Train, *, steps: int, precision: str | None = None
) -> None:
    rates = [
        learning_rate(step, steps=steps, peak=train.learning_rate, warmup_ratio=train.warmup_ratio, decay=train.decay)
        for step in range(steps)
    ]
    train = train.model_copy(update={"precision": precision or usable_precision(train.precision)})
    of_all = {
        "train": train.model_dump(mode="json"),
        "model": train.base_model,
        "steps": steps,
        "rates": rates,
        "max_tokens": train.passage_max_tokens,
        "attention": "eager" if train.passage_max_tokens <= 128 else "sdpa",
        "mini_batch_size": 32,
        "sub_batch_size": None,
    }
    shared = ("batch_size", "group_size", "temperature", "freeze_layers", "precision", "max_grad_norm")
    of_all |= {name: getattr(train, name) for name in shared}
    with open(os.path.join(folder, "settings.json"), "w", encoding="utf-8") as file:
        json.dump({"of_all": of_all, "of": contestants}, file)


# Turns


def take_turns(folder: str, names: Sequence[str], *, turns: int, steps: int) -> dict[str, list[dict[str, Any]]]:
    """Start the contestants, let each take `steps` steps in turn, `turns` times; returns the answers of each.

    The order changes from turn to turn. What they print goes to NAME.log in the folder.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    processes: dict[str, subprocess.Popen[str]] = {}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    try:
        for name in names:
            settings = read_settings(name, folder)
            is_ours = settings["kind"] == "ours"
            script = [f"{here}/training.py", "--contestant"] if is_ours else [f"{here}/training_peers.py"]
            with open(os.path.join(folder, f"{name}.log"), "a", encoding="utf-8") as log:
                processes[name] = subprocess.Popen(
                    [settings["python"], *script, name, folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, "HF_HUB_OFFLINE": "1"} | (_OUR_ENVIRONMENT if is_ours else _PEERS_ENVIRONMENT),
                )
            _answer(processes[name], name, folder)
        for turn in range(turns):
            for name in names[:: 1 if turn % 2 else -1]:
                stdin = processes[name].stdin
                assert stdin is not None
                stdin.write(f"{steps}\n")
                stdin.flush()
                answers[name].append(_answer(processes[name], name, folder))
        for process in processes.values():
            process.communicate()
    finally:
        for process in processes.values():
            process.kill()
    return answers


def _answer(process: subprocess.Popen[str], name: str, folder: str) -> dict[str, Any]:
    assert process.stdout is not None
    if line := process.stdout.readline():
        return dict(json.loads(line))
    log = Path(folder, f"{name}.log").read_text(encoding="utf-8").strip().splitlines()
    raise RuntimeError(f"{name} ended with status {process.wait()}: {' | '.join(log[-5:])}")


def train_in_turns(name: str, folder: str, turns: Turns) -> None:
    """Ours: what `worker.train_worker` does on the only worker, from the training table on."""
    import torch
    import torch.distributed as dist

    from lrat_ray.training.encoder import load_encoder, tokens_per_forward
    from lrat_ray.training.engine import Stopwatch, build_engine, train_step

    settings = read_settings(name, folder)
    train = Train(**settings["train"])
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as the worker does
    dist.init_process_group("gloo", init_method=f"file://{folder}/{os.getpid()}.store", rank=0, world_size=1)
    table = TrainingTable(os.path.join(folder, TABLE))
    engine = build_engine(load_encoder(train, device="cpu"), train, workers=1)
    tokens, stopwatch = tokens_per_forward(train), Stopwatch()

    def batches(step: int) -> list[Batch]:
        return [plan_batch(table, train, seed=train.seeds[0], epoch=0, place=step).take(table, 0, 1, tokens)]

    turns.start()
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(batches, 0)
        for step, rate in enumerate(settings["rates"]):
            parts = upcoming.result()
            if step + 1 < settings["steps"]:
                upcoming = reader.submit(batches, step + 1)
            turns.step(train_step(engine, parts, train, rate=rate, stopwatch=stopwatch))
    save(engine.module.model.transformers_model, settings, folder)
    dist.destroy_process_group()


# What was learnt


def rank_held_out(folder: str, names: Sequence[str]) -> dict[str, float]:
    """nDCG@10 and MRR of each trained model, and of the base model, on the held-out pairs among all their documents."""
    from transformers import AutoModel

    from lrat_ray.retrieval.encoder import encode_texts, load_encoder

    with open(os.path.join(folder, "held-out.json"), encoding="utf-8") as file:
        held_out = json.load(file)
    settings = read_settings("ours", folder)
    queries, positives = zip(*held_out["pairs"], strict=True)
    figures: dict[str, float] = {"held_out_pairs": len(queries), "held_out_documents": len(held_out["passages"])}
    for name in names:
        model = load_encoder(settings["model"], precision="fp32", max_tokens=settings["max_tokens"])
        if name != "base":
            trained = AutoModel.from_pretrained(os.path.join(folder, "models", name), dtype="float32")
            assert model.transformers_model is not None
            model.transformers_model.load_state_dict(trained.state_dict())
        scores = encode_texts(model, queries, role="query") @ encode_texts(model, held_out["passages"], role="passage").T
        own = scores[np.arange(len(queries)), list(positives)]
        ranks = (scores >= own[:, None]).sum(axis=1)
        figures[f"{name}_ndcg@10"] = round(float(np.mean([1 / math.log2(1 + r) if r <= 10 else 0 for r in ranks])), 4)
        figures[f"{name}_mrr"] = round(float(np.mean(1 / ranks)), 4)
    return figures


if __name__ == "__main__":
    main()
