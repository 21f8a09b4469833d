"""Temporary files beside a backup. Their maker locks them, so that leftovers of a killed process can be recognized."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cognomen.process.filehold import hold

__all__ = ["Scratch", "scratch_file", "sweep_scratch"]

_PREFIX = ".cognomen-backup."
_NAME = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{16}\.(db|tar)")
_COMPANIONS = ("-journal", "-shm", "-wal")  # what a database may have created beside its file


class Scratch:
    """One file: the open file, and its name, which others may have given to another file by now."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file

    def is_named(self) -> bool:
        """Whether the name still means this file."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.file.fileno()))


@contextlib.contextmanager
def scratch_file(directory: Path, suffix: str) -> Iterator[Scratch]:
    """An empty file of ours with mode 0600, until the block ends.

    Raises:
        OSError: on a system error.
    """
    path = directory / f"{_PREFIX}{secrets.token_hex(8)}.{suffix}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        try:
            hold(descriptor)
            yield Scratch(path, file)
        finally:
            _remove(path)


def sweep_scratch(directory: Path) -> None:
    """Remove what killed processes left there: copies of databases, and keys.

    Raises:
        OSError: on a system error.
    """
    for path in directory.glob(f"{_PREFIX}*"):
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # its maker has removed it in the meantime
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    if path.lstat().st_uid != os.geteuid():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if hold(descriptor):
            _remove(path)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    for companion in _COMPANIONS:
        with contextlib.suppress(OSError):  # it does not exist, or somebody else put it there
            path.with_name(f"{path.name}{companion}").unlink()
    path.unlink(missing_ok=True)  # remove the file last: as long as it exists, the next sweep finds it again
