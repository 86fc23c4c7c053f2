"""Which examples and documents a step sees: a function of (seed, epoch, place) alone, dealt out to any number of workers.

Nothing here has a state, so a resumed run continues with the very batches of an uninterrupted one, and K workers with B / K
queries each hold together what one worker with B queries holds. A batch is planned from rows and lengths alone; a worker reads
the tokens of its own part.

Shapes: B queries in the contrastive batch, in groups of G documents; K workers; S slots and M documents on one worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from lrat_ray.config import Train
from lrat_ray.training.dealing import common_cuts, deal, places_in, short_to_long, stack
from lrat_ray.training.loss import example_weights
from lrat_ray.training.negatives import choose_negatives
from lrat_ray.training.tokens import TrainingTable

Scope = Literal["batch", "worker", "group"]
"""Whose documents a query is contrasted with: those of the whole batch, of its worker's queries, or its own."""

# First words of seeds: numpy pads a seed with zeros, so [seed, epoch] alone would be [seed, epoch, example 0].
_ORDER, _EXAMPLE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one worker encodes of a batch, and what it contrasts. A document is encoded once, however many slots it has.

    queries: B / K token arrays; documents: M token arrays, equally many on every worker; both from short to long. query_cuts
    and document_cuts: their sub-batches, the same on every worker. gathered: whether slots count the documents of all workers,
    as `gather.gather_interleaved` puts them together, or only this worker's. slots: [S] document of each slot, group after
    group, the positive first. positives: [B / K] slot of each query's positive. left_out: [B / K, S] slots that are no negative
    of a query. weights: [B / K] float32.
    """

    queries: list[np.ndarray]
    documents: list[np.ndarray]
    query_cuts: list[slice]
    document_cuts: list[slice]
    gathered: bool
    slots: np.ndarray
    positives: np.ndarray
    left_out: np.ndarray
    weights: np.ndarray


def steps_per_epoch(examples: int, train: Train) -> int:
    """Optimizer steps of an epoch, each of accumulation_steps whole batches."""
    return -(-examples // (train.batch_size * train.accumulation_steps))


@lru_cache(maxsize=2)
def epoch_order(examples: int, *, batch_size: int, accumulation_steps: int, seed: int, epoch: int) -> np.ndarray:
    """[batches, batch_size] example of each place in an epoch: every example once, in seeded order.

    The last step is filled up from the start of that order, so that all steps, and all batches of a step, weigh alike and
    nothing is left out.
    """
    order = np.random.default_rng([_ORDER, seed, epoch]).permutation(examples)
    steps = -(-examples // (batch_size * accumulation_steps))
    places = np.resize(order, (steps * accumulation_steps, batch_size))
    places.setflags(write=False)  # it is shared with every later call
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Everything about a batch but its tokens, the same on every worker.

    examples: [B], from short to long query; variants: [B] which variant of its query each takes; groups: [B, G] doc store rows,
    the positive first; documents: [D] the distinct ones of them, from short to long; query_lengths: [B] and document_lengths:
    [D] in tokens; weights: [B] float32, as they enter the loss.
    """

    examples: np.ndarray
    variants: np.ndarray
    groups: np.ndarray
    documents: np.ndarray
    query_lengths: np.ndarray
    document_lengths: np.ndarray
    weights: np.ndarray
    scope: Scope

    def take(self, table: TrainingTable, rank: int, workers: int, tokens_per_forward: int) -> Batch:
        """The part of one of `workers` workers, the only one whose tokens are read.

        Queries are dealt out in turn, and so are documents, where all workers' are gathered; that spreads long ones evenly.
        Raises ValueError unless `workers` divides B.
        """
        queries = len(self.examples)
        if queries % workers:
            raise ValueError(f"{queries} queries cannot be dealt out evenly to {workers} workers")
        mine = slice(rank, None, workers)
        examples, variants = self.examples[mine], self.variants[mine]
        gathered = self.scope == "batch" and workers > 1
        if gathered:
            documents = deal(self.documents, workers)  # [K, M]
            groups, own = self.groups, np.arange(queries)[mine]
            known = documents.T.reshape(-1)  # as they are gathered
        else:
            documents = stack([short_to_long(table, self.groups[r::workers]) for r in range(workers)])
            groups, own = self.groups[mine], np.arange(queries // workers)
            known = documents[rank]
        slots = groups.reshape(-1)
        positives = own * groups.shape[1]
        return Batch(
            queries=table.queries(examples, variants),
            documents=table.documents(documents[rank]),
            query_cuts=common_cuts(deal(self.query_lengths, workers), tokens_per_forward),
            document_cuts=common_cuts(table.document_lengths(documents), tokens_per_forward),
            gathered=gathered,
            slots=places_in(known, slots),
            positives=positives,
            left_out=_left_out(
                slots, positives, table.relevant(examples), own_group=groups.shape[1] if self.scope == "group" else None
            ),
            weights=self.weights[mine],
        )


def plan_batch(table: TrainingTable, train: Train, *, seed: int, epoch: int, place: int) -> BatchPlan:
    """The batch at a place of an epoch, counted in batches: optimizer step s has accumulation_steps of them.

    What an example gets (the variant of its query, its negatives) depends on (seed, epoch, example), not on its neighbours.
    Raises TrainingDataError if an example needs negatives and the table has none.
    """
    order = epoch_order(
        len(table), batch_size=train.batch_size, accumulation_steps=train.accumulation_steps, seed=seed, epoch=epoch
    )
    examples = order[place]
    size = train.group_size - 1 if train.trajectory_negatives else 0
    variants = np.empty(len(examples), dtype=np.int64)
    groups = np.empty((len(examples), 1 + size), dtype=np.int64)
    groups[:, 0] = table.positives[examples]
    for row, (i, relevant) in enumerate(zip(examples.tolist(), table.relevant(examples), strict=True)):
        rng = np.random.default_rng([_EXAMPLE, seed, epoch, i])
        variants[row] = draw_variant(table.query_lengths.shape[1], rng)
        if size:
            groups[row, 1:] = choose_negatives(table, i, relevant, size=size, fill=train.fill_negatives, rng=rng)
    query_lengths = table.query_lengths[examples, variants]
    by_length = np.argsort(query_lengths, kind="stable")
    documents = short_to_long(table, groups)
    return BatchPlan(
        examples=examples[by_length],
        variants=variants[by_length],
        groups=groups[by_length],
        documents=documents,
        query_lengths=query_lengths[by_length],
        document_lengths=table.document_lengths(documents),
        weights=example_weights(table.weights[examples], train.weighting)[by_length].astype(np.float32),
        scope=_scope(train),
    )


def draw_variant(variants: int, rng: np.random.Generator) -> int:
    """Which of its query's variants an example takes: of 4, question (1) and reasoning (2) each stay half of the time.

    Left out at random, they teach the encoder to serve plain queries too (reasoning-aware retrieval, arXiv 2603.04384).
    """
    return int(rng.integers(variants))  # two fair coins are one fair die with 4 sides


def _scope(train: Train) -> Scope:
    if not train.in_batch_negatives:
        return "group"
    return "batch" if train.cross_worker_negatives else "worker"


def _left_out(slots: np.ndarray, positives: np.ndarray, relevant: Sequence[np.ndarray], *, own_group: int | None) -> np.ndarray:
    """[Q, S] bool: the slots that are no negative of a query.

    slots: [S] rows; positives: [Q] slots; relevant: of each query, sorted rows of the documents that are no negative of it.
    Those are left out wherever they stand but in its positive's slot. own_group: None, or, where documents of other queries are
    no negatives either, how many slots from the positive on are the query's own.
    """
    rows, slot_row = np.unique(slots, return_inverse=True)
    query = np.repeat(np.arange(len(relevant)), [len(r) for r in relevant])
    wanted = np.concatenate(relevant)
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    is_there = rows[at] == wanted
    helps = np.zeros((len(relevant), len(rows)), dtype=bool)
    helps[query[is_there], at[is_there]] = True
    left_out = helps[:, slot_row]
    if own_group is not None:
        offset = np.arange(len(slots)) - positives[:, None]
        left_out |= (offset < 0) | (offset >= own_group)
    left_out[np.arange(len(positives)), positives] = False
    return left_out
