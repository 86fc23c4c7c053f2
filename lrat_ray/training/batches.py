"""Which examples and documents a step sees: a function of (seed, epoch, step) alone, dealt out to any number of workers.

Nothing here has a state, so a resumed run continues with the very batches of an uninterrupted one, and K workers with B / K
queries each hold together what one worker with B queries holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrat_ray.training.examples import TrainingDataError
from lrat_ray.training.tokens import TrainingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B queries with groups of G documents. Each distinct document stands (and is encoded) once; slots point to it.

    queries: B token arrays; documents: D token arrays; both from short to long. slots: [B * G] document of each slot, group
    after group, the positive first. positives: [B] slot of each positive. left_out: [B, B * G] slots that are no negative of a
    query. weights: [B].
    """

    queries: list[np.ndarray]
    documents: list[np.ndarray]
    slots: np.ndarray
    positives: np.ndarray
    left_out: np.ndarray
    weights: np.ndarray


def epoch_order(examples: int, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """[steps, batch_size] example of each place in an epoch: every example once, in seeded order.

    The last batch is filled up from the start of that order, so that all steps weigh alike and nothing is left out.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    steps = -(-examples // batch_size)
    return np.resize(order, (steps, batch_size))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    return -(-examples // batch_size)


def negative_group(table: TrainingTable, i: int, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """[size] rows of negatives of example i.

    Enough negatives: a sample. Fewer: all of them, the rest resampled with replacement, as in the published recipe. None:
    documents of other examples that are not known to help this one's question; TrainingDataError if there are none of those.
    """
    own = table.negatives(i)
    if len(own) >= size:
        return rng.choice(own, size, replace=False)
    if len(own) > 0:
        return np.concatenate([own, rng.choice(own, size - len(own))])
    others = np.setdiff1d(table.document_rows, table.relevant(i))
    if len(others) == 0:
        raise TrainingDataError(
            f"pair {table.pair_id(i)!r} has no negatives, and the other pairs have no document that is not relevant to it; "
            "mine more trajectories"
        )
    return rng.choice(others, size)


def make_batch(
    table: TrainingTable, examples: np.ndarray, *, group_size: int, in_batch_negatives: bool, seed: int, epoch: int
) -> Batch:
    """The batch of some examples. An example's negatives depend on (seed, epoch, example), not on its neighbours."""
    examples = np.array(sorted(examples.tolist(), key=lambda i: len(table.query(i))))  # stable: equal lengths keep their order
    groups = np.stack([_group(table, i, group_size, np.random.default_rng([seed, epoch, i])) for i in examples.tolist()])
    rows, slots = np.unique(groups, return_inverse=True)
    tokens = [table.document(row) for row in rows.tolist()]
    by_length = np.argsort([len(t) for t in tokens], kind="stable")
    place = np.empty_like(by_length)
    place[by_length] = np.arange(len(by_length))
    return Batch(
        queries=[table.query(i) for i in examples.tolist()],
        documents=[tokens[i] for i in by_length.tolist()],
        slots=place[slots.reshape(-1)],
        positives=np.arange(len(examples)) * group_size,
        left_out=left_out(groups, [table.relevant(i) for i in examples.tolist()], in_batch_negatives=in_batch_negatives),
        weights=np.array([table.weight(i) for i in examples.tolist()], np.float32),
    )


def _group(table: TrainingTable, i: int, size: int, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([[table.positive(i)], negative_group(table, i, size=size - 1, rng=rng)])


def left_out(groups: np.ndarray, relevant: Sequence[np.ndarray], *, in_batch_negatives: bool) -> np.ndarray:
    """[B, B * G] bool: the slots that are no negative of a query.

    groups: [B, G] documents. A query's own group is what mining chose and always counts. Slots of other queries are in-batch
    negatives, except documents known to help the query's question (`relevant`; its positive is one of them); without in-batch
    negatives they are all left out.
    """
    queries, size = groups.shape
    own = np.repeat(np.eye(queries, dtype=bool), size, axis=1)
    if not in_batch_negatives:
        return ~own
    helps = np.stack([np.isin(groups.reshape(-1), documents) for documents in relevant])
    return helps & ~own


def shard(batch: Batch, rank: int, workers: int) -> Batch:
    """The part of a batch that one of several workers encodes; slots, and all that counts them, stay those of the whole batch.

    Queries and documents are dealt out in turn, which spreads long ones evenly (`gather.gather_interleaved` is the way back).
    Each worker gets equally many documents: the last one is repeated to fill up, in no slot. Raises ValueError unless `workers`
    divides B.
    """
    if len(batch.queries) % workers:
        raise ValueError(f"{len(batch.queries)} queries cannot be dealt out evenly to {workers} workers")
    documents = batch.documents + [batch.documents[-1]] * (-len(batch.documents) % workers)
    mine = slice(rank, None, workers)
    return Batch(
        queries=batch.queries[mine],
        documents=documents[mine],
        slots=batch.slots,
        positives=batch.positives[mine],
        left_out=batch.left_out[mine],
        weights=batch.weights[mine],
    )
