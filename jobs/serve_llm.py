"""Serve the simulated LLM until the job is stopped. Takes what `lrat serve-llm` takes.

ray job submit --working-dir . -- python jobs/serve_llm.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["serve-llm", *sys.argv[1:]])
