"""Serve a release until the job is stopped. Takes what `lrat serve` takes.

ray job submit --working-dir . -- python jobs/serve.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["serve", *sys.argv[1:]])
