"""What `fetch` does with each thing that it fetched: write files, print lines, run the user's command, and retry what failed.

How files are replaced: fileset. How the command is run: hook. When there is something new: watching.
"""

import errno
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

from cognomen.cli.fileset import Hold, add_to_set, check_set, remove_set, write_set
from cognomen.cli.hook import run_hook
from cognomen.cli.output import warn
from cognomen.process.standardstreams import LostOutputError
from cognomen.protocol.errors import Refused
from cognomen.wire.admin import moment_to_text
from svid.backoff import Backoff
from svid.clock import Clock, SystemClock

__all__ = ["Files", "Keeper", "WhenDenied"]

Files = tuple[Mapping[str, bytes], Mapping[str, bytes]]
"""The private files and the public files, by name."""

_MARK = "denied"
_HOOK_FAILED = 1
_MOST_NAMES = 5
_LATE = timedelta(seconds=30)  # a delay on a busy machine is not worth a warning
_AGAIN = Backoff(maximum=timedelta(seconds=2))
_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class WhenDenied(StrEnum):
    """What happens to the files of an identity that was taken away."""

    MARK = "mark"
    REMOVE = "remove"


class Keeper:
    """Writes each set of fetched files, and runs the command after each. With `watch`, nobody else writes the directory until `close`.

    Args:
        directory: where the files go; None: write none.
        command: what to run; empty: nothing.
        shared: others may write the directory.
        watch: whether to continue after a failure, and try again (`is_due`); otherwise it is raised.
    """

    def __init__(
        self,
        directory: Path | None,
        command: tuple[str, ...],
        *,
        watch: bool,
        shared: bool = False,
        when_denied: WhenDenied = WhenDenied.MARK,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._shared = shared
        self._command = command
        self._watch = watch
        self._hold = Hold() if watch else None
        self._when_denied = when_denied
        self._clock = clock or SystemClock()
        self._delays = _AGAIN.delays(_jitter)
        self._due_at: float | None = None
        self._has_written = False
        self._is_well = True
        self._is_denied = False
        self._is_silent = False
        self._until: datetime | None = None

    def check(self) -> None:
        """Check that the files can be written, before we ask anybody for their contents; with `watch`, ignore a fault that may pass.

        Raises:
            Refused: they cannot be written.
        """
        try:
            if self._directory is not None:
                check_set(self._directory, shared=self._shared, hold=self._hold)
        except Refused as e:
            if not (self._watch and _may_pass(e)):
                raise

    def close(self) -> None:
        """Let others write the directory."""
        if self._hold is not None:
            self._hold.close()

    def code(self) -> int:
        """The exit code, which depends on how the last run of the command ended."""
        return 0 if self._is_well else _HOOK_FAILED

    def is_due(self) -> bool:
        """Whether it is time to try again what could not be written."""
        return self._due_at is not None and self._clock.monotonic() >= self._due_at

    def keep(self, files: Files, show: Callable[[], None], *, until: datetime | None = None) -> None:
        """Write the files, show what they are, and run the command; while the files cannot be written, the old ones stay.

        Args:
            until: when what was fetched expires; None: never.
        """
        self._is_denied, self._until = False, until

        def write(directory: Path) -> None:
            gone = write_set(directory, *files, shared=self._shared, hold=self._hold)
            if not self._has_written:  # later sets replace our own
                _tell_gone(directory, [name for name in gone if name != _MARK])

        if self._write(write):
            self._show(show)
            self._run("issued")

    def look(self) -> None:
        """Warn once that what was fetched last has expired, and nothing newer came."""
        if self._until is not None and not self._is_denied and self._clock.now() >= self._until + _LATE:
            warn(f"the SVID expired at {moment_to_text(self._until)}, and no newer one came; waiting for it")
            self._until = None

    def deny(self, why: str, files: Files | None = None) -> None:
        """Mark the files of an identity that was taken away, or remove them, as --when-denied says, and run the command once.

        The command runs also if the mark cannot be written, which is tried again. Files are removed first: that needs no space.

        Args:
            why: the text of the mark.
            files: what to write beside the mark; None: keep what is there.
        """
        if self._is_denied and files is None and self._due_at is None:
            return
        mark = {_MARK: f"{moment_to_text(self._clock.now())} {why}\n".encode()}

        def write(directory: Path) -> None:
            if self._when_denied is WhenDenied.REMOVE:
                remove_set(directory, shared=self._shared, hold=self._hold)
                write_set(directory, {}, mark, shared=self._shared, hold=self._hold)
            elif files is None:
                add_to_set(directory, _MARK, mark[_MARK], shared=self._shared, hold=self._hold)
            else:
                write_set(directory, files[0], {**files[1], **mark}, shared=self._shared, hold=self._hold)

        only_the_mark = self._is_denied and files is None
        self._write(write)
        if not only_the_mark:
            self._is_denied = True
            self._run("denied")

    def _write(self, write: Callable[[Path], None]) -> bool:
        """Write the files; returns whether that worked. A failure is reported once for as long as it lasts."""
        try:
            if self._directory is not None:
                write(self._directory)
        except Refused as e:
            if not self._watch or not (self._has_written or _may_pass(e)):
                raise
            if self._due_at is None:
                warn(f"{e.detail}; trying again")
            self._due_at = self._clock.monotonic() + next(self._delays).total_seconds()
            return False
        if self._due_at is not None:
            self._due_at, self._delays = None, _AGAIN.delays(_jitter)
        self._has_written = True
        return True

    def _show(self, show: Callable[[], None]) -> None:
        """Show it; if we also write files or run a command, a standard output that fails does not stop us."""
        if self._is_silent:
            return
        try:
            show()
        except LostOutputError as e:
            if not self._watch or not (self._directory or self._command):
                raise
            self._is_silent = True
            warn(f"{e}; continuing without it")

    def _run(self, identity: Literal["issued", "denied"]) -> None:
        told: dict[str, str] = {"COGNOMEN_IDENTITY": identity}
        if self._directory is not None:
            told["COGNOMEN_DIRECTORY"] = str(self._directory.absolute())
        self._is_well = run_hook(self._command, told)


def _tell_gone(directory: Path, names: list[str]) -> None:
    """Warn that files are gone that an earlier command wrote."""
    if not names:
        return
    shown, more = ", ".join(names[:_MOST_NAMES]), len(names) - _MOST_NAMES
    warn(
        f"directory {directory}: removed {shown}{f' and {more} more' if more > 0 else ''}, which an earlier fetch wrote and this"
        " one does not; give each command a directory of its own, or give one fetch jwt several --token"
    )


def _may_pass(refused: Refused) -> bool:
    """Whether a failure to write may pass, so that waiting helps even before the first write; a wrong path will not."""
    return isinstance(refused.__cause__, OSError) and refused.__cause__.errno in _MAY_PASS


def _jitter() -> float:
    return secrets.randbelow(1000) / 1000
