"""Peak memory counts this process and what it started."""

import subprocess
import sys

from lrat_ray.memory import PeakMemory


def test_a_childs_memory_counts():
    hold = "import time; held = bytearray(300 * 1024 * 1024); time.sleep(5)"
    with PeakMemory() as alone, subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"]):
        pass
    with PeakMemory() as memory, subprocess.Popen([sys.executable, "-c", hold]):
        pass
    assert 290 < memory.peak_mb["pss"] - alone.peak_mb["pss"] < 330
    assert memory.peak_mb["total"] >= memory.peak_mb["pss"]
