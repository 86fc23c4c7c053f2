"""Compare the arms of an experiment. Takes what `lrat evaluate` takes.

ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["evaluate", *sys.argv[1:]])
