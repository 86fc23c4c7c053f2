import os
import shutil
from pathlib import Path

import pytest

from lrat_ray.artifacts import ArtifactError
from lrat_ray.retrieval.release import Release
from tests.retrieval.conftest import copy_release


def test_every_kind_finds_the_obvious_document(releases: dict[str, str]) -> None:
    for uri in releases.values():
        found = Release.open(uri).search(["the orchard of Eastmere", "the railway of Ombra"], 3)
        assert [hits[0].docid for hits in found] == ["Eastmere/orchard", "Ombra/railway"]


def test_k_beyond_the_corpus_gives_every_document_once(releases: dict[str, str]) -> None:
    for kind in ("flat", "hybrid"):
        hits = Release.open(releases[kind]).search(["harbour"], 1000)[0]
        assert sorted(hit.row for hit in hits) == list(range(40))
    assert Release.open(releases["flat"]).search([], 3) == []


def test_the_release_id_names_the_content(releases: dict[str, str], tmp_path: Path) -> None:
    ids = {kind: Release.open(uri).release_id for kind, uri in releases.items()}
    assert len(set(ids.values())) == 3
    moved = copy_release(releases["bm25"], tmp_path / "bm25")
    assert Release.open(str(moved)).release_id == ids["bm25"]
    assert ids["bm25"].startswith("bm25-")


def test_a_truncated_index_is_refused(releases: dict[str, str], tmp_path: Path) -> None:
    release = copy_release(releases["flat"], tmp_path / "release")
    os.truncate(release / "dense.faiss", 5000)
    with pytest.raises(ArtifactError, match=r"dense\.faiss is not what was built: truncated or changed"):
        Release.open(str(release))


def test_a_missing_part_is_refused(releases: dict[str, str], tmp_path: Path) -> None:
    release = copy_release(releases["bm25"], tmp_path / "release")
    (release / "bm25" / "indptr.csc.index.npy").unlink()
    with pytest.raises(ArtifactError, match=r"indptr\.csc\.index\.npy is missing"):
        Release.open(str(release))


def test_another_encoder_than_the_indexs_is_refused(releases: dict[str, str], tmp_path: Path) -> None:
    release = copy_release(releases["flat"], tmp_path / "release")
    weights = release / "encoder" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one bit of one weight
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"encoder and index do not match.*changed: encoder/model\.safetensors"):
        Release.open(str(release))


def test_an_unfinished_release_is_refused(releases: dict[str, str], tmp_path: Path) -> None:
    release = copy_release(releases["bm25"], tmp_path / "release")
    (release / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="unfinished"):
        Release.open(str(release))


def test_another_kind_of_artifact_is_refused(releases: dict[str, str]) -> None:
    with pytest.raises(ArtifactError, match="kind 'documents', but one of kind 'release'"):
        Release.open(f"{releases['flat']}/documents")


def test_a_remote_release_is_copied_here_once(releases: dict[str, str]) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(releases["bm25"], "/bucket/bm25", recursive=True)
    release = Release.open("memory://bucket/bm25")
    try:
        assert release.release_id == Release.open(releases["bm25"]).release_id
        assert release.search(["violin of Varsh"], 1)[0][0].docid == "Varsh/violin"
    finally:
        memory.rm("/bucket", recursive=True)
        shutil.rmtree(os.path.dirname(release.documents.uri))
