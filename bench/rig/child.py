"""Child processes of benches and tests. They end with the block that needs them, whatever happens in it."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import AnyStr

__all__ = ["Child", "end", "of_uid", "read_all", "running"]

END_SECONDS = 15


def end(child: "subprocess.Popen[AnyStr]") -> None:
    """Let it end, and kill it if it does not; nobody waits for ever."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


class Child(subprocess.Popen[AnyStr]):
    """A child whose `with` ends it instead of waiting for it for ever, as Popen's own does."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            end(self)
        finally:
            super().__exit__(kind, value, traceback)


def of_uid(uid: int, arguments: Sequence[str]) -> list[str]:
    """The command that runs as that uid, without other groups.

    A function between fork and exec does not work: gRPC's own fork handlers also run there, and end the child if they meet a thread.
    """
    if os.geteuid() == uid:
        return list(arguments)
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *arguments]


@contextmanager
def running(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program for as long as the block needs it; its output goes into the log."""
    with log.open("wb") as told:
        child = subprocess.Popen(
            arguments, env=environment, cwd="/", stdout=told, stderr=told, stdin=subprocess.DEVNULL
        )
    try:
        yield child
    finally:
        end(child)
        child.wait()


def read_all(master: int) -> bytes:
    """Read a terminal until its other end is closed; closes this end."""
    said = b""
    try:
        while chunk := os.read(master, 65_536):
            said += chunk
    except OSError:  # how Linux reports that the other end has closed
        pass
    os.close(master)
    return said
