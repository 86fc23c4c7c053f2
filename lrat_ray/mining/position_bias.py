"""Does an unopened candidate say that it was turned down? Where browsed documents stood, and which search had shown them."""

from __future__ import annotations

import numpy as np

from lrat_ray.mining.assumptions import FEWEST_QUESTIONS, Assumption, Claim, Given, advice_for, number, percent, points, within
from lrat_ray.mining.estimates import RankTest, draws_interval, rank_test, ratio
from lrat_ray.mining.tally import Tally

EVEN_MARGIN = 0.05
"""How far from 0.5 the mean relative rank may lie. On a straight line, 0.45 opens the first twice as often as the last."""
EVEN_V = 0.1
"""Cramér's V up to which an unevenness is small (Cohen's convention)."""
RANK_MARGIN = 0.1
"""How much more often evidence may be opened in the upper half of the ranks than in the lower: ten points."""
LATEST_SHARE = 0.9
"""Share of browses that the latest search must have shown before each may simply be given to it."""

_UNEVEN = (
    "Two causes look alike here: agents that do not read far down, and a retriever that puts the useful documents first. Only "
    "evidence by rank (the next assumption) or trajectories collected with shuffled results tell them apart. Until then take "
    "candidates below the last opened one{share} for unread: as negatives they teach the old ranking back to the retriever. "
    "Keep mining.strict_negatives=true, add mining.question_wide=true where questions have several runs, prefer "
    "mining.protocol=paper (one candidate set) to window (several), and trust no gain that the arm control has too."
)
_LATEST = (
    "Nothing needs to be done: lrat mine gives a browse to the most recent search that showed the document. Only "
    "mining.protocol=reference follows the public code and pairs it with the latest query."
)


def even_ranks(tally: Tally) -> Assumption:
    """Unbrowsed candidates are negatives because agents look at all of them: browses are spread evenly over the ranks."""
    browses = {(int(size), int(rank)): count for (size, rank), count in tally.select("drawn_rank")}
    claim = Claim(
        name="even_ranks",
        claim="Agents open candidates about evenly over the ranks, so an unopened candidate was read and turned down.",
        paper="Weak position bias: browses are spread about evenly over ranks 1 to 10 when results are shuffled (Figure 4).",
        statistic="mean relative rank of browsed candidates: 0 first, 1 last, 0.5 where all are opened alike",
        observations=sum(browses.values()),
        questions=tally.num_questions("drawn_rank"),
    )
    test = rank_test(browses, seed=tally.seed)
    if test is None:
        return claim.unmeasured(
            "No browse belongs to a search that showed at least two candidates.",
            "Check logs.search_tools, logs.browse_tools and logs.fields: searches and browses must name documents alike.",
        )
    weighted = [(tally.drawn("drawn_rank", *key), (key[1] - 1) / (key[0] - 1)) for key in browses]
    interval = draws_interval(
        ratio(np.sum([drawn * place for drawn, place in weighted], axis=0), np.sum([drawn for drawn, _ in weighted], axis=0))
    )
    if interval is None or claim.questions < FEWEST_QUESTIONS:
        return claim.too_few_questions()
    verdict = within(interval, 0.5 - EVEN_MARGIN, 0.5 + EVEN_MARGIN)
    if verdict == "holds" and test.cramers_v > EVEN_V and test.p_value < 0.05:
        verdict = "does not hold"  # uneven without leaning to either end
    below = share_below(tally)
    share = f" ({below:.0%} of those unopened)" if below is not None else ""
    return claim.measured(
        verdict,
        interval,
        f"Mean relative rank of {claim.observations:,} browses {number(interval)}, where 0.5 is even. "
        f"{_first(browses)} {_test(test)}",
        advice_for(
            verdict,
            holds="Unopened candidates may serve as negatives; keep mining.strict_negatives=true.",
            fails=_UNEVEN.format(share=share),
        ),
        p_value=test.p_value,
        effect_size={"cramers_v": test.cramers_v},
    )


def _first(browses: dict[tuple[int, int], int]) -> str:
    total = sum(browses.values())
    first = sum(count for (_, rank), count in browses.items() if rank == 1) / total
    even = sum(count / size for (size, _), count in browses.items()) / total
    return f"Rank 1 has {first:.0%} of them; it would have {even:.0%} if all were opened alike."


def _test(test: RankTest) -> str:
    value = "< 0.001" if test.p_value < 0.001 else f"= {test.p_value:.3f}"
    kind = "Monte Carlo" if test.simulated else "chi-square"
    return f"Evenness: p {value} ({kind}, browses taken for independent), Cramér's V {test.cramers_v:.2f}."


def share_below(tally: Tally) -> float | None:
    """Share of unbrowsed candidates that stand below the last browsed one of their search; None where there are none."""
    counts = {"above": 0, "below": 0}
    for key, count in tally.select("unbrowsed"):
        counts[str(key[-1])] += count
    total = sum(counts.values())
    return counts["below"] / total if total else None


def evidence_at_any_rank(tally: Tally, given: Given) -> Assumption:
    """The same with relevance held still: evidence is opened as often where it stands low as where it stands high."""
    opened = {half: tally.drawn("drawn_chance", half, "opened") for half in ("upper", "lower")}
    shown = {half: opened[half] + tally.drawn("drawn_chance", half, "left") for half in opened}
    claim = Claim(
        name="evidence_at_any_rank",
        claim="An evidence document is opened as often when it stands low as when it stands high: rank alone decides nothing.",
        paper="The results are shuffled instead, which takes the retriever's own order out.",
        statistic="share of shown evidence that is opened, upper half of the ranks minus lower half",
        observations=int(shown["upper"][0] + shown["lower"][0]),
        questions=tally.num_questions("drawn_chance"),
    )
    if not tally.num_questions("annotated"):
        return claim.without_evidence(given)
    rates = {half: ratio(opened[half], shown[half]) for half in opened}
    interval = draws_interval(rates["upper"] - rates["lower"])
    if interval is None:
        return claim.unmeasured(
            "Searches did not show evidence in both halves of the ranks.",
            "Pass more trajectories, or ones with longer result lists.",
        )
    if claim.questions < FEWEST_QUESTIONS:
        return claim.too_few_questions()
    verdict = within(interval, -RANK_MARGIN, RANK_MARGIN)
    return claim.measured(
        verdict,
        interval,
        f"Evidence shown in the upper half of the ranks was then opened {rates['upper'][0]:.0%} of the time "
        f"({shown['upper'][0]:,} showings), in the lower half {rates['lower'][0]:.0%} ({shown['lower'][0]:,}): a difference of "
        f"{points(interval)}.",
        advice_for(
            verdict,
            holds="Agents read the list to its end: where browses crowd at the top, the useful documents stand there.",
            fails="Rank decides what is opened even among evidence: unopened candidates far down are unread, not turned down. "
            "Collect trajectories with shuffled or shorter result lists (agent.k) before taking those as negatives.",
        ),
    )


def latest_search(tally: Tally) -> Assumption:
    """Naive mining gives a browse to the search before it: the document must have been shown there (LRAT section 3.1)."""
    shown = {what: tally.drawn("drawn_shown_by", what) for what in ("latest", "earlier", "none")}
    total = np.sum(list(shown.values()), axis=0)
    claim = Claim(
        name="latest_search",
        claim="A browsed document was shown by the latest search, so that search's query is the one it answers.",
        paper="Assumed. The public miner pairs every browse with the latest query.",
        statistic="share of browses whose document the latest search had shown",
        observations=int(total[0]),
        questions=tally.num_questions("drawn_shown_by"),
    )
    if not claim.observations:
        return claim.unmeasured(
            "The trajectories hold no browse.",
            "Check logs.browse_tools against the tool names in the logs, and logs.fields.docid.",
        )
    interval = draws_interval(ratio(shown["latest"], total))
    if interval is None or claim.questions < FEWEST_QUESTIONS:
        return claim.too_few_questions()
    return claim.measured(
        within(interval, LATEST_SHARE, 1.0),
        interval,
        f"Of {claim.observations:,} browsed documents the latest search had shown {shown['latest'][0]:,}, {percent(interval)}; "
        f"only an earlier one {shown['earlier'][0]:,}, and none {shown['none'][0]:,}.",
        _LATEST,
    )
