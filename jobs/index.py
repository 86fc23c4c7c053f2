"""Build a release: encoder, index and doc store. Takes what `lrat index` takes.

ray job submit --working-dir . -- python jobs/index.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["index", *sys.argv[1:]])
