"""The whole loop on a small made world, interrupted at several steps and continued: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lrat_ray.config import Config
from lrat_ray.flywheel import Arm, arms

LRAT = Path(sys.executable).with_name("lrat")
SMALL = [
    "quickstart.articles=400",
    "quickstart.train_questions=40",
    "quickstart.eval_questions=20",
    "train.max_pairs=48",
    "train.checkpoint_every_steps=1",
]


def test_trained_arms_run_once_per_seed():
    config = Config().replace(flywheel__arms=("base", "bm25", "lrat", "hybrid-base", "hybrid-lrat"), train__seeds=(1, 2))
    assert arms(config) == [
        Arm("base"),
        Arm("bm25"),
        Arm("lrat", 1),
        Arm("lrat", 2),
        Arm("hybrid-base"),
        Arm("hybrid-lrat", 1),
        Arm("hybrid-lrat", 2),
    ]
    assert Arm("hybrid-lrat", 2).release == "hybrid-lrat-2"


def quickstart(output: Path, interrupt_at: str | None = None) -> tuple[int, str]:
    """Run `lrat quickstart`; with `interrupt_at`, send Ctrl-C once that step is announced. Returns (exit code, its log)."""
    process = subprocess.Popen(
        [str(LRAT), "quickstart", "--output", str(output), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(400, process.kill)
    watchdog.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if interrupt_at is not None and line.strip() == interrupt_at:
            os.kill(process.pid, signal.SIGINT)
            interrupt_at = None
    watchdog.cancel()
    return process.wait(), "".join(lines)


def finished(output: Path) -> dict[str, float]:
    """Every finished artifact and when its manifest was written."""
    return {str(path.relative_to(output)): path.stat().st_mtime for path in output.rglob("manifest.json")}


@pytest.mark.slow
def test_an_interrupted_quickstart_continues(tmp_path):
    output = tmp_path / "quickstart"
    done: dict[str, float] = {}
    for step in ("rollout train", "train lrat-1", "evaluate"):
        code, log = quickstart(output, interrupt_at=step)
        assert code == 130, log
        assert "interrupted" in log
        assert "the same command continues" in log
        now = finished(output)
        assert now.items() >= done.items(), f"after an interruption at {step}, finished work was lost or done again"
        done = now
    code, log = quickstart(output)
    assert code == 0, log
    assert finished(output).items() >= done.items()
    assert "report.html" in log

    summary = json.loads((output / "summary.json").read_text())
    assert {row["name"] for row in summary["arms"]} == {"base", "bm25", "control", "lrat"}
    assert all(row["questions"] == 20 for row in summary["arms"] if row["source"] == row["agent"] == "pooled")
    pooled = {row["name"]: row["success_rate"] for row in summary["arms"] if row["agent"] == row["source"] == "pooled"}
    assert all(0 <= rate <= 1 for rate in pooled.values())
    differences = {(row["arm"], row["baseline"]) for row in summary["differences"]}
    assert differences == {("bm25", "base"), ("control", "base"), ("lrat", "base"), ("lrat", "control")}
    assert "simulated-V" in summary["protocol"]["simulated"]
    assert summary["protocol"]["continued"] is True
    assert summary["peak_memory_mb"]["total"] > 0
    assert set(summary["timings_s"]) >= {"mine", "judge", "weigh", "train lrat-1", "evaluate"}
