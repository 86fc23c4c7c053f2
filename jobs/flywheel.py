"""Run one round of the whole loop: `ray job submit --working-dir . -- python jobs/flywheel.py ...` takes what `lrat flywheel` takes."""

import sys

from lrat_ray.cli import main

main(["flywheel", *sys.argv[1:]])
