"""`lrat quickstart`: make a world, then run the flywheel on it; the same code as on a cluster, on defaults for a laptop."""

from __future__ import annotations

from typing import Any

from lrat_ray import flywheel
from lrat_ray.artifacts import Manifest, join
from lrat_ray.config import Config
from lrat_ray.quickstart import world


def defaults(ablation: bool = False) -> dict[str, Any]:
    """Configuration of the quickstart; a YAML file and overrides go on top. `ablation` adds the arms naive and filter."""
    arms = ["base", "bm25", "control", *(["naive", "filter"] if ablation else []), "lrat"]
    return {
        "judge": {"backend": "openai", "model": "simulated-relevance-judge"},
        "train": {"max_pairs": 640},
        "flywheel": {"arms": arms},
        "serve": {"port": 0},
    }


def run(config: Config) -> Manifest:
    """Make the world of `config.quickstart` under `output`, and run one round of the loop on it."""
    output = config.require("output", "the quickstart needs a directory to write to")
    made = world.build(config.replace(output=join(output, "world")))
    return flywheel.run(
        config.replace(
            corpus=join(made.uri, "corpus.parquet"),
            questions__train=join(made.uri, "questions-train.parquet"),
            questions__eval=join(made.uri, "questions-eval.parquet"),
        )
    )
