"""Reach a retriever over HTTP: typed answers, one connection pool, bounded retries."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from lrat_ray import artifacts
from lrat_ray.loopback import NO_PROXY
from lrat_ray.schema import Document, SearchResult, from_dict

_RETRY_STATUS = (502, 503, 504)
_ATTEMPTS = 6
_PATIENT_ATTEMPTS = 10  # 18 s of waits: a replica that died is back by then
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 4.0
_TIMEOUT_S = 60.0
_PROMOTE_TIMEOUT_S = 1800.0  # a large release takes minutes to load


class RetrieverError(RuntimeError):
    """The retriever did not answer, or refused; the message says which and why."""


class DocumentNotFound(RetrieverError):
    """The corpus that is being served has no document with this docid."""


@dataclass(frozen=True)
class SearchResponse:
    """Candidates, best first, and the release that found them."""

    release_id: str
    results: list[SearchResult]


class SearchClient:
    """An async client of one retriever; use it within one event loop, as `async with SearchClient(url) as client`.

    Connection errors and 502, 503 and 504 are retried, as every request may be repeated: 5 times, after .1, .2, .4, .8 and
    1.6 s, and for a search or a document 4 times more, after 3.2, 4, 4 and 4 s, so that a rollout outlives a replica's restart.
    """

    def __init__(self, base_url: str):
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, limits=httpx.Limits(max_connections=None), mounts=NO_PROXY)

    async def __aenter__(self) -> SearchClient:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def search(self, query: str, k: int) -> SearchResponse:
        """The k best documents. Raises RetrieverError when there is no answer, which is not the same as no results."""
        body = await self._call("POST", "/search", {"query": query, "k": k}, attempts=_PATIENT_ATTEMPTS)
        return SearchResponse(body["release_id"], [from_dict(result, SearchResult) for result in body["results"]])

    async def document(self, docid: str) -> Document:
        """A document in full. Raises DocumentNotFound for a docid that the corpus does not hold."""
        return from_dict(await self._call("GET", f"/documents/{quote(docid)}", attempts=_PATIENT_ATTEMPTS), Document)

    async def promote(self, release: str) -> str:
        """Switch the service to another release; returns its release_id. Raises RetrieverError if it was refused."""
        uri = artifacts.local_path(release) or release  # absolute: the service has another working directory
        body = await self._call("POST", "/promote", {"release": uri}, timeout_s=_PROMOTE_TIMEOUT_S)
        return str(body["release_id"])

    async def health(self) -> dict[str, Any]:
        """What the service says of itself: status, release_id, release, index, documents."""
        return await self._call("GET", "/health")

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
        attempts: int = _ATTEMPTS,
    ) -> dict[str, Any]:
        url = self.base_url + path
        content = None if body is None else json.dumps(body).encode()
        headers = None if body is None else {"Content-Type": "application/json"}
        failure = ""
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1)))
            try:
                response = await self._http.request(method, url, content=content, headers=headers, timeout=timeout_s)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if response.status_code not in _RETRY_STATUS:
                return _answer(method, url, response)
            failure = f"HTTP {response.status_code}"
        raise RetrieverError(f"{method} {url} failed {attempts} times, last with {failure}. Is the retriever running?")


def promote(base_url: str, release: str) -> str:
    """Switch a running service to another release; returns its release_id."""

    async def call() -> str:
        async with SearchClient(base_url) as client:
            return await client.promote(release)

    return asyncio.run(call())


def _answer(method: str, url: str, response: httpx.Response) -> dict[str, Any]:
    """The JSON body of a success. Raises RetrieverError with the service's own explanation otherwise."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RetrieverError(
            f"{method} {url}: HTTP {response.status_code}: {response.text[:200]!r}. Is this a retriever's URL?"
        )
    if response.is_success:
        return body
    # A wrong base URL is answered with 404 as well, but not in the service's words.
    is_missing_document = response.status_code == 404 and "/documents/" in url and "error" in body
    error = DocumentNotFound if is_missing_document else RetrieverError
    raise error(f"{method} {url}: HTTP {response.status_code}: {body.get('error', body)}")
