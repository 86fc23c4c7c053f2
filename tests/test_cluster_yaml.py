"""cluster.yaml is what Ray's launcher accepts, and agrees with the pins of the package."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_the_file_follows_rays_own_schema(cluster: dict[str, Any]) -> None:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        jsonschema.validate({**cluster, "max_wrokers": 1}, schema)


def test_the_launcher_accepts_it_and_adds_no_setup_of_its_own(cluster: dict[str, Any]) -> None:
    """Ray's defaults for AWS install a nightly Ray wherever a setup list is left out."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["head_setup_commands"] == cluster["head_setup_commands"]
    assert prepared["worker_setup_commands"] == cluster["worker_setup_commands"]
    assert prepared["available_node_types"].keys() == {"head", "judging", "training", "serving"}


def test_the_head_has_no_gpu_and_every_group_has(cluster: dict[str, Any]) -> None:
    gpus = {name: group["resources"].get("GPU", 0) for name, group in cluster["available_node_types"].items()}
    assert gpus.pop(cluster["head_node_type"]) == 0
    assert all(gpus.values())


def test_max_workers_is_the_sum_of_the_groups(cluster: dict[str, Any]) -> None:
    assert cluster["max_workers"] == sum(group.get("max_workers", 0) for group in cluster["available_node_types"].values())


def test_images_carry_the_ray_that_the_package_pins(cluster: dict[str, Any]) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (pinned,) = [found[1] for d in dependencies if (found := re.fullmatch(r"ray\[.*\]==(.+)", d))]
    images = (cluster["docker"]["head_image"], cluster["docker"]["worker_image"])
    assert all(image.startswith(f"rayproject/ray:{pinned}-py311-") for image in images)


def test_setup_installs_extras_that_exist(cluster: dict[str, Any]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    commands = [*cluster["head_setup_commands"], *cluster["worker_setup_commands"]]
    named = [extra for command in commands for extra in re.findall(r"lrat_ray\[(\w+)\]", command)]
    assert named == ["cpu", "gpu"]
    assert set(named) <= extras.keys()
