"""Serve a release over HTTP: gateway, encoder and index in one Ray Serve replica, and a switch to another release in flight."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ray import serve
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lrat_ray import artifacts, cluster
from lrat_ray.config import Config, Serve
from lrat_ray.documents import snippet
from lrat_ray.loopback import is_loopback
from lrat_ray.retrieval.release import Hit, Release, check

_MAX_BATCH = 32
_MAX_ONGOING_REQUESTS = 1024
# Batches of ever new shapes fragment glibc's heap: ten promotions with queries between them took 330 MB, with this 150 MB.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": "100000"}


def _has_a_word(text: str) -> str:
    if not text.strip():
        raise ValueError("must hold a word")
    return text


Query = Annotated[str, AfterValidator(_has_a_word)]
Body = TypeVar("Body", bound=BaseModel)


class SearchRequest(BaseModel):
    """Body of POST /search. `reasoning` and `question` are for releases whose query template uses them; others ignore both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: Query | None = None
    queries: Annotated[list[Query], Field(min_length=1)] | None = None
    k: int = Field(default=5, ge=1)
    include_text: bool = False
    reasoning: str | None = None
    question: str | None = None

    @model_validator(mode="after")
    def _check_one(self) -> SearchRequest:
        if (self.query is None) == (self.queries is None):
            raise ValueError("send either query (a string) or queries (a list of strings), not both and not neither")
        return self


class PromoteRequest(BaseModel):
    """Body of POST /promote: the URI of a release, as the service's machine sees it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    release: str = Field(min_length=1)


class BadRequest(ValueError):
    """A request that cannot be answered; `status` is the HTTP status, the message says what to change."""

    def __init__(self, message: str, status: int = 422):
        super().__init__(message)
        self.status = status


class _LoopbackHost:
    """Refuses what was sent to another host than this machine's own: a web page can point a name of its own at 127.0.0.1."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else "localhost"
        if _names_loopback(host):
            await self._app(scope, receive, send)
        else:
            fix = "call it at 127.0.0.1 or localhost, or serve on another address (config key serve.host)"
            refusal = _json({"error": f"this service answers on its own machine only, not as {host!r}; {fix}"}, 421)
            await refusal(scope, receive, send)


@dataclass(frozen=True)
class _Asked:
    """The queries of one request, all answered by one release."""

    queries: list[str]
    k: int


@serve.deployment(
    max_ongoing_requests=_MAX_ONGOING_REQUESTS,
    graceful_shutdown_timeout_s=5,
    ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": _MALLOC}},
)
@serve.ingress()
class Retriever:
    """The replica. One thread searches, so that the event loop stays free; another loads the release to switch to."""

    def __init__(self, release: str, config: Serve):
        import torch

        # Half the cores, for the other half serves the agents and their LLM. Threads that wait for a core spin: with both of
        # 2 busy cores a query cost 33 ms of CPU, with one 15.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        self._config = config
        self._release = Release.open(release)
        self._searching = ThreadPoolExecutor(1, "search")
        self._loading = ThreadPoolExecutor(1, "load")

    def __serve_build_asgi_app__(self) -> Starlette:
        routes = [
            Route("/search", self.search, methods=["POST"]),
            Route("/documents/{docid:path}", self.document),
            Route("/health", self.health),
            Route("/promote", self.promote, methods=["POST"]),
        ]
        guards = [Middleware(_LoopbackHost)] if is_loopback(self._config.host) else []
        return Starlette(routes=routes, middleware=guards, exception_handlers={BadRequest: _explain})

    async def search(self, request: Request) -> Response:
        """POST /search: the k best documents of a query, or a list of such lists for `queries`."""
        asked = _parse(SearchRequest, await request.body())
        if asked.k > self._config.max_k:
            raise BadRequest(f"k is {asked.k}; this service returns at most {self._config.max_k} (config key serve.max_k)")
        queries = [asked.query] if asked.query is not None else asked.queries or []
        release, found = await self._search(_Asked(queries, asked.k))
        results = [self._results(release, hits, asked.include_text) for hits in found]
        return _json({"release_id": release.release_id, "results": results if asked.query is None else results[0]})

    async def document(self, request: Request) -> Response:
        """GET /documents/{docid}: a document in full."""
        docid = request.path_params["docid"]
        release = self._release
        try:
            document = release.documents.get(docid)
        except KeyError:
            raise BadRequest(f"no document {docid!r} in release {release.release_id}", 404) from None
        body = {"release_id": release.release_id, "docid": docid, "title": document.title, "text": document.text}
        return _json(body)

    async def health(self, request: Request) -> Response:
        """GET /health: what is being served."""
        release = self._release
        body = {"release_id": release.release_id, "release": release.uri, "index": release.kind}
        return _json({"status": "ok", **body, "documents": len(release.documents)})

    async def promote(self, request: Request) -> Response:
        """POST /promote: load another release beside the present one, then switch; requests under way finish on the old one.

        The body must be declared as JSON: a page of another site cannot send that, as its browser asks first and gets no leave.
        """
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise BadRequest(f"send the header Content-Type: application/json (got {content_type!r})", 415)
        uri = _parse(PromoteRequest, await request.body()).release
        loop = asyncio.get_running_loop()
        try:
            release = await loop.run_in_executor(self._loading, Release.open, uri)
        except (ValueError, OSError) as error:
            raise BadRequest(f"{error}. Release {self._release.release_id} stays in service") from error
        self._release = release
        # A model is full of reference cycles: left to itself, every promotion keeps another encoder in memory for minutes.
        await loop.run_in_executor(self._loading, gc.collect)
        return _json({"release_id": release.release_id})

    @serve.batch(max_batch_size=_MAX_BATCH, batch_wait_timeout_s=0)
    async def _search(self, batch: list[_Asked]) -> list[tuple[Release, list[list[Hit]]]]:
        """Answer what has come in while the last batch was being searched, by one release."""
        release = self._release
        found = await asyncio.get_running_loop().run_in_executor(self._searching, _search_batch, release, batch)
        return [(release, hits) for hits in found]

    def _results(self, release: Release, hits: Sequence[Hit], include_text: bool) -> list[dict[str, Any]]:
        results = []
        for hit in hits:
            document = release.documents.document(hit.row)
            result = {
                "docid": hit.docid,
                "rank": hit.rank,
                "score": hit.score,
                "title": document.title,
                "snippet": snippet(document, self._config.snippet_tokens),
            }
            results.append({**result, "text": document.text} if include_text else result)
        return results


def deploy(config: Config, *, route_prefix: str = "/", name: str = "retriever") -> str:
    """Start the service of `serve.release` as the Serve application `name`; returns its base URL once it answers.

    Raises ArtifactError for a release that cannot be served, ConfigError when the port is in use.
    """
    release = _absolute(config.require("serve.release", "it is what the service serves"))
    check(release)  # here, where the message is seen, and not in a replica that Serve would restart
    cluster.connect(config.ray)
    url = cluster.start_serve(config.serve.host, config.serve.port)
    app = Retriever.bind(release, config.serve)  # type: ignore[attr-defined]  # the decorators make it a Deployment
    serve.run(app, name=name, route_prefix=route_prefix)
    return url + route_prefix.rstrip("/")


def run(config: Config) -> None:
    """Serve until Ctrl-C."""
    url = deploy(config)
    print(f"Serving {config.serve.release} at {url} until Ctrl-C. Try it:")
    print(f"""  curl -s {url}/search -d '{{"query": "who wrote the score", "k": 3}}'""", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        cluster.shutdown()


def _search_batch(release: Release, batch: Sequence[_Asked]) -> list[list[list[Hit]]]:
    """For each request the hits of each of its queries; requests with the same k are searched together."""
    found: list[list[list[Hit]]] = [[] for _ in batch]
    for k in {asked.k for asked in batch}:
        members = [i for i, asked in enumerate(batch) if asked.k == k]
        hits = iter(release.search([query for i in members for query in batch[i].queries], k))
        for i in members:
            found[i] = [next(hits) for _ in batch[i].queries]
    return found


def _names_loopback(host_header: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:  # brackets without an address
        return False


def _absolute(uri: str) -> str:
    """The URI as a replica with another working directory must be told it."""
    return artifacts.local_path(uri) or uri


def _parse(model: type[Body], body: bytes) -> Body:
    try:
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise BadRequest(f"the body is not JSON: {first['ctx']['error']}", 400) from error
        where = ".".join(str(part) for part in first["loc"]) or "body"
        known = ", ".join(model.model_fields)
        raise BadRequest(
            f"{where}: {first['msg'].removeprefix('Value error, ')} (got {_short(first['input'])}; known fields: {known})"
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status, media_type="application/json")


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return _json({"error": str(error)}, error.status)
