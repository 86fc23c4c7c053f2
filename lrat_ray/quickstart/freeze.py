"""The hash that freezes the made world and its simulated LLM: recorded before a tuned arm is run on them, checked by a test.

A change of the world or of the simulated agent after that would let one adjust them until a tuned encoder wins.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources

from lrat_ray.config import Quickstart

FROZEN_SOURCES = (
    "plans.py",
    "reading.py",
    "simulated_agent.py",
    "simulated_judges.py",
    "simulated_llm.py",
    "simulated_wording.py",
    "vocabulary.py",
    "world.py",
)


def world_hash() -> str:
    """sha256 over the sources of world and simulated LLM, and over the defaults of config section quickstart."""
    digest = hashlib.sha256()
    for name in FROZEN_SOURCES:
        digest.update(name.encode() + b"\0" + resources.files("lrat_ray.quickstart").joinpath(name).read_bytes() + b"\0")
    digest.update(json.dumps(Quickstart().model_dump(mode="json"), sort_keys=True).encode())
    return digest.hexdigest()
