"""The default datastore: one SQLite file, or memory. Its parts: store (the port), worker (threads), schema, and the tables."""

from issuer.datastore.sqlite.store import SQLiteDatastore

__all__ = ["SQLiteDatastore"]
