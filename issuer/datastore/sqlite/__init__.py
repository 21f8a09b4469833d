"""The default datastore: one SQLite file, or memory.

Its parts are store (the port), snapshot (the file, for backups), worker (threads), schema, and the tables.
"""

from issuer.datastore.sqlite.snapshot import SQLiteFile
from issuer.datastore.sqlite.store import SQLiteDatastore

__all__ = ["SQLiteDatastore", "SQLiteFile"]
