"""Serve the simulated LLM on Ray Serve, behind the OpenAI chat-completions API."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lrat_ray import cluster
from lrat_ray import questions as question_sets
from lrat_ray.config import Config, ConfigError
from lrat_ray.quickstart.plans import Plans
from lrat_ray.quickstart.simulated_llm import model_names, respond

_MAX_ONGOING_REQUESTS = 1024


@serve.deployment(
    max_ongoing_requests=_MAX_ONGOING_REQUESTS, graceful_shutdown_timeout_s=5, ray_actor_options={"num_cpus": 0.5}
)
@serve.ingress()
class SimulatedLLM:
    """The replica. It holds the plans and nothing else: every answer is computed from its request."""

    def __init__(self, plans: Plans):
        self._plans = plans

    def __serve_build_asgi_app__(self) -> Starlette:
        routes = [
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/v1/models", self.models),
        ]
        return Starlette(routes=routes)

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions; a request that cannot be answered gets status 400 and an error in OpenAI's form."""
        try:
            return _json(respond(json.loads(await request.body()), self._plans))
        except ValueError as error:  # RequestError, PlanError, JudgeError, or a body that is not JSON
            return _json({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in model_names()]
        return _json({"object": "list", "data": data})


def deploy(config: Config, questions: Sequence[str], *, route_prefix: str = "/llm", name: str = "simulated-llm") -> str:
    """Start the simulated LLM for the questions artifacts at these URIs; returns its base URL, which ends in /v1.

    Raises ArtifactError for a URI that is no questions artifact, ConfigError when serve.port is in use.
    """
    plans = Plans(question for uri in questions for question in question_sets.read(uri))
    cluster.connect(config.ray)
    url = cluster.start_serve(config.serve.host, config.serve.port)
    app = SimulatedLLM.bind(plans)  # type: ignore[attr-defined]  # the decorators make it a Deployment
    serve.run(app, name=name, route_prefix=route_prefix)
    return f"{url}{route_prefix.rstrip('/')}/v1"


def run(config: Config) -> None:
    """Serve the simulated LLM for questions.train and questions.eval until Ctrl-C. Raises ConfigError if neither is set."""
    uris = [uri for uri in (config.questions.train, config.questions.eval) if uri is not None]
    if not uris:
        raise ConfigError(
            "questions.train and questions.eval are not set: the simulated LLM plans by the questions' sub-questions"
        )
    with tempfile.TemporaryDirectory() as scratch:
        known = [question_sets.ensure(uri, f"{scratch}/{i}") for i, uri in enumerate(uris)]
        base_url = deploy(config, known)
    print(f"Serving the SIMULATED LLM at {base_url} until Ctrl-C. Use it with llm.base_url={base_url}", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        cluster.shutdown()


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status_code=status, media_type="application/json")
