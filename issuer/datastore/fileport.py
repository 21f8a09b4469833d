"""What backup and recovery ask of a datastore that is one file in a state directory. Its transactions are in port.

issuer/backup decides how a backup is packed, and issuer/flows/restore_store what a restored store begins with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from issuer.datastore.port import Datastore

__all__ = ["Contents", "DatabaseFile", "Progress"]

Progress = Callable[[int, int], None]
"""Called with how many pages of the database have been copied, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database contains.

    Args:
        keys: by the name of each authority's key, whether nothing could be signed without it.
        size: how long its file must be, in bytes.
    """

    trust_domain: str
    incarnation: str
    change: int
    keys: Mapping[str, bool]
    size: int


class DatabaseFile(Protocol):
    """A datastore that is one file, named by its path, whether or not it exists."""

    async def open(self) -> Datastore:
        """Open or create it, without what only a running issuer needs beside it.

        Raises:
            Refused: as the adapter does when it opens.
        """

    def snapshot(self, copy: Path, *, progress: Progress) -> Contents:
        """Copy its content at one moment into an empty file, and read the whole copy; an issuer that writes meanwhile need not wait.

        Raises:
            Refused: INVALID when it is damaged; UNAVAILABLE when it cannot be read, or the copy cannot be written.
            OSError: the same, as the system reports it.
        """

    def contents(self) -> Contents:
        """Read the whole file, while nobody uses it, and return what it contains; this ignores any files beside it.

        Raises:
            Refused: INVALID when it is damaged, or not one of ours; UNAVAILABLE when it cannot be read.
            OSError: the same, as the system reports it.
        """

    def has_log(self) -> bool:
        """Whether something that was acknowledged is stored beside the file, and not in it."""
