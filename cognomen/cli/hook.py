"""The user's own command, which runs after each change of what was fetched, never twice at once."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import click

from cognomen.cli.output import warn
from cognomen.process.ownpath import check_own_file
from cognomen.protocol.errors import Refused

__all__ = ["Identity", "exec_option", "run_hook"]

Identity = Literal["issued", "denied"]

_LONGEST_SECONDS = 60.0  # what is fetched in the meantime waits for it
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


exec_option = click.option(
    "--exec",
    "command",
    callback=_command,
    metavar="COMMAND",
    help="Run this after each change, without a shell, for a minute at most. COGNOMEN_DIRECTORY is the directory of --write,"
    " COGNOMEN_IDENTITY is issued or denied.",
)


def run_hook(command: tuple[str, ...], directory: Path | None, identity: Identity = "issued") -> bool:
    """Run the command, if there is one, and wait for its end; returns whether it succeeded. A failure is reported on standard error.

    Changes while it runs are fetched and written, and the command runs once more after it. It has its own process group: if it takes too
    long or is interrupted, the processes that it started end with it.
    """
    if not command:
        return True
    environment = os.environ | {"COGNOMEN_IDENTITY": identity}
    if directory is not None:
        environment["COGNOMEN_DIRECTORY"] = str(directory.absolute())
    try:
        _check(command[0])
        code = _run(command, environment)
    except subprocess.TimeoutExpired:
        warn(f"--exec {command[0]}: stopped, because it ran for more than {_LONGEST_SECONDS:g} s")
        return False
    except Refused as e:
        warn(f"--exec {command[0]}: not run: {e.detail}; {e.hint}")
        return False
    except OSError as e:
        warn(f"--exec {command[0]}: {(e.strerror or str(e)).lower()}")
        return False
    if code:
        warn(f"--exec {command[0]}: expected exit code 0, found {code}")
    return code == 0


def _run(command: tuple[str, ...], environment: dict[str, str]) -> int:
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603 - the user's own

    with ThreadPoolExecutor(
        1
    ) as thread:  # no signal can end that thread between the fork and the moment when we know the child
        starting = thread.submit(start)
        try:
            return starting.result().wait(_LONGEST_SECONDS)
        finally:
            child = starting.result()
            if child.returncode is None:  # it ran too long, or somebody stops us
                _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_END_SECONDS)
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
