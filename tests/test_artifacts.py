"""Artifacts are whole or resumable, never mixed, on local paths and other file systems alike."""

import pyarrow as pa
import pytest

from lrat_ray import artifacts
from lrat_ray.artifacts import ArtifactError
from lrat_ray.schema import Document, Rejected

DOCUMENTS = [Document(docid="1", text="a"), Document(docid="2", text="b")]


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path)
    else:
        uri = "memory://artifacts"
        yield uri
        artifacts.remove(uri)


def begin(uri, config=None, inputs=None, force=False):
    return artifacts.begin(uri, kind="documents", config=config or {"k": (1, 2)}, inputs=inputs or {}, force=force)


def finish(work):
    work.write_rows("part-00000.parquet", DOCUMENTS, Document)
    return work.finish(parts=["part-00000.parquet"], rows={"in": 2, "out": 2, "rejected": 0})


def test_a_finished_artifact_is_returned_at_once(root):
    uri = artifacts.join(root, "a")
    first = finish(begin(uri))
    again = begin(uri)
    assert again.manifest == first
    assert list(artifacts.read_rows(uri, Document, "documents")) == DOCUMENTS


def test_unfinished_work_continues_at_its_parts(root):
    uri = artifacts.join(root, "a")
    begin(uri).write_rows("part-00000.parquet", DOCUMENTS, Document)
    work = begin(uri)
    assert work.manifest is None
    assert work.has("part-00000.parquet")
    assert not work.has("part-00001.parquet")
    with pytest.raises(ArtifactError, match="unfinished"):
        artifacts.read_manifest(uri)


@pytest.mark.parametrize("done", [True, False])
def test_other_work_in_the_directory_is_refused_and_force_starts_over(root, done):
    uri = artifacts.join(root, "a")
    work = begin(uri)
    if done:
        finish(work)
    with pytest.raises(ArtifactError, match=r"config.k: \[1, 2\] there, 3 now.*--force"):
        begin(uri, config={"k": 3})
    fresh = begin(uri, config={"k": 3}, force=True)
    assert fresh.manifest is None
    assert not fresh.has("part-00000.parquet")


def test_a_removed_input_is_noticed(root):
    source, uri = artifacts.join(root, "in.json"), artifacts.join(root, "a")
    artifacts.write_json(source, [1])
    finish(begin(uri, inputs={"source": source}))
    with pytest.raises(ArtifactError, match="inputs.source.*None now"):
        begin(uri)


def test_force_deletes_nothing_but_earlier_work(root):
    foreign, uri = artifacts.join(root, "foreign"), artifacts.join(root, "a")
    artifacts.write_json(artifacts.join(foreign, "thesis.json"), 1)
    with pytest.raises(ArtifactError, match="foreign holds neither .* not ours to delete"):
        begin(foreign, force=True)
    finish(begin(uri))
    inside = artifacts.join(uri, "part-00000.parquet")
    with pytest.raises(ArtifactError, match="source: .* lies inside the output"):
        begin(uri, inputs={"source": inside}, force=True)
    assert artifacts.exists(artifacts.join(foreign, "thesis.json"))
    assert artifacts.exists(inside)


def test_a_changed_input_is_noticed(root):
    source, uri = artifacts.join(root, "in.json"), artifacts.join(root, "a")
    artifacts.write_json(source, [1])
    finish(begin(uri, inputs={"source": source}))
    artifacts.write_json(source, [1, 2, 3])
    with pytest.raises(ArtifactError, match="inputs.source"):
        begin(uri, inputs={"source": source})


def test_a_missing_input_is_named(root):
    with pytest.raises(ArtifactError, match="trajectories: .*nowhere does not exist"):
        begin(artifacts.join(root, "a"), inputs={"trajectories": artifacts.join(root, "nowhere")})


def test_a_moved_artifact_still_reads(tmp_path):
    finish(begin(str(tmp_path / "a")))
    (tmp_path / "a").rename(tmp_path / "b")
    assert list(artifacts.read_rows(str(tmp_path / "b"), Document, "documents")) == DOCUMENTS


def test_kind_is_checked(root):
    uri = artifacts.join(root, "a")
    finish(begin(uri))
    with pytest.raises(ArtifactError, match="kind 'documents', but one of kind 'pairs'"):
        artifacts.read_manifest(uri, "pairs")
    assert not artifacts.is_artifact(uri, "pairs")


def test_rejected_rows_are_kept_with_their_reason(root):
    uri = artifacts.join(root, "a")
    work = begin(uri)
    rows = [Rejected(source="f", position="row 3", reason="no docid", detail="the row has no docid")]
    assert work.write_rejected("documents", rows) == 1
    assert work.write_rejected("none", []) == 0
    assert list(artifacts.read_rejected(uri)) == rows


def test_a_failed_write_leaves_nothing(tmp_path):
    path = str(tmp_path / "x" / "file")
    with pytest.raises(RuntimeError), artifacts.atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert list((tmp_path / "x").iterdir()) == []


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(ArtifactError, match=r"x.parquet is not a Parquet file"):
        artifacts.read_table(str(tmp_path / "x.parquet"))


def test_tables_are_written_as_they_are(root):
    work = begin(artifacts.join(root, "a"))
    work.write_table("t.parquet", pa.table({"x": [1, 2]}))
    assert artifacts.read_table(artifacts.join(work.uri, "t.parquet")).to_pydict() == {"x": [1, 2]}


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"kind": "x", "parts": [], "other": 1}'])
def test_a_foreign_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest.json is no manifest of an artifact \("):
        artifacts.read_manifest(str(tmp_path))
