"""What becomes of a browse: a training pair, or the reason why there is none.

Both protocols answer with one outcome per browse, in the browses' order, so that every row is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable
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
    explanation = f"but its judgement failed: {browse.judge_error}. Judge again into another output"
    return no_pair(browse, "judge failed", explanation)


def keep_known(pair: Pair, browse: Browse, is_known: Callable[[str], bool], corpus: str) -> tuple[Outcome, int]:
    """The pair with only the negatives that are known, and how many it lost; no pair if its positive is unknown.

    is_known: whether a docid is in the corpus; corpus: as the user named it, for the message.
    """
    if not is_known(browse.docid):
        fix = "Mine with the corpus these trajectories were collected on (config key: corpus)"
        return no_pair(browse, "not in corpus", f"which is not in corpus {corpus}. {fix}"), 0
    known = [docid for docid in pair.negative_docids if is_known(docid)]
    return replace(pair, negative_docids=known), len(pair.negative_docids) - len(known)
