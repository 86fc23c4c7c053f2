"""Run one round of the whole loop. Takes what `lrat flywheel` takes.

ray job submit --working-dir . -- python jobs/flywheel.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["flywheel", *sys.argv[1:]])
