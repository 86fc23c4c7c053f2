"""The client against a plain HTTP server that fails in the ways a service behind a proxy does."""

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lrat_ray.retrieval.client import DocumentNotFound, RetrieverError, SearchClient
from lrat_ray.schema import SearchResult

ANSWER = {
    "release_id": "r-1",
    "results": [{"docid": "7", "rank": 1, "score": 0.5, "title": "Seven", "snippet": "sev"}],
}


class Server(ThreadingHTTPServer):
    """Answers what stands in `answers`, one after another, and keeps what was asked."""

    answers: list[tuple[int, str]]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/retriever/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.asked.append(f"{self.path} {body}".strip())
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.answers = [], []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_search_answers_are_typed(server: Server) -> None:
    server.answers = [(200, json.dumps(ANSWER))]

    async def ask() -> None:
        async with SearchClient(server.url) as client:
            response = await client.search("seven?", 3)
        assert response.release_id == "r-1"
        assert response.results == [SearchResult(docid="7", rank=1, score=0.5, title="Seven", snippet="sev")]

    asyncio.run(ask())
    assert server.asked == ['/retriever/search {"query": "seven?", "k": 3}']


def test_an_overloaded_service_is_asked_again(server: Server) -> None:
    server.answers = [(503, "busy"), (502, "restarting"), (200, json.dumps(ANSWER))]

    async def ask() -> None:
        async with SearchClient(server.url) as client:
            assert (await client.search("q", 1)).release_id == "r-1"

    asyncio.run(ask())
    assert len(server.asked) == 3


def test_a_refusal_is_not_repeated_and_keeps_its_words(server: Server) -> None:
    server.answers = [(422, '{"error": "k is 9; at most 5"}')]

    async def ask() -> None:
        async with SearchClient(server.url) as client:
            with pytest.raises(RetrieverError, match="HTTP 422: k is 9; at most 5"):
                await client.search("q", 9)

    asyncio.run(ask())
    assert len(server.asked) == 1


def test_a_missing_document_is_told_from_a_wrong_url(server: Server) -> None:
    server.answers = [(404, '{"error": "no document"}'), (404, "Not Found"), (404, '{"detail": "Not Found"}')]

    async def ask() -> None:
        async with SearchClient(server.url) as client:
            with pytest.raises(DocumentNotFound):
                await client.document("a b/c?")
            for _ in range(2):
                with pytest.raises(RetrieverError) as caught:
                    await client.document("x")
                assert not isinstance(caught.value, DocumentNotFound)

    asyncio.run(ask())
    assert server.asked[0] == "/retriever/documents/a%20b/c%3F"


def test_a_search_outlives_the_restart_of_a_replica(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("lrat_ray.retrieval.client.asyncio.sleep", no_wait)
    server.answers = [(503, "restarting")] * 9 + [(200, json.dumps(ANSWER))]

    async def ask() -> None:
        async with SearchClient(server.url) as client:
            assert (await client.search("q", 1)).release_id == "r-1"

    asyncio.run(ask())
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0, 4.0])


def test_nobody_listening_is_an_error_after_bounded_retries(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrat_ray.retrieval.client._FIRST_WAIT_S", 0.001)

    async def ask() -> None:
        async with SearchClient("http://127.0.0.1:1") as client:
            with pytest.raises(RetrieverError, match="failed 6 times.*Is the retriever running"):
                await client.health()

    asyncio.run(ask())
