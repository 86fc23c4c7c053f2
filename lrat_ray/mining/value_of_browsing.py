"""Is what an agent opens, and how long it thinks about it, worth learning from? Success against browses, length against use."""

from __future__ import annotations

import numpy as np

from lrat_ray.mining.assumptions import FEWEST_QUESTIONS, Assumption, Claim, Given, above, advice_for, number, points
from lrat_ray.mining.estimates import auc, draws_interval, odds_ratio, ratio
from lrat_ray.mining.observations import OUTCOMES
from lrat_ray.mining.tally import Tally

SUCCESS_MARGIN = 0.05
"""A gain in success rate below five points is none that matters."""
FEWEST_RUNS = 20
"""A success rate of fewer runs decides nothing: draws of so few do not show how uncertain it is."""
AUC_MARGIN = 0.55
"""An AUC below this is little better than a coin (Cohen's d of 0.18)."""


def browsing(tally: Tally) -> Assumption:
    """Browsing is a condition of success: runs that open a document succeed more often than runs that open none."""
    claim = Claim(
        name="browsing",
        claim="Browsing is a condition of success: runs that open a document succeed more often than runs that open none.",
        paper="Browsing is taken for a condition of success. Correct runs open 3.61 documents on average, incorrect ones 6.95: "
        "they are longer in all (Table 1).",
        statistic="success rate of runs that open a document minus that of the others",
        observations=_known(tally, "drawn_browses"),
        questions=tally.num_questions("drawn_browses"),
    )
    return _gain(claim, tally, "drawn_browses", "a document")


def opening_evidence(tally: Tally, given: Given) -> Assumption:
    """The same for evidence: runs that open a document annotated as evidence succeed more often than those that open none."""
    claim = Claim(
        name="opening_evidence",
        claim="Opening evidence is a condition of success: runs that open an evidence document succeed more often.",
        paper="Figure 4 plots accuracy against the number of evidence documents browsed.",
        statistic="success rate of runs that open evidence minus that of the others",
        observations=_known(tally, "drawn_evidence"),
        questions=tally.num_questions("drawn_evidence"),
    )
    if not tally.num_questions("annotated"):
        return claim.without_evidence(given)
    return _gain(claim, tally, "drawn_evidence", "evidence")


def _known(tally: Tally, name: str) -> int:
    return sum(tally.counts[(name, some, outcome)] for some in ("some", "none") for outcome in ("correct", "incorrect"))


def _gain(claim: Claim, tally: Tally, name: str, what: str) -> Assumption:
    """Success of the runs that opened some, minus that of the runs that opened none."""
    runs = {some: {o: tally.drawn(name, some, o) for o in OUTCOMES} for some in ("some", "none")}
    known = {some: row["correct"] + row["incorrect"] for some, row in runs.items()}
    if not claim.observations:
        return claim.unmeasured(
            "No trajectory says whether it was correct, and nothing is guessed.",
            "Give each trajectory the boolean field correct (a run file: at its top level).",
        )
    if min(known["some"][0], known["none"][0]) < FEWEST_RUNS:
        return claim.unmeasured(
            f"{known['some'][0]:,} runs of known outcome opened {what} and {known['none'][0]:,} did not: too few to compare.",
            f"Pass trajectories of more questions or of other agents (at least {FEWEST_RUNS} runs on each side).",
        )
    rates = {some: ratio(runs[some]["correct"], known[some]) for some in runs}
    interval = draws_interval(rates["some"] - rates["none"])
    if interval is None or claim.questions < FEWEST_QUESTIONS:
        return claim.too_few_questions()
    (a, b), (c, d) = ((int(row["correct"][0]), int(row["incorrect"][0])) for row in runs.values())
    odds = odds_ratio(((a, b), (c, d)))
    unknown = sum(int(row["unknown"][0]) for row in runs.values())
    verdict = above(interval, least=0.0, enough=SUCCESS_MARGIN)
    return claim.measured(
        verdict,
        interval,
        f"{a:,} of the {a + b:,} runs that opened {what} were correct ({rates['some'][0]:.0%}), {c:,} of the {c + d:,} others "
        f"({rates['none'][0]:.0%}): a difference of {points(interval)}"
        + (f", odds ratio {odds.mean:.2g} [{odds.lo:.2g}, {odds.hi:.2g}]." if odds else ".")
        + (f" {unknown:,} runs of unknown outcome are left out." if unknown else ""),
        advice_for(
            verdict,
            holds="Browses carry the signal that is mined. It is an association: hard questions are also searched for longer.",
            fails="What agents open does not tell what they needed. See whether the snippets already hold the answers, and "
            "compare with pairs of mining.trajectories=correct.",
        ),
        effect_size={"odds_ratio": odds.mean} if odds else None,
    )


def reasoning_length(tally: Tally, given: Given) -> Assumption:
    """Relevance intensity: agents think longer about useful documents (LRAT eq. 3). Useful by evidence, else by the judge."""
    by_evidence = any(True for _ in tally.select("drawn_evidence_length"))
    name, source = ("drawn_evidence_length", "annotated evidence") if by_evidence else ("drawn_judged_length", "the judge")
    lengths = _drawn_lengths(tally, name)
    useful, useless = (int(lengths[label][0].sum()) for label in ("useful", "useless"))
    claim = Claim(
        name="reasoning_length",
        claim="The reasoning after a useful document is longer than after a useless one, so its length may weigh pairs.",
        paper="Reasoning length is read as relevance intensity (eq. 3); Figure 6 compares it for evidence and other documents.",
        statistic="AUC: chance that of a useful and a useless document the useful one has the longer reasoning (0.5: a coin)",
        observations=useful + useless,
        questions=tally.num_questions(name),
    )
    if not claim.observations:
        return _without_verdicts(claim, given)
    if 0 in (useful, useless):
        which = "useful" if useful == 0 else "useless"
        return claim.unmeasured(f"By {source} not one browse was {which}.", "Pass more trajectories, or another judge.")
    interval = draws_interval(auc(lengths["useful"], lengths["useless"]))
    if interval is None or claim.questions < FEWEST_QUESTIONS:
        return claim.too_few_questions()
    verdict = above(interval, least=0.5, enough=AUC_MARGIN)
    caveat = (
        "" if by_evidence else " The judge reads the same reasoning, and a dismissal is short: evidence is the fairer measure."
    )
    return claim.measured(
        verdict,
        interval,
        f"AUC {number(interval)} for telling {useful:,} useful browses from {useless:,} others by length (useful by {source})."
        f"{caveat}",
        advice_for(
            verdict,
            holds="Weigh pairs by length (mining.weights=true); with several agents take mining.group_by=agent.",
            fails="Length does not mark useful documents here: pass mining.weights=false, or compare arms with and without.",
        ),
    )


def _without_verdicts(claim: Claim, given: Given) -> Assumption:
    if given.browses:
        return claim.unmeasured("No judged browse has a post-browse reasoning.", "Judge them: judge.backend=openai or rule.")
    missing = claim.without_evidence(given)
    return claim.unmeasured(
        missing.finding, f"{missing.advice} Or pass --browses PAIRS/judged, as lrat mine with a judge writes it."
    )


def _drawn_lengths(tally: Tally, name: str) -> dict[str, np.ndarray]:
    """[B + 1, V] counts of each of V bins of reasoning length, ascending, by label."""
    bins = sorted({int(key[-1]) for key, _ in tally.select(name)})
    empty = np.zeros((tally.samples + 1, 0), dtype=np.int64)
    return {
        label: np.stack([tally.drawn(name, label, place) for place in bins], axis=1) if bins else empty
        for label in ("useful", "useless")
    }
