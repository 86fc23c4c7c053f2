"""From pairs and a doc store to the training table on disk: the driver's part of training, which loads no weights."""

from __future__ import annotations

import tempfile
from typing import Any

from lrat_ray import artifacts, query_template
from lrat_ray.config import Train
from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair
from lrat_ray.training import examples, tokens
from lrat_ray.training.batches import plan_batch, steps_per_epoch
from lrat_ray.training.encoder import tokens_per_forward
from lrat_ray.training.examples import Example, Selection
from lrat_ray.training.plan import Plan, Work, estimate_memory
from lrat_ray.training.shape import describe
from lrat_ray.training.tokenizer import Tokenizer
from lrat_ray.training.tokens import TrainingTable

TABLE = "training-table"
COUNTS = f"{TABLE}/counts.json"

_SAMPLED_PAIRS = 1024
_SAMPLED_BATCHES = 4


def write_table(output: str, train: Train, store: DocumentStore) -> dict[str, Any]:
    """Write `output`/training-table unless an interrupted run did; returns the counts that the manifest reports.

    Raises ConfigError for a base model that cannot be trained as configured, and TrainingDataError for unfit pairs.
    """
    counts_uri = artifacts.join(output, COUNTS)
    if artifacts.exists(counts_uri):
        return dict(artifacts.read_json(counts_uri))
    describe(train)  # a bad base model is found before anything is tokenised
    selection = select_pairs(train)
    _write(artifacts.join(output, TABLE), train, selection, store)
    counts = {**selection.counts, "mean_weight": float(selection.weights[~selection.held_out].mean())}
    artifacts.write_json(counts_uri, counts)
    return counts


def plan(train: Train, store: DocumentStore) -> Plan:
    """What a run would do and need. Its tokens and distinct documents a step are those of a sample of the pairs."""
    shape = describe(train)
    trained = (selection := select_pairs(train)).counts["trained"]
    sampled = train.model_copy(
        update={"max_pairs": max(_SAMPLED_PAIRS, _SAMPLED_BATCHES * train.batch_size), "validation_max_pairs": 1}
    )
    with tempfile.TemporaryDirectory() as folder:
        _write(folder, sampled, select_pairs(sampled), store)
        table = TrainingTable(folder)
        batches = [
            plan_batch(table, train, seed=train.seeds[0], epoch=0, place=place)
            for place in range(min(_SAMPLED_BATCHES, steps_per_epoch(len(table), train) * train.accumulation_steps))
        ]
    per_step = train.accumulation_steps / len(batches)
    work = Work(
        examples=trained,
        held_out=selection.counts["held_out"],
        steps=train.epochs * steps_per_epoch(trained, train),
        queries_per_step=train.batch_size * train.accumulation_steps,
        documents_per_step=per_step * sum(len(batch.document_lengths) for batch in batches),
        query_tokens_per_step=per_step * sum(int(batch.query_lengths.sum()) for batch in batches),
        document_tokens_per_step=per_step * sum(int(batch.document_lengths.sum()) for batch in batches),
    )
    return Plan(train=train, shape=shape, work=work, memory=estimate_memory(shape, train, work, tokens_per_forward(train)))


def select_pairs(train: Train) -> Selection:
    """Which of train.pairs are trained on and which are held out."""
    pairs = artifacts.read_rows(str(train.pairs), Pair, "pairs")
    return examples.select(
        pairs,
        max_pairs=train.max_pairs,
        validation_share=train.validation_share,
        validation_max_pairs=train.validation_max_pairs,
        seed=train.seeds[0],
    )


def _write(folder: str, train: Train, selection: Selection, store: DocumentStore) -> None:
    tokenizer = Tokenizer.open(train)
    pairs = artifacts.read_rows(str(train.pairs), Pair, "pairs")
    rows = tokens.write_examples(
        folder,
        examples.join(pairs, selection, store, mask_relevant=train.mask_relevant),
        queries=lambda example: _query_texts(train, example),
        tokenize=tokenizer.queries,
    )
    tokens.write_documents(folder, rows, store, tokenizer.passages)


def _query_texts(train: Train, example: Example) -> list[str]:
    if train.query_template == "query":
        return [example.query]
    return query_template.variants(
        train.query_template, example.query, question=example.question, reasoning=example.search_reasoning
    )
