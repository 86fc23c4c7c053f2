"""From browses to weighted training pairs on Ray Data: negatives by the protocol, filters, a cap, relevance intensity.

Pairs are made in two passes over the parts, because eq. 3 needs the median and the mean over all of them. No LLM is asked, and
no log is read: another protocol, filter or threshold rebuilds the pairs in seconds.
"""

from __future__ import annotations

import functools
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.core import url_to_fs

from lrat_ray import artifacts, questions
from lrat_ray.accounts import Account, finish, read_account, total, write_part, write_part_table
from lrat_ray.artifacts import ArtifactError, Manifest, Work
from lrat_ray.config import Config, Mining
from lrat_ray.documents import DocumentStore, ensure
from lrat_ray.mining.filters import refusal, wrong_outcome
from lrat_ray.mining.intensity import Intensity
from lrat_ray.mining.judge import with_threshold
from lrat_ray.mining.negatives import paper_pairs, window_pairs
from lrat_ray.mining.pairs import NoPair, Outcome, docids_of, keep_known, no_pair
from lrat_ray.mining.questions import VERDICTS, at_threshold, by_question, over_the_cap, retention, useful_documents
from lrat_ray.mining.reference import reference_pairs
from lrat_ray.parts import Row, each_part
from lrat_ray.schema import Browse, CandidateSets, Pair, Rejected, from_table

_log = logging.getLogger(__name__)
CANDIDATES = "candidates"
"""Folder of a browses artifact, beside its parts, with the candidate sets of the same trajectories."""

_UNWEIGHTED = "unweighted"
_USEFUL = f"{_UNWEIGHTED}/useful.arrow"
_PART = re.compile(r"part-\d+\.parquet")


def weigh(config: Config, mined: str, browses: str) -> Manifest:
    """Browses and the candidate sets of `mined` -> pairs artifact at `config.output`: negatives and intensity, no LLM call.

    browses: the artifact `mined` itself (then every browse counts as relevant), or the same browses with verdicts. Rows in are
    those of `mine`. With `config.corpus`, a pair whose positive is not in it is rejected, and unknown negatives are dropped and
    counted; with `config.questions.train`, the judge's retention of annotated evidence is reported. Pairs that were made with
    other settings or verdicts are made anew. Raises ArtifactError when the browses are not those of `mined`.
    """
    output = config.require("output", "the pairs are written there")
    _check_outcomes(mined, config.mining)
    inputs = {"mined": mined, "browses": browses, "corpus": config.corpus, "questions.train": config.questions.train}
    recorded = config.only("mining", "judge.threshold")
    if not config.force:
        _drop_outdated_pairs(output, recorded, inputs)
    work = artifacts.begin(output, kind="pairs", config=recorded, inputs=inputs, force=config.force)
    if work.manifest:
        artifacts.remove(artifacts.join(output, _UNWEIGHTED))  # an interrupted run may have left it
        return work.manifest
    parts = _pair_parts(mined, browses)
    documents = ensure(config.corpus, artifacts.join(output, "documents"), config=config) if config.corpus else None
    judged = artifacts.read_manifest(browses, "browses")
    if _question_wide(config.mining):
        _write_arrow(artifacts.join(output, _USEFUL), useful_documents(_verdicts(judged, config)))
    pair_part = functools.partial(_pair_part, work=work, config=config, documents=documents)
    each_part(config.ray, "paired", parts, pair_part)
    # Eq. 3 needs the median and the mean over all pairs that are kept, and the cap all pairs of a question, hence two passes.
    intensity, dropped = _over_all_pairs(work, [row["part"] for row in parts], config.mining)
    weigh_part = functools.partial(_weigh_part, work=work, mining=config.mining, intensity=intensity)
    weighed = [{**row, "dropped": too_many.tolist()} for row, too_many in zip(parts, dropped, strict=True)]
    account = total(each_part(config.ray, "weighed", weighed, weigh_part))
    settings = config.only("mining", "judge.threshold")
    protocol = {**judged.protocol, **settings["mining"], "judge_threshold": settings["judge"]["threshold"]}
    metrics = {**_constants(intensity, config.mining), **_retention(config, output, judged)}
    manifest = finish(work, account, parts=[row["part"] for row in parts], protocol=protocol, metrics=metrics)
    artifacts.remove(artifacts.join(output, _UNWEIGHTED))
    return manifest


def _check_outcomes(mined: str, mining: Mining) -> None:
    """Raise ArtifactError where no trajectory is known to have the outcome that is asked for."""
    counts = artifacts.read_manifest(mined, "browses").metrics
    if mining.trajectories != "all" and not counts[f"trajectories_{mining.trajectories}"]:
        raise ArtifactError(
            f"mining.trajectories={mining.trajectories}: none of the {counts['trajectories']} trajectories is known to be "
            f"{mining.trajectories}. Give each a boolean `correct`, or pass mining.trajectories=all"
        )


def _pair_parts(mined: str, browses: str) -> list[Row]:
    """For each part: its name, its candidate sets, its rejected rows and its browses with verdicts."""
    of_mined, of_browses = artifacts.read_manifest(mined, "browses"), artifacts.read_manifest(browses, "browses")
    if of_mined.parts != of_browses.parts:
        raise _mismatch(browses, mined, f"{len(of_mined.parts)} parts there, {len(of_browses.parts)} here")
    return [
        {
            "part": part,
            "candidates": artifacts.join(mined, CANDIDATES, part),
            "rejected": artifacts.join(mined, "rejected", part),
            "browses": uri,
        }
        for part, uri in zip(of_mined.parts, of_browses.part_uris(), strict=True)
    ]


def _mismatch(browses: str, mined: str, found: str) -> ArtifactError:
    return ArtifactError(f"the browses {browses} are not those of {mined}: {found}. Judge the browses of {mined} again")


def _pair_part(row: Row, *, work: Work, config: Config, documents: str | None) -> Row:
    """Pairs, not weighted yet, of the browses of one part."""
    part = artifacts.join(_UNWEIGHTED, row["part"])
    if not work.has(part):
        mining = config.mining
        browses = [with_threshold(b, config.judge.threshold) for b in from_table(artifacts.read_table(row["browses"]), Browse)]
        sets = list(from_table(artifacts.read_table(row["candidates"]), CandidateSets))
        useful: dict[str, set[str]] = {}
        if _question_wide(mining):
            useful = by_question(artifacts.memory_map(artifacts.join(work.uri, _USEFUL)), browses)
        outcomes: list[Outcome] = []
        start = 0
        for of in sets:
            its_browses = browses[start : start + of.browses]
            if {browse.trajectory_id for browse in its_browses} != {of.trajectory_id}:
                raise _mismatch(row["browses"], row["candidates"], f"trajectory {of.trajectory_id} has other browses")
            outcomes += _outcomes(of, its_browses, mining, useful.get(its_browses[0].query_id, ()))
            start += of.browses
        if start != len(browses):
            raise _mismatch(row["browses"], row["candidates"], f"{start} browses there, {len(browses)} here")
        unknown_negatives = 0
        if documents is not None:
            outcomes, unknown_negatives = _known(outcomes, browses, DocumentStore.open(documents), str(config.corpus))
        pairs = [outcome for outcome in outcomes if isinstance(outcome, Pair)]
        rejected = list(_rejected_before(row["rejected"]))
        rejected += [_rejection(out, row["browses"], n) for n, out in enumerate(outcomes) if isinstance(out, NoPair)]
        counts = {**_pair_counts(pairs, browses), "negatives_not_in_corpus": unknown_negatives}
        write_part(work, part, pairs, Pair, rows_in=len(pairs) + len(rejected), rejected=rejected, counts=counts)
    return {}


def _question_wide(mining: Mining) -> bool:
    return mining.question_wide and mining.strict_negatives and mining.protocol != "reference"


def _outcomes(
    sets: CandidateSets, browses: Sequence[Browse], mining: Mining, useful_elsewhere: Collection[str]
) -> list[Outcome]:
    """One outcome for each browse of a trajectory, in order."""
    if (problem := wrong_outcome(sets.correct, mining)) is not None:
        return [no_pair(browse, "other outcome", f"in a trajectory {problem}") for browse in browses]
    if mining.protocol == "reference":
        outcomes = reference_pairs(sets, browses)
    else:
        pairs_of = paper_pairs if mining.protocol == "paper" else window_pairs
        outcomes = pairs_of(sets, browses, strict=mining.strict_negatives, useful_elsewhere=useful_elsewhere)
    return [
        (refusal(browse, mining) or outcome) if isinstance(outcome, Pair) else outcome
        for browse, outcome in zip(browses, outcomes, strict=True)
    ]


def _known(
    outcomes: Sequence[Outcome], browses: Sequence[Browse], store: DocumentStore, corpus: str
) -> tuple[list[Outcome], int]:
    """The outcomes with only documents of the corpus, and how many negatives that cost."""
    docids = list(dict.fromkeys(docids_of(outcome for outcome in outcomes if isinstance(outcome, Pair))))
    unknown = {docid for docid, found in zip(docids, store.contains(docids), strict=True) if not found}
    if not unknown:
        return list(outcomes), 0
    checked: list[Outcome] = []
    lost = 0
    for browse, outcome in zip(browses, outcomes, strict=True):
        if isinstance(outcome, Pair):
            outcome, its_lost = keep_known(outcome, browse, unknown, corpus)
            lost += its_lost
        checked.append(outcome)
    return checked, lost


def _rejected_before(uri: str) -> Iterator[Rejected]:
    """What mining rejected of a part: it has no browse, but is accounted for among the pairs, too."""
    if artifacts.exists(uri):
        yield from from_table(artifacts.read_table(uri), Rejected)


def _rejection(outcome: NoPair, source_uri: str, number: int) -> Rejected:
    position = f"row {number}"
    return Rejected(
        source=source_uri, position=position, reason=outcome.reason, detail=f"{source_uri} {position}, {outcome.detail}"
    )


def _pair_counts(pairs: Sequence[Pair], browses: Sequence[Browse]) -> dict[str, int]:
    return {
        "relevant_pairs": sum(pair.relevant for pair in pairs),
        "irrelevant_pairs": sum(not pair.relevant for pair in pairs),
        "pairs_without_negatives": sum(not pair.negative_docids for pair in pairs),
        "unjudged_browses": sum(browse.judge_status == "unjudged" for browse in browses),
    }


def _over_all_pairs(work: Work, parts: Sequence[str], mining: Mining) -> tuple[Intensity | None, list[np.ndarray]]:
    """Eq. 3's constants, and for each part [pairs] bool: those over the cap of their question."""
    names = ["pair_id", "query_id", "agent", "relevant", "reasoning_tokens"]
    tables = list(_columns([artifacts.join(work.uri, _UNWEIGHTED, part) for part in parts], names))
    together = pa.concat_tables(tables)
    relevant = together["relevant"].to_numpy()
    dropped = np.zeros(len(together), dtype=bool)
    if mining.max_pairs_per_question is not None:
        pair_ids = together["pair_id"].to_pylist()
        dropped = over_the_cap(together["query_id"], pair_ids, relevant, mining.max_pairs_per_question)
    intensity = None
    if mining.weights:
        kept = together.filter(pa.array(relevant & ~dropped))
        intensity = Intensity.fit(kept["reasoning_tokens"].to_numpy(), _groups(kept, mining))
    return intensity, np.split(dropped, np.cumsum([len(table) for table in tables])[:-1])


def _columns(uris: Iterable[str], names: Sequence[str]) -> Iterator[pa.Table]:
    """A few columns of each Parquet file."""
    for uri in uris:
        yield artifacts.read_table(uri, columns=names)


def _verdicts(judged: Manifest, config: Config) -> Iterator[pa.Table]:
    """What was judged of each part's browses, at the threshold that is set."""
    for table in _columns(judged.part_uris(), VERDICTS):
        yield at_threshold(table, config.judge.threshold)


def _write_arrow(uri: str, table: pa.Table) -> None:
    """Write a table in the form that is mapped into memory."""
    with artifacts.atomic_write(uri) as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _groups(pairs: pa.Table, mining: Mining) -> np.ndarray | None:
    return pairs["agent"].to_numpy().astype(np.str_) if mining.group_by == "agent" else None


def _weigh_part(row: Row, *, work: Work, mining: Mining, intensity: Intensity | None) -> Row:
    """The pairs of one part that are kept, with their weights: intensity (or 1) for relevant ones, 0 for the others."""
    part = row["part"]
    if not work.has(part):
        unweighted = artifacts.join(_UNWEIGHTED, part)
        table, account = artifacts.read_table(artifacts.join(work.uri, unweighted)), read_account(work, unweighted)
        dropped = np.asarray(row["dropped"], dtype=bool)
        rejected: list[Rejected] = []
        if dropped.any():
            account, rejected = _capped(table.filter(pa.array(dropped)), account, work, row, mining)
            table = table.filter(pa.array(~dropped))
        weights = np.ones(len(table))
        if intensity is not None:
            weights = intensity.weights(table["reasoning_tokens"].to_numpy(), _groups(table, mining))
        column = table.schema.get_field_index("weight")
        weighted = pa.array(np.where(table["relevant"].to_numpy(), weights, 0.0))
        table = table.set_column(column, table.schema.field(column), weighted)
        write_part_table(work, part, table, account, rejected)
    return {"account": read_account(work, part).to_json()}


def _capped(dropped: pa.Table, account: Account, work: Work, row: Row, mining: Mining) -> tuple[Account, list[Rejected]]:
    """The account and the rejected rows of a part that loses some pairs to the cap of their question."""
    kept = account.rows_out - len(dropped)
    reason = "over the cap"
    counts = Counter(account.counts)
    counts["relevant_pairs"] -= len(dropped)
    counts["pairs_without_negatives"] -= pc.sum(pc.equal(pc.list_value_length(dropped["negative_docids"]), 0)).as_py()
    account = replace(account, rows_out=kept, counts=counts, rejected=account.rejected + Counter({reason: len(dropped)}))
    limit = f"mining.max_pairs_per_question={mining.max_pairs_per_question}"
    before = _rejected_before(artifacts.join(work.uri, "rejected", row["part"]))
    rejected = [other for other in before if other.reason != reason]  # an interrupted run may have written them
    for pair in from_table(dropped, Pair):
        where = f"trajectory {pair.trajectory_id}: browse step {pair.browse_step} opened docid {pair.positive_docid!r}"
        detail = f"{row['browses']}, {where}, but question {pair.query_id} has enough pairs ({limit})"
        rejected.append(Rejected(source=row["browses"], position=f"pair {pair.pair_id}", reason=reason, detail=detail))
    return account, rejected


def _constants(intensity: Intensity | None, mining: Mining) -> dict[str, Any]:
    if intensity is None:
        return {}
    beta = dict(intensity.betas) if mining.group_by == "agent" else intensity.betas.get("", 0.0)
    return {"beta_tokens": beta, "mu_raw": intensity.mu_raw}


def _retention(config: Config, output: str, judged: Manifest) -> dict[str, Any]:
    """The judge's retention of evidence, where questions.train annotates any."""
    if config.questions.train is None:
        return {}
    asked = questions.read(questions.ensure(config.questions.train, artifacts.join(output, "questions")), need_answers=False)
    evidence = {question.query_id: question.evidence_docids for question in asked}
    return retention(_verdicts(judged, config), evidence)


def _drop_outdated_pairs(output: str, config: Row, inputs: dict[str, str | None]) -> None:
    """Remove pairs made with other settings or verdicts: they cost no LLM call. Stages that lie inside `output` stay."""
    records = [artifacts.join(output, name) for name in (artifacts.MANIFEST, artifacts.STARTED)]
    now = {name: artifacts.fingerprint(name, uri) for name, uri in inputs.items() if uri}
    found = [artifacts.read_json(record) for record in records if artifacts.exists(record)]
    if not found or any(record["kind"] != "pairs" for record in found):
        return
    changed = {name for record in found for name in inputs if _content(record["inputs"], name) != _content(now, name)}
    if not changed and all(record["config"] == config for record in found):
        return
    _log.info("%s holds pairs made with other settings or verdicts: they are made anew", output)
    manifest, started = records
    # First, so that a run which ends in the midst of this is not taken for a finished one, nor for one to be continued.
    artifacts.write_json(started, {"kind": "pairs", "config": None, "inputs": {}})
    artifacts.remove(manifest)
    outdated = {"rejected", _UNWEIGHTED}
    outdated |= {folder for folder, name in (("documents", "corpus"), ("questions", "questions.train")) if name in changed}
    fs, path = url_to_fs(output)
    for entry in fs.ls(path, detail=True):
        name = posixpath.basename(entry["name"])
        if name in outdated or _PART.fullmatch(name):
            fs.rm(entry["name"], recursive=True)
    artifacts.remove(started)


def _content(inputs: Row, name: str) -> Row | None:
    """What identifies an input, wherever it lies."""
    return {key: value for key, value in inputs[name].items() if key != "uri"} if name in inputs else None
