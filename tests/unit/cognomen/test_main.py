"""The program while it is being loaded, in a process of its own."""

import signal
import subprocess
import sys

import pytest

# SIGINT arrives while a module of the program is being imported.
_INTERRUPTED = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["cognomen", "fetch", "--help"]
signal.signal(signal.SIGINT, {handler})
from cognomen.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["cognomen.cli.main", "cognomen.cli.fetch"])
@pytest.mark.parametrize(
    ("handler", "code"),
    [("signal.default_int_handler", -signal.SIGINT), ("signal.SIG_IGN", 0)],
    ids=["heeded", "ignored"],
)
def test_who_interrupts_a_program_that_is_being_loaded_reads_no_traceback(handler: str, code: int, module: str) -> None:
    script = _INTERRUPTED.format(handler=handler, module=module)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_a_program_that_is_loaded_heeds_ctrl_c_as_usual() -> None:
    script = (
        "import signal, sys, cognomen.cli.main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cognomen.cli.main.main = lambda: sys.exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "from cognomen.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1, "sys.exit(True)"
