"""Choose the datastore: the only place that names its adapters.

config defines the configuration keys; parts opens everything else.
"""

from collections.abc import Sequence
from pathlib import Path

from issuer.datastore.fileport import DatabaseFile
from issuer.datastore.port import Datastore
from issuer.datastore.sqlite import SQLiteDatastore, SQLiteFile

__all__ = ["database_file", "open_in_memory", "open_on_disk"]


def database_file(path: Path) -> DatabaseFile:
    """The database of a state directory, for backup and recovery."""
    return SQLiteFile(path)


async def open_in_memory() -> Datastore:
    """A store that ends with this process."""
    return await SQLiteDatastore.open(None)


async def open_on_disk(path: Path, *, reserve_bytes: int, beside: Sequence[Path]) -> Datastore:
    """Open or create the database of a state directory.

    Args:
        reserve_bytes: how much disk space to keep for works that are not expendable.
        beside: what belongs to the store and is beside it.

    Raises:
        Refused: as the adapter does.
    """
    return await SQLiteDatastore.open(path, reserve_bytes=reserve_bytes, beside=beside)
