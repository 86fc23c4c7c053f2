"""Let agents answer questions with a running retriever: `ray job submit --working-dir . -- python jobs/rollout.py ...` takes what `lrat rollout` takes."""

import sys

from lrat_ray.cli import main

main(["rollout", *sys.argv[1:]])
