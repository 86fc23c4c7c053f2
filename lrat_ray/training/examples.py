"""Which pairs train and which are held out (relevant ones with a weight, split by question), joined with the corpus."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from lrat_ray.documents import DocumentStore
from lrat_ray.schema import Pair
from lrat_ray.training.split import Questions, hold_out

_PAIRS_AT_ONCE = 1024


class TrainingDataError(ValueError):
    """Pairs that cannot be trained on; the message names the pair and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A pair joined with the doc store: documents are rows of it.

    relevant: sorted, the documents that are no negative of this example wherever they stand; its positive is one of them.
    """

    pair_id: str
    query: str
    question: str
    search_reasoning: str | None
    positive: int
    negatives: list[int]
    relevant: list[int]
    weight: float
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a first pass over the pairs decided.

    positions: [n] the chosen pairs, counted from 0 over all; weights: [n] float64, and held_out: [n] bool, belong to them.
    relevant_docids: query_id -> positives of all relevant pairs of its question. counts: pairs = trained + held_out +
    irrelevant + weightless + not_sampled; held_out_questions: the questions of what is held_out.
    """

    positions: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    relevant_docids: dict[str, set[str]]
    counts: dict[str, int]


def select(
    pairs: Iterable[Pair], *, max_pairs: int | None, validation_share: float, validation_max_pairs: int, seed: int
) -> Selection:
    """Choose the pairs to train on and to validate on, in one pass that keeps no text.

    Relevant pairs with weight > 0 are chosen. Those of a `validation_share` of the questions are held out (split.py), at most a
    sample of `validation_max_pairs`, the same for all seeds; of the others, all train, or a seeded sample of `max_pairs`. All
    weights are divided by the mean of those that train, for LRAT eq. 3 takes mu_raw over what is trained on. Raises
    TrainingDataError for a negative or non-finite weight, or if no pair is left.
    """
    positions, weights, asked = array("q"), array("d"), array("q")
    questions = Questions()
    positives: list[set[str]] = []
    total = irrelevant = weightless = 0
    for position, pair in enumerate(pairs):
        total += 1
        if not math.isfinite(pair.weight) or pair.weight < 0:
            raise TrainingDataError(
                f"pair {pair.pair_id!r} (row {position}): weight {pair.weight} is no finite number >= 0; mine the pairs again"
            )
        if not pair.relevant:
            irrelevant += 1
            continue
        number = questions.add(pair.query_id, pair.question)
        if number == len(positives):
            positives.append(set())
        positives[number].add(pair.positive_docid)
        if pair.weight == 0:
            weightless += 1
            continue
        positions.append(position)
        weights.append(pair.weight)
        asked.append(number)
    if not positions:
        raise TrainingDataError(
            f"none of the {total} pairs can train: {irrelevant} are not relevant, {weightless} weigh 0. "
            "Mine more trajectories, or look at the judge's verdicts (section judge)"
        )
    names = questions.names()  # [query_ids]
    distinct, question = np.unique(names[asked], return_inverse=True)
    is_held_out = hold_out(distinct, share=validation_share)
    trained = _sample(np.flatnonzero(~is_held_out[question]), max_pairs, seed)
    validated = _sample(np.flatnonzero(is_held_out[question]), validation_max_pairs, 0)
    chosen = np.sort(np.concatenate([trained, validated]))
    weight = np.array(weights)
    return Selection(
        positions=np.array(positions)[chosen],
        weights=weight[chosen] / weight[trained].mean(),
        held_out=is_held_out[question][chosen],
        relevant_docids=_by_question(questions.query_ids(), names, positives),
        counts={
            "pairs": total,
            "trained": len(trained),
            "held_out": len(validated),
            "held_out_questions": len(np.unique(question[validated])),
            "irrelevant": irrelevant,
            "weightless": weightless,
            "not_sampled": len(positions) - len(chosen),
        },
    )


def _sample(items: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    if limit is None or len(items) <= limit:
        return items
    return np.random.default_rng(seed).choice(items, limit, replace=False)


def _by_question(query_ids: list[str], names: np.ndarray, positives: list[set[str]]) -> dict[str, set[str]]:
    of_question: dict[int, set[str]] = {}
    for name, docids in zip(names.tolist(), positives, strict=True):
        of_question.setdefault(name, set()).update(docids)
    return {query_id: of_question[name] for query_id, name in zip(query_ids, names.tolist(), strict=True)}


def join(pairs: Iterable[Pair], selection: Selection, store: DocumentStore, *, mask_relevant: bool) -> Iterator[Example]:
    """The selected pairs (in a second pass over the same pairs) with their documents as rows of the doc store.

    A negative stands once, and is never the pair's own positive nor, with `mask_relevant`, another document known to help its
    question. Held-out pairs are always masked, so that arms with and without masking are measured alike. Raises
    TrainingDataError naming a pair whose document the corpus lacks.
    """
    chosen = zip(_at(pairs, selection.positions.tolist()), selection.weights.tolist(), selection.held_out.tolist(), strict=True)
    while chunk := list(islice(chosen, _PAIRS_AT_ONCE)):
        relevant = [
            selection.relevant_docids[pair.query_id] if mask_relevant or held_out else {pair.positive_docid}
            for pair, _, held_out in chunk
        ]
        named = {docid for pair, _, _ in chunk for docid in pair.negative_docids}.union(*relevant)
        docids = sorted(named)
        rows = dict(zip(docids, store.rows(docids).tolist(), strict=True))
        for (pair, weight, held_out), helps in zip(chunk, relevant, strict=True):
            negatives = [docid for docid in dict.fromkeys(pair.negative_docids) if docid not in helps]
            _check_rows(pair, negatives, helps, rows, store)
            yield Example(
                pair_id=pair.pair_id,
                query=pair.query,
                question=pair.question,
                search_reasoning=pair.search_reasoning,
                positive=rows[pair.positive_docid],
                negatives=[rows[docid] for docid in negatives],
                relevant=sorted(rows[docid] for docid in helps),
                weight=weight,
                held_out=held_out,
            )


def _at(pairs: Iterable[Pair], positions: list[int]) -> Iterator[Pair]:
    wanted = iter(positions)
    position = next(wanted, -1)
    for i, pair in enumerate(pairs):
        if i == position:
            yield pair
            if (position := next(wanted, -1)) < 0:
                return


def _check_rows(pair: Pair, negatives: list[str], helps: set[str], rows: dict[str, int], store: DocumentStore) -> None:
    roles = chain(
        [("positive", pair.positive_docid)],
        (("negative", docid) for docid in negatives),
        (("relevant", docid) for docid in sorted(helps)),
    )
    for role, docid in roles:
        if rows[docid] < 0:
            raise TrainingDataError(
                f"pair {pair.pair_id!r}: {role} docid {docid!r} is not in the corpus ({store.uri}). Train with the corpus that "
                "the trajectories were collected on (config key: corpus)"
            )
