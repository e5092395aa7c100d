"""An operator that is ready keeps what it loaded out of later collections."""

import subprocess
import sys

SCRIPT = """
import gc
from connectors.gc_tuning import YOUNG, freeze_startup_objects
import models.messages
before = gc.get_freeze_count()
freeze_startup_objects()
assert gc.get_freeze_count() > before + 10_000, gc.get_freeze_count()
assert gc.get_threshold()[0] == YOUNG
cycle = []; cycle.append(cycle); del cycle
assert gc.collect() == 1
"""


def test_what_is_loaded_is_not_walked_again_and_new_cycles_are_still_found():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
