"""Check the method's assumptions on trajectories. Takes what `lrat analyze` takes.

ray job submit --working-dir . -- python jobs/analyze.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["analyze", *sys.argv[1:]])
