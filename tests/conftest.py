"""Shared fixtures: one local Ray for the whole session, and the real data that tests read in place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports Ray or a model library: no token file in the user's home, no model hub.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import pytest

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("lrat", deadline=None)
hypothesis.settings.load_profile("lrat")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _shared(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        message = f"real data {name} is not beside the project (expected at ../shared/data/{name})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def lrat_trajectories() -> Path:
    """Seven real run files and the public miner's pairs on them."""
    return _shared("lrat-trajectories")


@pytest.fixture(scope="session")
def wiki_multihop() -> Path:
    """17,588 Wikipedia passages with multi-hop questions."""
    return _shared("wiki-multihop")


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A local Ray with 6 logical CPUs, shared by every test that needs one."""
    from lrat_ray import cluster
    from lrat_ray.config import RaySection

    cluster.connect(RaySection(num_cpus=6))
    yield
    cluster.shutdown()
