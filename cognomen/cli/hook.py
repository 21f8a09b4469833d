"""A command of the user's own that is run after each change of what was fetched, never twice at once."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import click

from cognomen.cli.output import warn

__all__ = ["exec_option", "run_hook"]

_LONGEST_SECONDS = 60.0  # what is fetched meanwhile waits for it


def _command(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    """Take a command apart as a shell would, and see that there is such a program."""
    try:
        command = tuple(shlex.split(text)) if text is not None else ()
    except ValueError as e:
        raise click.BadParameter(f"expected a command, found {text!r}: {str(e).lower()}") from e
    if text is not None and not command:
        raise click.BadParameter("expected a command, found nothing")
    if command and shutil.which(command[0]) is None:
        raise click.BadParameter(f"expected a program that can be run, found {command[0]!r}")
    return command


exec_option = click.option(
    "--exec",
    "command",
    callback=_command,
    metavar="COMMAND",
    help="Run this after each change, without a shell; COGNOMEN_DIRECTORY is what --write names. At most a minute.",
)


def run_hook(command: tuple[str, ...], directory: Path | None) -> bool:
    """Run the command, if there is one, and wait for its end; whether all is well. A failure is told on standard error.

    What changes while it runs is fetched, written and told by one more run after it.
    """
    if not command:
        return True
    environment = os.environ | ({} if directory is None else {"COGNOMEN_DIRECTORY": str(directory.absolute())})
    try:
        code = subprocess.run(command, env=environment, timeout=_LONGEST_SECONDS, check=False).returncode  # noqa: S603 - the user's own
    except subprocess.TimeoutExpired:
        warn(f"--exec {command[0]}: expected its end within {_LONGEST_SECONDS:g} s, ended it")
        return False
    except OSError as e:
        warn(f"--exec {command[0]}: {(e.strerror or str(e)).lower()}")
        return False
    if code:
        warn(f"--exec {command[0]}: expected exit code 0, found {code}")
    return code == 0
