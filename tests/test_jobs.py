"""jobs/ scripts run where `ray job submit` puts them: on a Ray head, with nothing but its working directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Dashboard address of a Ray head that runs beside whatever Ray this process uses."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 6,
            "include_dashboard": True,
            "dashboard_port": 0,
            # The agent that takes jobs listens on 52365 by default; where this process's own Ray holds that port,
            # the head would stay without an agent and answer "No available agent to submit job" for ever.
            "dashboard_agent_listen_port": 0,
        },
    )
    yield f"http://{cluster.head_node.webui_url}"
    cluster.shutdown()


def submit(head: str, script: str, *args: str) -> str:
    """`ray job submit`, waiting for the end; returns the job's output."""
    ray = Path(sys.executable).with_name("ray")
    runtime_env = json.dumps({"excludes": [".git", ".venv", "*.parquet"], "env_vars": {"HF_HUB_OFFLINE": "1"}})
    command = [str(ray), "job", "submit", "--address", head, "--working-dir", ".", "--runtime-env-json", runtime_env]
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            [*command, "--", sys.executable, script, *args],
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        # A head that was just started takes jobs only when its agent has registered, which on a busy machine takes a while.
        if "No available agent to submit job" not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_mine_then_train_as_jobs(head, tmp_path, lrat_trajectories):
    pairs, encoder = tmp_path / "pairs", tmp_path / "encoder"
    corpus = f"corpus={lrat_trajectories / 'corpus.parquet'}"
    mined = submit(head, "jobs/mine.py", "--trajectories", str(lrat_trajectories / "trajectories"), corpus, f"output={pairs}")
    assert f"next: lrat train train.pairs={pairs}" in mined
    assert json.loads((pairs / "manifest.json").read_text())["kind"] == "pairs"

    submit(head, "jobs/train.py", f"train.pairs={pairs}", corpus, f"output={encoder}", "train.batch_size=4")
    manifest = json.loads((encoder / "manifest.json").read_text())
    assert manifest["kind"] == "encoder"
    assert manifest["metrics"]["mean_weight"] == pytest.approx(1.0)
    assert (encoder / "encoder" / "modules.json").exists()
