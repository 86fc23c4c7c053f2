"""The service over real HTTP, on a real local Ray Serve."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import Config, ConfigError
from lrat_ray.retrieval import service
from lrat_ray.retrieval.client import SearchClient, promote
from lrat_ray.retrieval.release import Release
from tests.retrieval.conftest import PLACES, TOPICS, copy_release

QUERIES = [f"what is said of the {topic} of {place}?" for topic in TOPICS for place in PLACES]


@pytest.fixture(scope="module")
def url(releases: dict[str, str]) -> Iterator[str]:
    config = Config().replace(serve__release=releases["flat"], serve__port=0, serve__max_k=50, serve__snippet_tokens=5)
    yield service.deploy(config, route_prefix="/retriever")
    serve.delete("retriever")


def ask(url: str, body: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/search", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_search_shows_title_and_snippet(url: str) -> None:
    answer = ask(url, {"query": "the violin of Varsh", "k": 3, "reasoning": "I need music.", "question": "Who plays?"})
    assert answer["release_id"] == httpx.get(f"{url}/health").json()["release_id"]
    first = answer["results"][0]
    assert {key: first[key] for key in ("docid", "rank", "title", "snippet")} == {
        "docid": "Varsh/violin",
        "rank": 1,
        "title": "The violin of Varsh",
        "snippet": "The violin of Varsh was",
    }
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    assert 0.5 < first["score"] <= 1 and "text" not in first


def test_several_queries_are_answered_in_order(url: str) -> None:
    answer = ask(url, {"queries": ["glacier Ombra", "harbour Quillon"], "include_text": True})
    assert [results[0]["docid"] for results in answer["results"]] == ["Ombra/glacier", "Quillon/harbour"]
    assert [len(results) for results in answer["results"]] == [5, 5]
    assert answer["results"][0][0]["text"].startswith("The glacier of Ombra was described by travellers. It is")


def test_a_document_in_full(url: str) -> None:
    document = httpx.get(f"{url}/documents/Ombra/railway").json()
    assert document["title"] == "The railway of Ombra" and document["docid"] == "Ombra/railway"
    assert document["text"].endswith("Nothing else is known.")
    missing = httpx.get(f"{url}/documents/Ombra/castle")
    assert missing.status_code == 404 and "no document 'Ombra/castle'" in missing.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"query": ', 400, "not JSON"),
        ("[]", 422, "body: Input should be an object"),
        ("{}", 422, "send either query (a string) or queries"),
        ('{"query": "a", "queries": ["b"]}', 422, "not both"),
        ('{"query": " "}', 422, "query: must hold a word"),
        ('{"query": 7}', 422, "query: Input should be a valid string (got 7"),
        ('{"queries": []}', 422, "queries: List should have at least 1 item"),
        ('{"queries": ["a", ""]}', 422, "queries.1: must hold a word"),
        ('{"query": "a", "k": 0}', 422, "k: Input should be greater than or equal to 1 (got 0"),
        ('{"query": "a", "k": true}', 422, "k: Input should be a valid integer (got True"),
        ('{"query": "a", "k": "5"}', 422, "k: Input should be a valid integer"),
        ('{"query": "a", "k": 51}', 422, "at most 50 (config key serve.max_k)"),
        ('{"query": "a", "topk": 3}', 422, "topk: Extra inputs are not permitted (got 3; known fields: query, queries, k"),
        ('{"query": "\\ud800"}', 400, "not JSON"),
    ],
)
def test_a_bad_request_is_told_what_to_change(url: str, body: str, status: int, words: str) -> None:
    response = httpx.post(f"{url}/search", content=body)
    assert response.status_code == status
    assert words in response.json()["error"]


def test_promotion_under_load_never_mixes_releases(url: str, releases: dict[str, str]) -> None:
    opened = [Release.open(uri) for uri in releases.values()]
    expected = {release.release_id: [[hit.docid for hit in hits] for hits in release.search(QUERIES, 4)] for release in opened}
    answers: list[tuple[str, int, list[str]]] = []

    async def load(client: SearchClient, stop: asyncio.Event, first: int) -> None:
        i = first
        while not stop.is_set():
            response = await client.search(QUERIES[i % len(QUERIES)], 4)
            answers.append((response.release_id, i % len(QUERIES), [result.docid for result in response.results]))
            i += 1

    async def scenario() -> None:
        stop = asyncio.Event()
        async with SearchClient(url) as client:
            loads = [asyncio.create_task(load(client, stop, 5 * worker)) for worker in range(8)]
            for kind in ("hybrid", "bm25", "flat"):
                release_id = await client.promote(releases[kind])
                assert (await client.health())["release_id"] == release_id
                await asyncio.sleep(0.2)
            stop.set()
            await asyncio.gather(*loads)

    asyncio.run(scenario())
    assert {release_id for release_id, _, _ in answers} == set(expected)
    for release_id, query, docids in answers:
        assert docids == expected[release_id][query]


def test_a_release_that_cannot_be_served_leaves_the_old_one(url: str, releases: dict[str, str], tmp_path: Path) -> None:
    before = promote(url, releases["flat"])
    broken = copy_release(releases["bm25"], tmp_path / "broken")
    (broken / "bm25" / "data.csc.index.npy").write_bytes(b"")
    for uri, words in ((str(broken), "truncated or changed"), (str(tmp_path / "none"), "does not exist")):
        response = httpx.post(f"{url}/promote", json={"release": uri}, timeout=60)
        assert response.status_code == 422
        assert words in response.json()["error"] and before in response.json()["error"]
    assert httpx.post(f"{url}/promote", json={"uri": "x"}).status_code == 422
    assert ask(url, {"query": "violin"})["release_id"] == before


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_web_page_cannot_promote(url: str, releases: dict[str, str], content_type: str | None) -> None:
    """A page of any site may send these types to 127.0.0.1 without asking."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = httpx.post(f"{url}/promote", content=json.dumps({"release": releases["bm25"]}), headers=headers)
    assert response.status_code == 415 and "Content-Type: application/json" in response.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example:8800", 421), ("127.0.0.1.evil.example", 421), ("localhost", 200), ("[::1]:8800", 200)],
)
def test_a_name_that_only_points_here_is_refused(url: str, host: str, status: int) -> None:
    """DNS rebinding: the page's own site name, resolved to 127.0.0.1, makes it the service's own page to a browser."""
    response = httpx.get(f"{url}/health", headers={"Host": host})
    assert response.status_code == status
    assert status == 200 or "serve.host" in response.json()["error"]


def test_deploying_a_mismatched_release_is_refused(releases: dict[str, str], tmp_path: Path) -> None:
    mismatched = copy_release(releases["flat"], tmp_path / "mismatched")
    config = json.loads((mismatched / "encoder" / "config.json").read_text())
    (mismatched / "encoder" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(ArtifactError, match="encoder and index do not match"):
        service.deploy(Config().replace(serve__release=str(mismatched)), name="mismatched", route_prefix="/mismatched")
    with pytest.raises(ConfigError, match=r"serve\.release is not set"):
        service.deploy(Config())
