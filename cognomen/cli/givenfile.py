"""A file that the operator names, to be replaced as a whole, or to be made as a whole."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cognomen.process.ownpath import own_directory, sync
from cognomen.process.wholefile import check_replaceable, new_file, put, replace_file
from cognomen.protocol.errors import FileRefused, Kind, Refused

__all__ = ["beside", "write_given", "write_new"]


@contextlib.contextmanager
def beside(path: Path) -> Iterator[int]:
    """The directory of a file that we may replace.

    Raises:
        FileRefused: UNAVAILABLE, also for what the system refuses in the block.
        Refused: somebody else may write the directory or one above.
    """
    try:
        with own_directory(path.absolute().parent, shared=True) as directory:
            check_replaceable(directory, path.name)
            yield directory
    except OSError as e:
        raise FileRefused(
            Kind.UNAVAILABLE,
            f"file {path}: {(e.strerror or str(e)).lower()}",
            hint="check the path, its permissions and the free space",
        ) from e


def write_given(path: Path, data: bytes, *, mode: int) -> None:
    """Replace a file completely and durably.

    Raises:
        FileRefused: it cannot be written; its old contents then stay.
        Refused: as `beside`.
    """
    with beside(path) as directory:
        replace_file(directory, path.name, data, mode=mode)
        sync(directory)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Make a file completely and durably; one that exists stays as it is.

    Raises:
        FileRefused: it cannot be written.
        Refused: EXISTS, if there is one; otherwise as `beside`.
    """
    with beside(path) as directory, new_file(directory, path.name) as (descriptor, temporary):
        put(descriptor, data, mode=mode)
        try:
            os.link(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError as e:
            raise Refused(Kind.EXISTS, f"file {path}: already exists", hint="name another file, or remove it") from e
        sync(directory)
