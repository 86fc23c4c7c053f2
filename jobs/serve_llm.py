"""Serve the simulated LLM until the job is stopped: `ray job submit --working-dir . -- python jobs/serve_llm.py ...` takes what `lrat serve-llm` takes."""

import sys

from lrat_ray.cli import main

main(["serve-llm", *sys.argv[1:]])
