"""Fine-tune a bi-encoder on pairs: `ray job submit --working-dir . -- python jobs/train.py ...` takes what `lrat train` takes."""

import sys

from lrat_ray.cli import main

main(["train", *sys.argv[1:]])
