"""Build a release: place the doc store and the encoder, encode the corpus, write the indexes; or fuse two finished releases."""

from __future__ import annotations

import itertools
import os
import posixpath
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import fsspec
import numpy as np
from fsspec.core import url_to_fs

from lrat_ray import artifacts, cluster, documents
from lrat_ray.artifacts import ArtifactError, Manifest, Work
from lrat_ray.config import Config
from lrat_ray.documents import DocumentStore, passage
from lrat_ray.models import Precision, resolve_model, usable_precision
from lrat_ray.retrieval import release
from lrat_ray.retrieval.bm25 import LexicalIndex
from lrat_ray.retrieval.release import DENSE, DOCUMENTS, ENCODER, LEXICAL

if TYPE_CHECKING:
    from lrat_ray.retrieval.encode import Part

_VECTORS = "vectors"


def run(config: Config) -> Manifest:
    """Write a release of kind `index.kind` from `corpus` at `output`; an interrupted build continues at the first missing part.

    The encoder is `index.encoder`, or `train.base_model`. Raises ConfigError or ArtifactError for input that cannot be used.
    """
    corpus = config.require("corpus", "it is what the release searches")
    output = config.require("output", "the release needs a directory")
    encoder = config.index.encoder or config.train.base_model
    is_dense = config.index.kind != "bm25"
    keys = ["index.kind"]
    if is_dense:
        keys += ["index.precision", "index.passage_max_tokens", "index.documents_per_part"]
    # An encoder given as a path is told apart by its content (an input); a hub or package name by the name.
    is_path = artifacts.exists(encoder)
    named = {"encoder": encoder} if is_dense and not is_path else {}
    inputs = {"corpus": corpus, "encoder": encoder if is_dense and is_path else None}
    work = artifacts.begin(output, kind=release.KIND, config={**config.only(*keys), **named}, inputs=inputs, force=config.force)
    if work.manifest:
        return work.manifest

    store_manifest = _place_documents(corpus, artifacts.join(output, DOCUMENTS), config)
    if not store_manifest.rows["out"]:
        raise ArtifactError(f"corpus: {corpus} holds no usable document (see {artifacts.join(output, DOCUMENTS)}/rejected)")
    parts = [f"{DOCUMENTS}/{name}" for name in _files(artifacts.join(output, DOCUMENTS))]
    encoding: dict[str, str | int] = {}
    metrics: dict[str, float] = {"documents": store_manifest.rows["out"]}
    if is_dense:
        precision = usable_precision(config.index.precision, "cuda" if config.index.use_gpu else "cpu")
        encoding = {"precision": precision, "passage_max_tokens": config.index.passage_max_tokens}
        parts += _place_encoder(encoder, artifacts.join(output, ENCODER))
        metrics |= _build_dense(work, config, encoder, precision)
        parts.append(DENSE)
    if config.index.kind != "flat":
        parts += _build_lexical(work)
    protocol = release.protocol(config.index.kind, release.checksums(output, parts), **encoding)
    return work.finish(parts=parts, rows=store_manifest.rows, metrics=metrics, protocol=protocol)


def fuse(dense: str, bm25: str, output: str) -> Manifest:
    """A hybrid release from a flat and a bm25 release of the same corpus; files are linked where possible, nothing is encoded.

    Raises ArtifactError when a release is of another kind, or when the two hold different documents.
    """
    sources = {"dense": release.check(dense), "bm25": release.check(bm25)}
    for name, kind in (("dense", "flat"), ("bm25", "bm25")):
        if (found := sources[name].protocol["index"]) != kind:
            raise ArtifactError(f"{name}: release {sources[name].uri} is of kind {found!r}; a {kind!r} one is needed")
    store = f"{DOCUMENTS}/documents.arrow"
    if len({source.protocol["checksums"][store] for source in sources.values()}) > 1:
        raise ArtifactError(f"releases {dense} and {bm25} hold different documents; build both from one documents artifact")
    work = artifacts.begin(
        output, kind=release.KIND, config={"index": {"kind": "hybrid"}}, inputs={"dense": dense, "bm25": bm25}
    )
    if work.manifest:
        return work.manifest
    checksums = dict(sources["dense"].protocol["checksums"])
    for part in checksums:
        _place(artifacts.join(dense, part), artifacts.join(output, part))
    for part in [part for part in sources["bm25"].parts if part.startswith(f"{LEXICAL}/")]:
        _place(artifacts.join(bm25, part), artifacts.join(output, part))
        checksums[part] = sources["bm25"].protocol["checksums"][part]
    encoding = {key: sources["dense"].protocol[key] for key in ("precision", "passage_max_tokens")}
    return work.finish(
        parts=list(checksums),
        rows=sources["dense"].rows,
        metrics={"documents": sources["dense"].metrics["documents"]},
        protocol=release.protocol("hybrid", checksums, **encoding),
    )


def _place_documents(corpus: str, target: str, config: Config) -> Manifest:
    """The doc store of the release: the corpus itself, linked or copied, where it is a documents artifact, else built."""
    if not artifacts.is_artifact(corpus, "documents"):
        return documents.build(corpus, target, config=config)
    for name in sorted(_files(corpus), key=lambda name: name == artifacts.MANIFEST):  # the manifest makes the copy whole
        _place(artifacts.join(corpus, name), artifacts.join(target, name))
    return artifacts.read_manifest(target, "documents")


def _place_encoder(encoder: str, target: str) -> list[str]:
    """Copy a sentence-transformers folder into the release, from disk or from the model hub; returns the parts."""
    folder = resolve_model(encoder)
    with tempfile.TemporaryDirectory() as scratch:
        if not os.path.isdir(folder):
            from sentence_transformers import SentenceTransformer

            SentenceTransformer(folder, device="cpu").save_pretrained(scratch)
            folder = scratch
        names = _files(folder)
        for name in names:
            _copy(os.path.join(folder, name), artifacts.join(target, name))
    return [f"{ENCODER}/{name}" for name in names]


def _build_dense(work: Work, config: Config, encoder: str, precision: Precision) -> dict[str, float]:
    """Write the FAISS index, encoding what an earlier run has not; returns metrics of what was encoded now."""
    import faiss

    cluster.connect(config.ray)  # before Ray Data is imported, which reads its settings then
    from lrat_ray.retrieval import encode

    metrics: dict[str, float] = {}
    vectors, store = artifacts.join(work.uri, _VECTORS), artifacts.join(work.uri, DOCUMENTS)
    if not work.has(DENSE):
        began = time.monotonic()
        encoded = encode.encode_corpus(store, encoder, vectors, index=config.index, precision=precision)
        metrics = {"encoded": encoded, "documents_per_second": round(encoded / (time.monotonic() - began), 1)}
        blocks = map(_read_vectors, encode.parts(len(DocumentStore.open(store)), vectors, config.index.documents_per_part))
        first = next(blocks)
        index = faiss.IndexFlatIP(first.shape[1])
        for rows in itertools.chain([first], blocks):
            index.add(rows)
        with artifacts.atomic_write(artifacts.join(work.uri, DENSE)) as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]  # absent from the stubs
    artifacts.remove(vectors)
    return metrics


def _read_vectors(part: Part) -> np.ndarray:
    """[rows, D] of one part. Raises ArtifactError for a file that does not hold the part's documents."""
    with fsspec.open(part.uri, "rb") as file:
        vectors: np.ndarray = np.load(file, allow_pickle=False)
    if len(vectors) != part.stop - part.start:
        raise ArtifactError(
            f"{part.uri} holds {len(vectors)} vectors for {part.stop - part.start} documents; delete it and rerun"
        )
    return vectors


def _build_lexical(work: Work) -> list[str]:
    """Write the BM25 index; returns its parts."""
    store = DocumentStore.open(artifacts.join(work.uri, DOCUMENTS))
    with tempfile.TemporaryDirectory() as scratch:
        LexicalIndex.build(map(passage, store.documents())).save(scratch)
        names = _files(scratch)
        for name in names:
            _copy(os.path.join(scratch, name), artifacts.join(work.uri, LEXICAL, name))
    return [f"{LEXICAL}/{name}" for name in names]


def _files(uri: str) -> list[str]:
    """Names of the files under a directory, relative to it, sorted."""
    _, root = url_to_fs(uri)
    return [posixpath.relpath(url_to_fs(path)[1], root) for path in artifacts.list_files(uri)]


def _place(source: str, target: str) -> None:
    """Hard-link a local file (what is written here is replaced, never changed in place), or copy it."""
    from_path, to_path = artifacts.local_path(source), artifacts.local_path(target)
    if from_path is None or to_path is None:
        return _copy(source, target)
    os.makedirs(os.path.dirname(to_path), exist_ok=True)
    if os.path.exists(to_path):  # an interrupted run placed it
        os.remove(to_path)
    try:
        os.link(from_path, to_path)
    except OSError:  # another file system, or one without hard links
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    with fsspec.open(source, "rb") as reader, artifacts.atomic_write(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
