"""Mine trajectories into weighted training pairs. Takes what `lrat mine` takes.

ray job submit --working-dir . -- python jobs/mine.py --config jobs/configs/EXPERIMENT.yaml
"""

import sys

from lrat_ray.cli import main

main(["mine", *sys.argv[1:]])
