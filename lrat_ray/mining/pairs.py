"""What becomes of a browse: a training pair, or the reason why there is none.

Every protocol answers with one outcome per browse, in the browses' order, so that every row is accounted for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from lrat_ray.mining.judge import was_useful
from lrat_ray.schema import Browse, Pair


@dataclass(frozen=True, slots=True)
class NoPair:
    """A browse that gives no pair. `reason` is a short code, `detail` a sentence."""

    reason: str
    detail: str


Outcome = Pair | NoPair


def make_pair(browse: Browse, query: str, search_reasoning: str | None, negative_docids: list[str]) -> Pair:
    """The pair of a browse, still without its relevance intensity (weight 0)."""
    return Pair(
        pair_id=f"{browse.trajectory_id}/{browse.browse_step}",
        trajectory_id=browse.trajectory_id,
        query_id=browse.query_id,
        agent=browse.agent,
        question=browse.question,
        query=query,
        search_reasoning=search_reasoning,
        positive_docid=browse.docid,
        positive_rank=browse.rank,
        negative_docids=negative_docids,
        browse_step=browse.browse_step,
        relevant=was_useful(browse),
        reasoning_tokens=browse.reasoning_tokens,
        weight=0.0,
    )


def no_pair(browse: Browse, reason: str, explanation: str) -> NoPair:
    """The rejection of a browse, saying which one it is."""
    where = f"trajectory {browse.trajectory_id}: browse step {browse.browse_step} opened docid {browse.docid!r}"
    return NoPair(reason, f"{where}, {explanation}")


def judge_failed(browse: Browse) -> NoPair:
    """The rejection of a browse whose judgement failed."""
    explanation = f"but its judgement failed: {browse.judge_error}. The same command asks the judge again"
    return no_pair(browse, "judge failed", explanation)


def docids_of(pairs: Iterable[Pair]) -> list[str]:
    """Every document that some pairs name, in their order."""
    return [docid for pair in pairs for docid in (pair.positive_docid, *pair.negative_docids)]


def keep_known(pair: Pair, browse: Browse, unknown: Collection[str], corpus: str) -> tuple[Outcome, int]:
    """The pair with only the negatives that are known, and how many it lost; no pair if its positive is unknown.

    unknown: docids that are not in the corpus; corpus: as the user named it, for the message.
    """
    if browse.docid in unknown:
        fix = "Mine with the corpus these trajectories were collected on (config key: corpus)"
        return no_pair(browse, "not in corpus", f"which is not in corpus {corpus}. {fix}"), 0
    known = [docid for docid in pair.negative_docids if docid not in unknown]
    return replace(pair, negative_docids=known), len(pair.negative_docids) - len(known)
