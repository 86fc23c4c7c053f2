"""Questions with their annotations: read, checked against the corpus, and written as an artifact; unfit ones are rejected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.documents import DocumentStore
from lrat_ray.qrels import Qrels, read_qrels
from lrat_ray.question_files import Source, question, rows, source
from lrat_ray.schema import Question, Rejected

_PART = "part-00000.parquet"


def build(
    questions: str,
    output: str,
    *,
    qrels: str | None = None,
    gold_qrels: str | None = None,
    documents: str | None = None,
    disjoint_from: str | None = None,
    need_subquestions: bool = False,
    force: bool = False,
) -> Manifest:
    """Write a questions artifact at `output` from Parquet, JSONL or TSV files, or from a BEIR folder (docs/data.md).

    The documents that `qrels` (a BEIR folder brings its own) judges relevant are evidence, those of `gold_qrels` hold the
    answer. A docid that names a document which the `documents` artifact holds in chunks stands for all of its chunks.

    Rejected are malformed rows (of qrels, too), repeated query_ids, and questions without an answer (with qrels they may have
    none, which the metric without_answer counts), without a relevant document in the qrels, with evidence that is not in
    `documents`, in the questions artifact `disjoint_from` or sharing evidence with it (training would leak), and, for the
    simulated agent (`need_subquestions`), without sub-questions. Raises ArtifactError if a file is missing or is of no such
    format, or if no question is left.
    """
    found = source(questions, qrels)
    work = artifacts.begin(
        output,
        kind="questions",
        config={"need_subquestions": need_subquestions},
        inputs={
            "questions": questions,
            "qrels": found.qrels,
            "gold_qrels": gold_qrels,
            "documents": documents,
            "disjoint_from": disjoint_from,
        },
        force=force,
    )
    if work.manifest:
        return work.manifest
    evidence = read_qrels(found.qrels, "questions.qrels") if found.qrels else None
    gold = read_qrels(gold_qrels, "questions.gold_qrels") if gold_qrels else None
    judged = [given for given in (evidence, gold) if given is not None]
    rejected = [row for given in judged for row in given.rejected]
    rows_in = len(rejected)
    read_in: list[tuple[Question, str, str]] = []
    for file, position, row in rows(found):
        rows_in += 1
        parsed = question(row, need_answer=evidence is None)
        if isinstance(parsed, Question):
            read_in.append((_annotated(parsed, evidence, gold), file, position))
        else:
            rejected.append(Rejected(source=file, position=position, reason=parsed.reason, detail=parsed.detail))
    corpus = _Corpus(documents, (asked for asked, _, _ in read_in)) if documents else None
    others = _Others(read(disjoint_from, need_answers=False) if disjoint_from else [])
    kept: dict[str, Question] = {}
    for asked, file, position in read_in:
        reason = _unfit(asked, kept, found, evidence, corpus, others, need_subquestions)
        if reason is None:
            kept[asked.query_id] = corpus.resolved(asked) if corpus else asked
        else:
            rejected.append(Rejected(source=file, position=position, reason=reason[0], detail=reason[1]))
    if not kept:
        example = f"; the first: {rejected[0].detail}" if rejected else ""
        raise ArtifactError(f"questions: none of the {rows_in} questions in {questions} can be used{example}")
    work.write_rows(_PART, kept.values(), Question)
    return work.finish(
        parts=[_PART],
        rows={"in": rows_in, "out": len(kept), "rejected": work.write_rejected("questions", rejected)},
        metrics={
            **({"without_answer": sum(not asked.answer for asked in kept.values())} if evidence else {}),
            **{f"{name}qrels": _counts(given, kept) for name, given in (("", evidence), ("gold_", gold)) if given},
            "rejected_by_reason": dict(Counter(row.reason for row in rejected)),
        },
    )


def read(uri: str, *, need_answers: bool = True) -> list[Question]:
    """The questions of a questions artifact.

    Raises ArtifactError if `uri` is none, or if `need_answers` and a question has no answer, by which success could be judged.
    """
    found = list(artifacts.read_rows(uri, Question, "questions"))
    if need_answers and (mute := [asked.query_id for asked in found if not asked.answer]):
        raise ArtifactError(
            f"{uri}: {len(mute)} of {len(found)} questions have no answer (the first: {mute[0]!r}), so nobody can say whether "
            "an agent answered them. They serve the evaluation of retrieval; for anything else import questions with answers "
            "(a third column of a TSV file, the field answer of JSONL)"
        )
    return found


def ensure(questions: str, scratch: str, *, documents: str | None = None) -> str:
    """The URI of a questions artifact: `questions` itself where it is one, otherwise built (or found) at `scratch`."""
    if artifacts.is_artifact(questions, "questions"):
        return questions
    return build(questions, scratch, documents=documents).uri


class _Others:
    """What questions of another set must not share."""

    def __init__(self, questions: list[Question]):
        self.query_ids = {other.query_id for other in questions}
        self.texts = {_words(other.question) for other in questions}
        self.evidence = {docid for other in questions for docid in other.evidence_docids}


def _words(question: str) -> tuple[str, ...]:
    """A question without case, punctuation and spacing."""
    return tuple(re.findall(r"\w+", question.casefold()))


class _Corpus:
    """What the corpus knows of the docids that questions name."""

    def __init__(self, documents: str, asked: Iterable[Question]):
        store = DocumentStore.open(documents)
        named = list(dict.fromkeys(docid for one in asked for docid in (*one.evidence_docids, *one.gold_docids)))
        self.uri = store.uri
        self._resolved = dict(zip(named, store.resolve(named), strict=True))

    def absent(self, docids: Sequence[str]) -> list[str]:
        """Those that the corpus does not hold, neither whole nor in chunks."""
        return [docid for docid in docids if not self._resolved[docid]]

    def resolved(self, asked: Question) -> Question:
        """The question with the docids that the corpus has for its documents; a gold document that it lacks keeps its own."""
        evidence = [held for docid in asked.evidence_docids for held in self._resolved[docid]]
        gold = [held for docid in asked.gold_docids for held in self._resolved[docid] or [docid]]
        return replace(asked, evidence_docids=evidence, gold_docids=gold)


def _annotated(asked: Question, evidence: Qrels | None, gold: Qrels | None) -> Question:
    """The question with the documents that qrels name for it, after those that it names itself."""
    return replace(
        asked,
        evidence_docids=_with(asked.evidence_docids, evidence, asked.query_id),
        gold_docids=_with(asked.gold_docids, gold, asked.query_id),
    )


def _with(docids: list[str], qrels: Qrels | None, query_id: str) -> list[str]:
    return list(dict.fromkeys([*docids, *qrels.relevant.get(query_id, [])])) if qrels else docids


def _unfit(
    asked: Question,
    kept: dict[str, Question],
    found: Source,
    evidence: Qrels | None,
    corpus: _Corpus | None,
    others: _Others,
    need_subquestions: bool,
) -> tuple[str, str] | None:
    """Why a well-formed question cannot be asked in this experiment: (code, sentence), or None."""
    name = f"question {asked.query_id!r}"
    if asked.query_id in kept:
        return "repeated query_id", f"{name} stands earlier in the file; the first row was kept"
    if evidence is not None and asked.query_id not in evidence.relevant:
        return "not in qrels", f"{name} has no relevant document in {found.qrels} (config key: questions.qrels)"
    if corpus is not None and (absent := corpus.absent(asked.evidence_docids)):
        return (
            "evidence not in corpus",
            f"{name}: evidence {', '.join(absent)} is not in the corpus {corpus.uri} (config key: corpus)",
        )
    if asked.query_id in others.query_ids or _words(asked.question) in others.texts:
        return "question of training", f"{name} is a training question"
    evidence_here = corpus.resolved(asked).evidence_docids if corpus else []
    if shared := others.evidence.intersection([*asked.evidence_docids, *evidence_here]):
        return "evidence shared with training", f"{name} shares evidence {', '.join(sorted(shared))} with a training question"
    if need_subquestions and not asked.subquestions:
        return "no sub-questions", f"{name} has no sub-questions, which the simulated agent plans by"
    return None


def _counts(qrels: Qrels, kept: dict[str, Question]) -> dict[str, int]:
    """What became of each judgement."""
    used = sum(len(docids) for query_id, docids in qrels.relevant.items() if query_id in kept)
    other = qrels.judgements - qrels.not_relevant - used
    return {"in": qrels.judgements, "used": used, "not_relevant": qrels.not_relevant, "repeated_or_of_no_question_kept": other}
