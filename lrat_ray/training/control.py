"""The control arm: (title -> text) pairs of the corpus, with no agent data, to tell what domain adaptation alone is worth."""

from __future__ import annotations

import dataclasses

import numpy as np

from lrat_ray import artifacts, documents
from lrat_ray.artifacts import Manifest
from lrat_ray.config import Config
from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Document, Pair
from lrat_ray.training.examples import TrainingDataError

_PAIRS = "part-00000.parquet"


def build_control(config: Config, *, pairs: int, seed: int) -> Manifest:
    """Write the control arm's pairs artifact at `output`, and at `output`/documents the passages that they name.

    Training takes the two as train.pairs and corpus: the same loop and the same steps as the agent data. Raises
    TrainingDataError if the corpus has fewer than `pairs` titled documents, ArtifactError if it is missing.
    """
    output = config.require("output", "the control arm's pairs are written there")
    corpus = config.require("corpus", "the control arm's pairs are its titles and texts")
    work = artifacts.begin(
        output,
        kind="pairs",
        config={**config.only("train.group_size"), "control": {"pairs": pairs, "seed": seed}},
        inputs={"corpus": corpus},
        force=config.force,
    )
    if work.manifest:
        return work.manifest
    scratch = artifacts.join(output, "scratch")
    store = DocumentStore.open(documents.ensure(corpus, artifacts.join(scratch, "corpus"), config=config))
    chosen = control_pairs(store, pairs=pairs, group_size=config.train.group_size, seed=seed)
    named = sorted({store.row(docid) for pair in chosen for docid in (pair.positive_docid, *pair.negative_docids)})
    untitled = (dataclasses.replace(store.document(row), title=None) for row in named)
    work.write_rows("scratch/untitled.parquet", untitled, Document)
    documents.build(artifacts.join(scratch, "untitled.parquet"), artifacts.join(output, "documents"), force=True)
    work.write_rows(_PAIRS, chosen, Pair)
    rows = {"in": len(store), "out": pairs, "rejected": 0, "not_sampled": len(store) - pairs}
    manifest = work.finish(parts=[_PAIRS], rows=rows)
    artifacts.remove(scratch)
    return manifest


def control_pairs(store: DocumentStore, *, pairs: int, group_size: int, seed: int) -> list[Pair]:
    """`pairs` documents that have a title: the title is the query, the document the positive, other documents the negatives.

    Seeded; weights are 1. Raises TrainingDataError if there are fewer such documents, or too few others for a group.
    """
    if group_size > len(store):
        raise TrainingDataError(f"train.group_size={group_size} needs more documents than the {len(store)} of {store.uri}")
    rng = np.random.default_rng(seed)
    titled: list[int] = []
    for row in rng.permutation(len(store)).tolist():
        if len(titled) == pairs:
            break
        if store.document(row).title:
            titled.append(row)
    if len(titled) < pairs:
        raise TrainingDataError(f"the control arm needs {pairs} documents with a title; {store.uri} has {len(titled)}")
    return [_pair(store, row, rng.choice(len(store), group_size, replace=False).tolist(), group_size) for row in titled]


def _pair(store: DocumentStore, row: int, candidates: list[int], group_size: int) -> Pair:
    document = store.document(row)
    title = document.title or ""
    negatives = [store.docid(other) for other in candidates if other != row][: group_size - 1]
    return Pair(
        pair_id=f"control-{document.docid}",
        trajectory_id="control",
        query_id=f"control-{document.docid}",
        agent="control",
        question=title,
        query=title,
        positive_docid=document.docid,
        positive_rank=1,
        negative_docids=negatives,
        browse_step=0,
        relevant=True,
        reasoning_tokens=0,
        weight=1.0,
    )
