"""What is loaded before a daemon runs is not looked through for garbage again, and cycles that come later still go."""

import subprocess
import sys

_CHILD = """
import gc
from cognomen.process.collector import keep_pauses_short

class Loop:
    def __init__(self):
        self.me = self
    def __del__(self):
        gone.append(None)

gone = []
before = len(gc.get_objects())
keep_pauses_short()
print(before >= 1000, len(gc.get_objects()) < 100, gc.get_freeze_count() >= before)
for _ in range(20_000):
    Loop()
print(len(gone) > 10_000)
entries = [[number] for number in range(5_000)]
keep_pauses_short()
print(len(gc.get_objects()) < 100)
"""


def test_what_is_loaded_and_what_a_start_makes_is_left_out_and_later_cycles_are_collected() -> None:
    told = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["True"] * 5
