"""Mine trajectories into weighted training pairs: `ray job submit --working-dir . -- python jobs/mine.py ...` takes what `lrat mine` takes."""

import sys

from lrat_ray.cli import main

main(["mine", *sys.argv[1:]])
