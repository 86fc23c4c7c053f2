"""`lrat quickstart`: make a world, then run the flywheel on it; the same code as on a cluster, on defaults for a laptop."""

from __future__ import annotations

import logging
from typing import Any

from lrat_ray import artifacts, flywheel
from lrat_ray.artifacts import Manifest, join
from lrat_ray.config import Config
from lrat_ray.quickstart import world

_log = logging.getLogger(__name__)


def defaults(ablation: bool = False) -> dict[str, Any]:
    """Configuration of the quickstart; a YAML file and overrides go on top. `ablation` adds the arms naive and filter."""
    arms = ["base", "bm25", "control", *(["naive", "filter"] if ablation else []), "lrat"]
    return {
        "output": "lrat-quickstart",
        "judge": {"backend": "openai", "model": "simulated-relevance-judge"},
        "train": {"max_pairs": 640, "validation_share": 0},  # agents measure the encoders here
        # W and X word their searches as V, whose trajectories are mined, never does: without them a gain could be V's habits.
        "agent": {"mined": "simulated-V", "names": ["simulated-V", "simulated-W", "simulated-X"]},
        "flywheel": {"arms": arms},
        "serve": {"port": 0},
    }


def run(config: Config) -> Manifest:
    """Make the world of `config.quickstart` under `output`, and run one round of the loop on it."""
    output = config.require("output", "the quickstart needs a directory to write to")
    place = join(output, "world")
    if config.force:  # once, for the world too: the loop's own --force would take the world away under it
        for begun in filter(artifacts.is_work, (place, output)):
            artifacts.start_over(begun, {})
        config = config.replace(force=False)
    made = world.build(config.replace(output=place))
    frozen_as = made.protocol["world_hash"][:16]
    _log.info("a made world of %d articles and a simulated LLM, frozen as %s", config.quickstart.articles, frozen_as)
    return flywheel.run(
        config.replace(
            corpus=join(made.uri, "corpus.parquet"),
            questions__train=join(made.uri, "questions-train.parquet"),
            questions__eval=join(made.uri, "questions-eval.parquet"),
        )
    )
