"""Encode a corpus on Ray Data actors, part by part, so that an interrupted run continues at the first missing part."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data

from lrat_ray import artifacts
from lrat_ray.config import Index
from lrat_ray.documents import DocumentStore
from lrat_ray.models import Precision, resolve_model
from lrat_ray.progress import Progress
from lrat_ray.retrieval.encoder import encode_texts, load_encoder

_GPU_TOKENS_PER_BATCH = 65_536
_CPU_TOKENS_PER_BATCH = 2_048


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of the corpus, and the file that will hold their vectors."""

    uri: str
    start: int
    stop: int


def parts(documents: int, vectors: str, documents_per_part: int) -> list[Part]:
    """How a corpus of this many documents is cut; the same for every run with the same configuration."""
    starts = range(0, documents, documents_per_part)
    return [
        Part(artifacts.join(vectors, f"part-{i:05d}.npy"), start, min(start + documents_per_part, documents))
        for i, start in enumerate(starts)
    ]


def encode_corpus(documents: str, encoder: str, vectors: str, *, index: Index, precision: Precision) -> int:
    """Write `vectors`/part-*.npy ([rows, D] float32, row order of the documents artifact) where missing.

    Ray must be connected; every node resolves `encoder` (see `resolve_model`) for itself. Returns how many documents were
    encoded now, which leaves out the parts of an earlier run.
    """
    count = len(DocumentStore.open(documents))
    missing = [part for part in parts(count, vectors, index.documents_per_part) if not artifacts.exists(part.uri)]
    if not missing:
        return 0
    actors = min(index.num_actors, len(missing))
    dataset = ray.data.from_items([vars(part) for part in missing], override_num_blocks=len(missing)).map_batches(
        PartEncoder,
        fn_constructor_kwargs={
            "documents": documents,
            "encoder": encoder,
            "precision": precision,
            "max_tokens": index.passage_max_tokens,
            "device": "cuda" if index.use_gpu else "cpu",
            "actors_per_node": math.ceil(actors / len(ray.nodes())),
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=1 if index.use_gpu else 0,
    )
    encoded = 0
    progress = Progress("encode", sum(part.stop - part.start for part in missing), "documents")
    for row in dataset.iter_rows():
        encoded += row["documents"]
        progress.update(encoded)
    return encoded


class PartEncoder:
    """An actor that holds the encoder and the doc store, and writes one part of vectors at a time."""

    def __init__(
        self, documents: str, encoder: str, precision: Precision, max_tokens: int, device: str, actors_per_node: int
    ) -> None:
        import torch

        # Ray sets one thread per logical CPU that an actor holds; logical CPUs are not cores here (cluster.connect).
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // actors_per_node))
        self._store = DocumentStore.open(documents)
        self._model = load_encoder(resolve_model(encoder), precision=precision, max_tokens=max_tokens, device=device)
        self._tokens_per_batch = _GPU_TOKENS_PER_BATCH if device == "cuda" else _CPU_TOKENS_PER_BATCH

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """`batch` holds the fields of one Part; returns how many documents it had."""
        (uri,), (start,), (stop,) = batch["uri"], batch["start"], batch["stop"]
        texts = self._store.passages(range(int(start), int(stop)))
        vectors = encode_texts(self._model, texts, role="passage", tokens_per_batch=self._tokens_per_batch)
        with artifacts.atomic_write(str(uri)) as file:
            np.save(file, vectors, allow_pickle=False)
        return {"documents": np.array([len(vectors)])}
