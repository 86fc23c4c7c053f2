"""An answer judge behind real HTTP, and artifacts of runs for it to judge."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lrat_ray import artifacts
from lrat_ray.schema import Question, Trajectory


class AnswerJudge:
    """An OpenAI-compatible endpoint that compares response and answer; `broken` responses are answered with status 400."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.base_url = ""

    def reply(self, request: dict[str, object]) -> tuple[int, dict[str, object]]:
        assert request["model"] == "judge-model"
        data = json.loads(request["messages"][-1]["content"])  # type: ignore[index]
        self.asked.append((data["question"], data["response"]))
        if data["response"] in self.broken:
            return 400, {"error": {"message": "prompt too long"}}
        word = "CORRECT" if data["response"] == data["answer"] else "INCORRECT"
        message = {"role": "assistant", "content": word}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-model", "choices": [choice]}


@pytest.fixture
def answer_judge() -> Iterator[AnswerJudge]:
    judge = AnswerJudge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": []})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*judge.reply(json.loads(body)))

        def _send(self, status: int, data: dict[str, object]) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    judge.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    yield judge
    server.shutdown()
    server.server_close()
    thread.join()


def write_questions(uri: Path, rows: list[Question]) -> str:
    work = artifacts.begin(str(uri), kind="questions", config={}, inputs={})
    work.write_rows("part-00000.parquet", rows, Question)
    return work.finish(parts=["part-00000.parquet"], rows={"in": len(rows), "out": len(rows), "rejected": 0}).uri


def write_trajectories(uri: Path, rows: list[Trajectory]) -> str:
    work = artifacts.begin(str(uri), kind="trajectories", config={}, inputs={})
    work.write_rows("part-00000.parquet", rows, Trajectory)
    counts = {"in": len(rows), "out": len(rows), "rejected": 0}
    return work.finish(parts=["part-00000.parquet"], rows=counts, protocol={"release_id": uri.name}).uri
