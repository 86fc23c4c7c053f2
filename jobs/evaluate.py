"""Compare the arms of an experiment: `ray job submit --working-dir . -- python jobs/evaluate.py ...` takes what `lrat evaluate` takes."""

import sys

from lrat_ray.cli import main

main(["evaluate", *sys.argv[1:]])
