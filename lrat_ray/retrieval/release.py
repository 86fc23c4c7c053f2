"""A release: encoder, index and doc store that belong together, opened only when they do, and searched in batches.

    <release>/documents/     the doc store (a documents artifact)
    <release>/encoder/       the sentence-transformers folder that encoded the documents   (kinds flat and hybrid)
    <release>/dense.faiss    flat inner-product index, row i = document row i              (kinds flat and hybrid)
    <release>/bm25/          lexical index, row i = document row i                         (kinds bm25 and hybrid)

The manifest's protocol names the kind, the checksum of every part and the fingerprint of the encoder behind the index.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from fsspec.core import url_to_fs

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError, Manifest
from lrat_ray.documents import DocumentStore
from lrat_ray.models import usable_precision
from lrat_ray.retrieval.bm25 import LexicalIndex
from lrat_ray.retrieval.encoder import encode_texts, load_encoder
from lrat_ray.retrieval.fusion import reciprocal_rank_fusion

if TYPE_CHECKING:
    import faiss
    from sentence_transformers import SentenceTransformer

KIND = "release"
DOCUMENTS, ENCODER, DENSE, LEXICAL = "documents", "encoder", "dense.faiss", "bm25"
DOCUMENTS_MANIFEST = f"{DOCUMENTS}/{artifacts.MANIFEST}"

_FUSION_DEPTH = 100
_CACHED_QUERIES = 4096


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found: its row in the doc store, its rank from 1, and its score (cosine, BM25, or the reciprocal-rank sum)."""

    row: int
    docid: str
    rank: int
    score: float


class DenseIndex:
    """An encoder with the FAISS index of the vectors it made. Not thread-safe: one thread searches at a time."""

    def __init__(self, model: SentenceTransformer, index: faiss.Index):
        self._model, self._index = model, index
        # Agents repeat queries, and encoding one costs several times its search.
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """For each query (row, cosine) of the k nearest documents, best first."""
        scores, rows = self._index.search(self._encode(queries), k)
        return [[(int(row), float(score)) for row, score in zip(*one, strict=True)] for one in zip(rows, scores, strict=True)]

    def _encode(self, queries: Sequence[str]) -> np.ndarray:
        """[Q, D] float32, from the cache where the query was asked before."""
        known = {query: self._vectors[query] for query in queries if query in self._vectors}
        new = [query for query in dict.fromkeys(queries) if query not in known]
        known.update(zip(new, encode_texts(self._model, new, role="query"), strict=True))
        for query in queries:
            self._vectors[query] = known[query]
            self._vectors.move_to_end(query)
        while len(self._vectors) > _CACHED_QUERIES:
            self._vectors.popitem(last=False)
        return np.stack([known[query] for query in queries])


class Release:
    """An opened release. `release_id` names its content: the directory's name and a hash of every part."""

    def __init__(
        self,
        uri: str,
        manifest: Manifest,
        documents: DocumentStore,
        dense: DenseIndex | None,
        lexical: LexicalIndex | None,
    ):
        self.uri, self.manifest, self.documents = uri, manifest, documents
        self.release_id = release_id(manifest)
        self._dense, self._lexical = dense, lexical

    @classmethod
    def open(cls, uri: str) -> Release:
        """Load a finished release. A remote one is copied to this machine first.

        Raises ArtifactError when a part is missing, truncated or changed, or when encoder and index do not belong together.
        """
        manifest = check(uri)
        folder = _local_folder(uri, manifest)
        documents = DocumentStore.open(os.path.join(folder, DOCUMENTS))
        dense = _open_dense(uri, folder, manifest, len(documents)) if DENSE in manifest.parts else None
        lexical = None
        if any(part.startswith(f"{LEXICAL}/") for part in manifest.parts):
            lexical = LexicalIndex.load(os.path.join(folder, LEXICAL))
            _check_rows(uri, LEXICAL, len(lexical), len(documents))
        return cls(uri, manifest, documents, dense, lexical)

    @property
    def kind(self) -> str:
        """flat, bm25 or hybrid."""
        return str(self.manifest.protocol["index"])

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The k best documents of each query, best first (BM25 finds fewer when fewer share a word with the query).

        Not thread-safe: one thread searches a release at a time.
        """
        if not queries:
            return []
        k = min(k, len(self.documents))
        depth = min(max(k, _FUSION_DEPTH), len(self.documents)) if self._dense and self._lexical else k
        lists = []
        if self._dense:
            lists.append(self._dense.search(queries, depth))
        if self._lexical:
            lists.append([self._lexical.search(query, depth) for query in queries])
        return [self._hits(_merge(rankings)[:k]) for rankings in zip(*lists, strict=True)]

    def _hits(self, ranking: Iterable[tuple[int, float]]) -> list[Hit]:
        return [Hit(row, self.documents.docid(row), rank, score) for rank, (row, score) in enumerate(ranking, start=1)]


def _merge(rankings: Sequence[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    if len(rankings) == 1:
        return rankings[0]
    return reciprocal_rank_fusion([[row for row, _ in ranking] for ranking in rankings])


def check(uri: str) -> Manifest:
    """The manifest of a release all of whose parts are there, unchanged. Loads no model.

    Raises ArtifactError naming the part that is missing, truncated or changed.
    """
    manifest = artifacts.read_manifest(uri, KIND)
    expected: dict[str, str] = manifest.protocol["checksums"]
    found = checksums(uri, manifest.parts)
    rebuild = "Build the release again (lrat index --force)"
    if encoder_fingerprint(found) != manifest.protocol["encoder"]:
        changed = [part for part in manifest.parts if part.startswith(f"{ENCODER}/") and found[part] != expected[part]]
        raise ArtifactError(
            f"release {uri}: encoder and index do not match: the index was built with encoder {manifest.protocol['encoder']}, "
            f"but {ENCODER}/ holds {encoder_fingerprint(found)} (changed: {', '.join(changed) or 'the manifest'}). {rebuild}"
        )
    if changed := [part for part in manifest.parts if found[part] != expected[part]]:
        raise ArtifactError(f"release {uri}: {', '.join(changed)} is not what was built: truncated or changed. {rebuild}")
    return manifest


def checksums(uri: str, parts: Iterable[str]) -> dict[str, str]:
    """SHA-256 of every part. Raises ArtifactError for one that is missing."""
    fs, path = url_to_fs(uri)
    found = {}
    for part in parts:
        try:
            with fs.open(posixpath.join(path, part), "rb") as file:
                found[part] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise ArtifactError(f"release {uri}: {part} is missing, though the manifest lists it") from error
    return found


def encoder_fingerprint(parts: dict[str, str]) -> str | None:
    """Identity of an encoder: a hash of its files' names and checksums; None for a release without an encoder."""
    files = {name: digest for name, digest in parts.items() if name.startswith(f"{ENCODER}/")}
    return _hash(files) if files else None


def release_id(manifest: Manifest) -> str:
    """The directory's name and a hash of all that decides an answer, for example `lrat-1-3f9c0a7b52de`."""
    name = posixpath.basename((artifacts.local_path(manifest.uri) or manifest.uri).rstrip("/"))
    # The manifest of the doc store also holds when and from where it was made, which decides no answer.
    decisive = {part: digest for part, digest in manifest.protocol["checksums"].items() if part != DOCUMENTS_MANIFEST}
    return f"{name}-{_hash(decisive)}"


def _hash(value: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _open_dense(uri: str, folder: str, manifest: Manifest, documents: int) -> DenseIndex:
    import faiss

    try:
        index = faiss.read_index(os.path.join(folder, DENSE), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ArtifactError(f"release {uri}: FAISS cannot read {DENSE}: {error}") from error
    model = load_encoder(os.path.join(folder, ENCODER), precision=usable_precision(manifest.protocol["precision"]))
    if index.d != model.get_embedding_dimension():
        raise ArtifactError(
            f"release {uri}: encoder and index do not match: vectors have {index.d} dimensions, "
            f"the encoder makes {model.get_embedding_dimension()}"
        )
    _check_rows(uri, DENSE, index.ntotal, documents)
    return DenseIndex(model, index)


def _check_rows(uri: str, part: str, rows: int, documents: int) -> None:
    if rows != documents:
        raise ArtifactError(f"release {uri}: {part} holds {rows} documents, the doc store {documents}")


def _local_folder(uri: str, manifest: Manifest) -> str:
    """The release's own folder, or for a remote one a copy under the temporary directory, made once per content."""
    if (path := artifacts.local_path(uri)) is not None:
        return path
    fs, remote = url_to_fs(uri)
    folder = os.path.join(tempfile.gettempdir(), "lrat-releases", release_id(manifest))
    if not os.path.isdir(folder):
        with tempfile.TemporaryDirectory(dir=_made(os.path.dirname(folder))) as scratch:
            fs.get(remote, os.path.join(scratch, "release"), recursive=True)
            os.rename(os.path.join(scratch, "release"), folder)
    return folder


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder


def protocol(index: str, parts: dict[str, str], **encoding: Any) -> dict[str, Any]:
    """What the manifest of a release records beside its parts; `parts` maps each to its checksum."""
    return {"index": index, "encoder": encoder_fingerprint(parts), "checksums": parts, **encoding}
