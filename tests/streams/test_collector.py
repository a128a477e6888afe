import subprocess
import sys

LOOK = """
import gc
from streams import collector
made_before = [[n] for n in range(1000)]
collector.calm()
cycle = []
cycle.append(cycle)
print(gc.get_freeze_count() > 1000, gc.get_threshold() == collector.THRESHOLDS, gc.isenabled())
del cycle
print(gc.collect() >= 1)
"""


def test_what_was_made_before_is_left_alone_and_cycles_are_still_found() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "True"]
