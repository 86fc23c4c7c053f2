"""A real HTTP endpoint that judges by simple rules, and remembers what it was asked."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JudgeEndpoint(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint: dismisses what says "search again", rambles where `rambles` is, keeps what it is asked.

    It refuses reasonings with "too long" in them, cuts off those with "endless" and, where `knows_choices` is false, every
    request with a constraint; where it is true, such a request gets log-probabilities: P(RELEVANT) is 0.75 or 0.25.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chat)
        self.requests: list[dict[str, Any]] = []
        self.rambles: re.Pattern[str] | None = re.compile("^Great")
        self.knows_choices = False
        self.wait_s = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self) -> list[str]:
        """The reasonings, in the order in which they came."""
        return [request["messages"][-1]["content"] for request in self.requests]


class _Chat(BaseHTTPRequestHandler):
    server: JudgeEndpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        time.sleep(self.server.wait_s)
        with self.server.lock:
            self.server.at_once -= 1
        self._send(*self._answer(request))

    def _answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        reasoning = request["messages"][-1]["content"]
        constrained = "structured_outputs" in request
        if "too long" in reasoning:
            return 400, {"error": {"message": "the prompt is too long"}}
        if constrained and not self.server.knows_choices:
            return 400, {"error": {"message": "unknown field structured_outputs"}}
        word = "NOT_RELEVANT" if "search again" in reasoning else "RELEVANT"
        content = "no idea" if self.server.rambles and self.server.rambles.search(reasoning) else word
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if "endless" in reasoning else "stop"}
        choice["message"] = {"role": "assistant", "content": content}
        if constrained:
            chosen, other = (word[0], "R" if word[0] == "N" else "N")
            top = [{"token": chosen, "logprob": math.log(0.75)}, {"token": other, "logprob": math.log(0.25)}]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}

    def do_GET(self) -> None:
        names = ("m", "simulated-relevance-judge")
        self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        answer = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def judge_endpoint() -> Iterator[JudgeEndpoint]:
    """A running endpoint."""
    with JudgeEndpoint() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
