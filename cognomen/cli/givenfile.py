"""A file that the operator names, to be replaced as a whole."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cognomen.process.ownpath import own_directory, sync
from cognomen.process.wholefile import check_replaceable, replace_file
from cognomen.protocol.errors import FileRefused, Kind

__all__ = ["beside", "write_given"]


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
