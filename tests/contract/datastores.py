"""The datastores that the contract suites run over: another adapter is another row."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from issuer.datastore.fileport import DatabaseFile
from issuer.datastore.port import Datastore
from issuer.datastore.sqlite import SQLiteDatastore, SQLiteFile

__all__ = ["DATABASE_FILES", "DATASTORES", "Adapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A way to get a datastore.

    Args:
        open: open the one that belongs to this directory, or make it; by itself, whatever else is open.
        is_kept: what is in it outlives `close`, and is there when it is opened again.
    """

    name: str
    open: Callable[[Path], Awaitable[Datastore]]
    is_kept: bool


DATASTORES = (
    Adapter(
        name="SQLite file",
        open=lambda directory: SQLiteDatastore.open(directory / "state" / "issuer.db"),
        is_kept=True,
    ),
    Adapter(name="SQLite :memory:", open=lambda _: SQLiteDatastore.open(None), is_kept=False),
)

DATABASE_FILES: dict[str, Callable[[Path], DatabaseFile]] = {"SQLite": SQLiteFile}
"""Those that are one file, by its path."""
