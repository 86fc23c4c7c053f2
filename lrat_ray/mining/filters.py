"""Which browses are mined at all, whatever the judge says: by outcome, reasoning length, place in a run, lack of a verdict."""

from __future__ import annotations

from lrat_ray.config import Mining
from lrat_ray.mining.pairs import NoPair, no_pair
from lrat_ray.schema import Browse


def refusal(browse: Browse, mining: Mining) -> NoPair | None:
    """Why the settings leave a browse out; None when they do not."""
    if mining.unjudged == "drop" and browse.judge_status == "unjudged":
        return no_pair(browse, "unjudged", "which nobody judged (mining.unjudged=drop)")
    if browse.reasoning_tokens < mining.min_reasoning_tokens:
        limit = f"mining.min_reasoning_tokens={mining.min_reasoning_tokens}"
        return no_pair(browse, "short reasoning", f"with {browse.reasoning_tokens} tokens of reasoning after it ({limit})")
    if mining.max_reasoning_tokens is not None and browse.reasoning_tokens > mining.max_reasoning_tokens:
        limit = f"mining.max_reasoning_tokens={mining.max_reasoning_tokens}"
        return no_pair(browse, "long reasoning", f"with {browse.reasoning_tokens} tokens of reasoning after it ({limit})")
    if not in_segment(browse.run_position, browse.run_length, mining.segment):
        place = f"as number {browse.run_position + 1} of a run of {browse.run_length}"
        return no_pair(browse, "other segment", f"{place} (mining.segment={mining.segment})")
    return None


def in_segment(position: int, length: int, segment: str) -> bool:
    """Whether the browse at `position` (from 0) of a run of `length` lies in its front, middle or back third.

    A third holds the browses whose middle lies in it; a browse by itself belongs to every third.
    """
    if segment == "all" or length == 1:
        return True
    third = int(3 * (position + 0.5) / length)
    return third == ("front", "middle", "back").index(segment)


def wrong_outcome(correct: bool | None, mining: Mining) -> str | None:
    """Why a trajectory that was correct or not (or unknown) is not mined: a sentence's end; None when it is."""
    if mining.trajectories == "all" or correct is (mining.trajectories == "correct"):
        return None
    found = {None: "whose outcome the log does not tell", True: "which was correct", False: "which was not correct"}
    return f"{found[correct]} (mining.trajectories={mining.trajectories})"
