"""cognomen/cli/hook: what a command started ends with it, whenever the signal comes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.rig.child import Child
from tests.doubles.project import ROOT

_PROGRAM = (
    "import sys\n"
    "from cognomen.cli.hook import run_hook\n"
    "from cognomen.cli.signals import heed_signals\n"
    "heed_signals()\n"
    "run_hook(('/bin/sh', sys.argv[1]), {})\n"
)
_HEEDLESS = (
    "import resource, signal, sys\n"
    "from cognomen.cli.hook import run_hook\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "signal.signal(int(sys.argv[2]), signal.SIG_DFL)\n"
    "run_hook(('/bin/sh', sys.argv[1]), {})\n"
    "print('it went on')\n"
)
_TIMES = 25  # in one of forty, the moment was wrong


def test_whenever_it_is_stopped_nothing_goes_on(tmp_path: Path) -> None:
    """The output of both is one pipe: it ends when the last of them has ended."""
    hook, told = tmp_path / "hook", tmp_path / "told"
    hook.write_text(f"sleep 1000 & echo begun > {told}; wait")
    for _ in range(_TIMES):
        told.unlink(missing_ok=True)
        with Child([sys.executable, "-c", _PROGRAM, str(hook)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            while not told.exists():
                assert child.poll() is None
            child.terminate()
            assert child.communicate(timeout=60)[0] == ""
            assert child.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_command_that_heeds_no_signal_leaves_nothing_behind_either(number: signal.Signals, tmp_path: Path) -> None:
    """The signal then ends the command as if it had not been kept."""
    hook, told = tmp_path / "hook", tmp_path / "told"
    hook.write_text(f"sleep 1000 & echo begun > {told}; wait")
    arguments = [sys.executable, "-c", _HEEDLESS, str(hook), str(int(number))]
    with Child(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        while not told.exists():
            assert child.poll() is None
        child.send_signal(number)
        assert child.communicate(timeout=60)[0] == ""
        assert child.returncode == -number
