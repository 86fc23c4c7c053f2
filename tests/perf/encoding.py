"""Documents per second of `encode_texts` beside SentenceTransformer.encode: same model, texts, threads and process.

    python tests/perf/encoding.py --corpus corpus.parquet [--quick] [--json]

Each round times every variant once, in turn, so that a busy machine slows all of them; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from lrat_ray.artifacts import read_table
from lrat_ray.documents import passage
from lrat_ray.models import resolve_model, usable_precision
from lrat_ray.retrieval.encoder import encode_texts, load_encoder
from lrat_ray.schema import Document, from_table
from lrat_ray.sections import QUICKSTART_ENCODER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, help="Parquet with docid, title and text")
    parser.add_argument("--quick", action="store_true", help="fewer documents and rounds: under two minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    documents, rounds = (384, 3) if args.quick else (2048, 5)
    texts = [passage(document) for document in from_table(read_table(args.corpus), Document)]
    texts = [texts[i] for i in np.random.default_rng(0).choice(len(texts), documents, replace=False)]

    folder, bf16 = resolve_model(QUICKSTART_ENCODER), usable_precision("bf16")
    plain, ours = load_encoder(folder, precision="fp32"), load_encoder(folder, precision=bf16)
    variants: dict[str, Callable[[], np.ndarray]] = {
        "sentence_transformers_fp32": lambda: plain.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        f"sentence_transformers_{bf16}": lambda: ours.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        f"ours_{bf16}": lambda: encode_texts(ours, texts, role="passage"),
        "ours_fp32": lambda: encode_texts(plain, texts, role="passage"),
    }
    vectors = {name: np.asarray(encode(), np.float32) for name, encode in variants.items()}  # also the warm-up
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, encode in variants.items():
            began = time.perf_counter()
            encode()
            seconds[name].append(time.perf_counter() - began)

    reference = vectors["sentence_transformers_fp32"]
    fastest = f"ours_{bf16}"
    ratios = {
        f"{fastest}/{peer}": round(statistics.median(p / o for p, o in zip(seconds[peer], seconds[fastest], strict=True)), 2)
        for peer in (f"sentence_transformers_{bf16}", "sentence_transformers_fp32")
    }
    figures = {f"{name}_documents_per_s": round(documents / statistics.median(times), 1) for name, times in seconds.items()}
    cosine = {f"{name}_lowest_cosine": round(float((v * reference).sum(1).min()), 5) for name, v in vectors.items()}
    if args.json:
        print(json.dumps({"ratios": ratios, "figures": {**figures, **cosine}}))
        return
    for title, values in (("ratios of documents/s", ratios), ("figures", {**figures, **cosine})):
        print(title, *(f"  {name}: {value}" for name, value in values.items()), sep="\n")


if __name__ == "__main__":
    main()
