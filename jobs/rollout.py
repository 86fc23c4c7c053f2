"""Let agents answer questions with a running retriever. Takes what `lrat rollout` takes.

ray job submit --working-dir . -- python jobs/rollout.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["rollout", *sys.argv[1:]])
