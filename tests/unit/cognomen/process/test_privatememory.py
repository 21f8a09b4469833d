"""cognomen/process/privatememory, in a process of its own."""

import subprocess
import sys

PROGRAM = """
import ctypes, os, resource
from cognomen.process.privatememory import keep_memory_private
keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
print(os.path.exists(os.readlink("/proc/self/exe")), bool(os.listdir("/proc/self/fd")))
descriptor = os.memfd_create("x")
open(f"/proc/self/fd/{descriptor}", "wb").close()
"""


def test_the_process_is_not_dumpable_leaves_no_core_and_can_still_look_at_itself() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["0 0 0", "True True"]
