"""Build a release: encoder, index and doc store: `ray job submit --working-dir . -- python jobs/index.py ...` takes what `lrat index` takes."""

import sys

from lrat_ray.cli import main

main(["index", *sys.argv[1:]])
