"""Child processes of tests, which end with the block that needs them, whatever happens there."""

import os
import subprocess
from types import TracebackType
from typing import AnyStr

__all__ = ["Child", "end", "read_all"]

END_SECONDS = 15


def end(child: "subprocess.Popen[AnyStr]") -> None:
    """Let it end, and kill it when it does not; nobody waits for what cannot come."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


class Child(subprocess.Popen[AnyStr]):
    """A child whose `with` waits for it no longer than it takes to end it; Popen's own waits for ever."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            end(self)
        finally:
            super().__exit__(kind, value, traceback)


def read_all(master: int) -> bytes:
    """What comes from a terminal until its other end is closed; closes this one."""
    said = b""
    try:
        while chunk := os.read(master, 65_536):
            said += chunk
    except OSError:  # how Linux tells that the other end has closed
        pass
    os.close(master)
    return said
