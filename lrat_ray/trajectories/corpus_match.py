"""Which docids of trajectories the corpus holds: whether it is the corpus on which they were collected."""

from __future__ import annotations

from collections.abc import Set

from lrat_ray import artifacts
from lrat_ray import corpus as corpora
from lrat_ray.documents import DocumentStore


def in_corpus(docids: Set[str], corpus: str) -> set[str]:
    """Those of `docids` that are in a documents artifact, or in a corpus as it comes, which is read once.

    A document that was cut into chunks is there by its own docid, too. Raises ArtifactError when there is no corpus.
    """
    if artifacts.is_artifact(corpus, "documents"):
        wanted = sorted(docids)
        found = DocumentStore.open(corpus).resolve(wanted)
        return {docid for docid, held in zip(wanted, found, strict=True) if held}
    held: set[str] = set()
    for piece in corpora.read(corpora.files(corpus)):
        held |= docids & set(piece.rows.column("docid").to_pylist())
    return held
