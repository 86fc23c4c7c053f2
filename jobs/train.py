"""Fine-tune a bi-encoder on pairs. Takes what `lrat train` takes.

ray job submit --working-dir . -- python jobs/train.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["train", *sys.argv[1:]])
