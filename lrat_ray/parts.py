"""Work shared out part by part over Ray Data: one task makes one part of a stage's output."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from lrat_ray.artifacts import ArtifactError
from lrat_ray.config import ConfigError, RaySection
from lrat_ray.progress import Progress

Row = dict[str, Any]
"""A row of Ray Data. Going in, a part's name and the files that it is made from; coming out, its name and its account."""


def each_part(
    ray_config: RaySection,
    done: str,
    parts: Sequence[Row],
    work_on: Callable[[Row], Row],
    *,
    max_tasks: int | None = None,
    num_cpus: float = 1,
) -> list[Row]:
    """What `work_on` reports of each part, in the order of `parts`; it runs in Ray Data tasks, at most `max_tasks` at once.

    max_tasks: for tasks that wait; by default as many run as there are cores. A part that is already there is reported, not
    made again. Raises ArtifactError, after the other parts are done, when a task found input that it could not use.
    """
    from lrat_ray import cluster

    cluster.connect(ray_config)
    import ray.data

    def task(row: Row) -> Row:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the parts are what runs in parallel
        try:
            return {"part": row["part"], "error": "", **work_on(row)}
        except (ArtifactError, ConfigError) as error:  # as a value: Ray Data turns every exception into one of its own
            return {"part": row["part"], "error": str(error)}

    # One block for each part: Ray Data would put a small input into one block, which is one task.
    tasks = ray.data.from_items(list(parts), override_num_blocks=len(parts))
    reports: dict[str, Row] = {}
    progress = Progress(done, len(parts), "parts")
    for report in tasks.map(
        task, compute=ray.data.TaskPoolStrategy(_at_most(len(parts), max_tasks or cluster.busy_tasks())), num_cpus=num_cpus
    ).iter_rows():
        reports[report["part"]] = report
        progress.update(len(reports))
    in_order = [reports[row["part"]] for row in parts]
    if errors := [report["error"] for report in in_order if report["error"]]:
        raise ArtifactError(errors[0])
    return in_order


def _at_most(parts: int, tasks: int | None) -> int | None:
    """Tasks at once, of which Ray Data warns when they are more than the parts."""
    return None if tasks is None else min(parts, tasks)
