"""The user's own command, which runs after each change of what was fetched or exported, never twice at once."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from click.decorators import FC

from cognomen.cli.output import warn
from cognomen.cli.signals import signals_kept
from cognomen.process.ownpath import check_own_file
from cognomen.protocol.errors import Refused

__all__ = ["exec_option", "run_hook"]

_LONGEST_SECONDS = 60.0  # what is fetched in the meantime waits for it
_LOOK_SECONDS = 0.1
_LOOKS = int(_LONGEST_SECONDS / _LOOK_SECONDS)
_END_SECONDS = 2.0


def _command(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    """Split a command as a shell would, and check that the program exists."""
    try:
        command = tuple(shlex.split(text)) if text is not None else ()
    except ValueError as e:
        raise click.BadParameter(f"expected a command, found {text!r}: {str(e).lower()}") from e
    if text is not None and not command:
        raise click.BadParameter("expected a command, found nothing")
    if command:
        try:
            _check(command[0])
        except FileNotFoundError as e:
            raise click.BadParameter(f"expected a program that can be run, found {command[0]!r}") from e
    return command


def exec_option(help: str) -> Callable[[FC], FC]:  # noqa: A002 - click calls it so
    """The option that names the command.

    Args:
        help: when it runs, and what it is told.
    """
    return click.option("--exec", "command", callback=_command, metavar="COMMAND", help=help)


def run_hook(command: tuple[str, ...], told: Mapping[str, str], document: bytes = b"", *, of: str = "") -> bool:
    """Run the command, if there is one, and wait for its end; returns whether it succeeded. A failure is reported on standard error.

    Changes while it runs are noticed after it, and it runs once more. It has its own process group: if it takes too long or is
    interrupted, the processes that it started end with it.

    Args:
        told: what it finds in its environment, beside our own.
        document: what it finds on standard input.
        of: what a report begins with.
    """
    if not command:
        return True
    name = f"{of}: --exec {command[0]}" if of else f"--exec {command[0]}"
    try:
        _check(command[0])
        with _readable(document) as stdin:
            code = _run(command, os.environ | told, stdin)
    except subprocess.TimeoutExpired:
        warn(f"{name}: stopped, because it ran for more than {_LONGEST_SECONDS:g} s")
        return False
    except Refused as e:
        warn(f"{name}: not run: {e.detail}; {e.hint}")
        return False
    except OSError as e:
        warn(f"{name}: {(e.strerror or str(e)).lower()}")
        return False
    if code:
        warn(f"{name}: expected exit code 0, found {code}")
    return code == 0


@contextlib.contextmanager
def _readable(document: bytes) -> Iterator[int]:
    """A file in memory: unlike a pipe, it makes nobody wait, whether or not the command reads it."""
    descriptor = os.memfd_create("document", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(document)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _run(command: tuple[str, ...], environment: Mapping[str, str], stdin: int) -> int:
    """Run it to its end, or until a signal comes, or for too long; then end it, with what it started."""
    with signals_kept(even_default=True) as kept:
        child = subprocess.Popen(command, env=environment, stdin=stdin, process_group=0)  # noqa: S603 - the user's own
        for _ in range(_LOOKS):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(_LOOK_SECONDS)
            if kept:
                break
        _end(child)
    raise subprocess.TimeoutExpired(command, _LONGEST_SECONDS)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the child, and what it started."""
    os.killpg(child.pid, signal.SIGTERM)  # not reaped yet, so the group is still its own
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _check(program: str) -> None:
    """Refuse a program that somebody else could replace, because it runs with our rights.

    Raises:
        Refused: INVALID, with the command that helps.
        FileNotFoundError: there is no such program.
    """
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(program)
    check_own_file(Path(found))
