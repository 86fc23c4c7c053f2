"""Serve a release until the job is stopped: `ray job submit --working-dir . -- python jobs/serve.py ...` takes what `lrat serve` takes."""

import sys

from lrat_ray.cli import main

main(["serve", *sys.argv[1:]])
