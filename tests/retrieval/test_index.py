import os
from pathlib import Path

import numpy as np
import pytest

from lrat_ray import documents
from lrat_ray.artifacts import ArtifactError, read_manifest
from lrat_ray.config import Config
from lrat_ray.documents import DocumentStore
from lrat_ray.retrieval import encode, index
from lrat_ray.retrieval.encoder import encode_texts, load_encoder
from lrat_ray.retrieval.release import Release


def test_faiss_ranks_as_brute_force(releases: dict[str, str]) -> None:
    release = Release.open(releases["flat"])
    model = load_encoder(os.path.join(releases["flat"], "encoder"), precision="fp32")
    passages = encode_texts(model, release.documents.passages(range(40)), role="passage")
    queries = ["a telescope in Varsh", "music on strings", "trains of Ombra"]
    cosines = encode_texts(model, queries, role="query") @ passages.T
    for hits, row in zip(release.search(queries, 7), cosines, strict=True):
        assert [hit.row for hit in hits] == np.argsort(-row)[:7].tolist()
        assert [hit.score for hit in hits] == pytest.approx(np.sort(row)[::-1][:7].tolist(), abs=1e-5)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6, 7]
        assert [release.documents.row(hit.docid) for hit in hits] == [hit.row for hit in hits]


def test_a_release_lists_all_its_parts(releases: dict[str, str]) -> None:
    for kind, uri in releases.items():
        manifest = read_manifest(uri, "release")
        on_disk = {str(path.relative_to(uri)) for path in Path(uri).rglob("*") if path.is_file()}
        assert on_disk == {*manifest.parts, "manifest.json"}
        assert manifest.rows == {"in": 40, "out": 40, "rejected": 0}
        assert manifest.protocol["index"] == kind
        assert (manifest.protocol["encoder"] is None) == (kind == "bm25")


def test_an_interrupted_build_encodes_only_what_is_missing(corpus: str, ray_local: None, tmp_path: Path) -> None:
    # An earlier run left the middle one of three parts (rows 16 to 31): vectors that this encoder would never make.
    vectors = tmp_path / "release" / "vectors"
    vectors.mkdir(parents=True)
    left = np.zeros((16, 384), np.float32)
    left[:, 3] = 1
    np.save(vectors / "part-00001.npy", left)
    config = Config().replace(corpus=corpus, output=str(tmp_path / "release"), index__documents_per_part=16)
    manifest = index.run(config)
    assert manifest.metrics["encoded"] == 24
    assert not vectors.exists()
    found = Release.open(manifest.uri).search(["the violin of Norland"], 40)[0]
    encoded = {hit.row for hit in found if hit.score > 0.2}
    assert encoded and encoded.isdisjoint(range(16, 32))
    assert index.run(config) == manifest


def test_parts_are_cut_alike_by_every_run() -> None:
    cut = encode.parts(40, "v", 16)
    assert [(part.start, part.stop) for part in cut] == [(0, 16), (16, 32), (32, 40)]
    assert cut[2].uri == "v/part-00002.npy"


def test_a_documents_artifact_is_linked_not_copied(corpus: str, tmp_path: Path) -> None:
    store = documents.build(corpus, str(tmp_path / "documents")).uri
    release = index.run(Config().replace(corpus=store, output=str(tmp_path / "release"), index__kind="bm25")).uri
    assert os.path.samefile(f"{store}/documents.arrow", f"{release}/documents/documents.arrow")
    assert DocumentStore.open(f"{release}/documents").get("Varsh/violin").title == "The violin of Varsh"


def test_hybrid_fuses_what_both_find(releases: dict[str, str]) -> None:
    query = ["the glacier of Quillon"]
    dense, lexical = ([hit.row for hit in Release.open(releases[kind]).search(query, 40)[0]] for kind in ("flat", "bm25"))
    expected = {row: 1 / (60 + dense.index(row) + 1) for row in dense}
    for rank, row in enumerate(lexical, 1):
        expected[row] += 1 / (60 + rank)
    hits = Release.open(releases["hybrid"]).search(query, 5)[0]
    assert hits[0].docid == "Quillon/glacier"
    assert [hit.row for hit in hits] == sorted(expected, key=lambda row: (-expected[row], row))[:5]
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.row] for hit in hits])


def test_fusing_encodes_nothing_and_links_every_file(releases: dict[str, str]) -> None:
    for part, source in (("dense.faiss", "flat"), ("encoder/model.safetensors", "flat"), ("bm25/vocab.index.json", "bm25")):
        assert os.path.samefile(f"{releases['hybrid']}/{part}", f"{releases[source]}/{part}")


def test_fusing_refuses_other_kinds_and_other_documents(releases: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is of kind 'bm25'; a 'flat' one is needed"):
        index.fuse(releases["bm25"], releases["bm25"], str(tmp_path / "a"))
    other = tmp_path / "other.jsonl"
    other.write_text('{"docid": "1", "text": "something else"}\n')
    lexical = index.run(Config().replace(corpus=str(other), output=str(tmp_path / "b"), index__kind="bm25")).uri
    with pytest.raises(ArtifactError, match="hold different documents"):
        index.fuse(releases["flat"], lexical, str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_a_corpus_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"docid": "1", "text": " "}\n')
    config = Config().replace(corpus=str(tmp_path / "corpus.jsonl"), output=str(tmp_path / "release"), index__kind="bm25")
    with pytest.raises(ArtifactError, match="holds no usable document"):
        index.run(config)
