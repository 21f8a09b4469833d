"""One transaction over one connection, as the bundle of small ports that flows see; where it begins and ends: worker."""

from sqlite_utils import Database

from issuer.datastore.port import (
    Audit,
    Authorities,
    Bundles,
    Changes,
    Checkpoints,
    Entries,
    Ledger,
    Nodes,
    Times,
    Tokens,
)
from issuer.datastore.revocationport import CRLs, Denials, Revocations, Supersessions
from issuer.datastore.sqlite.crls import SQLiteCRLs
from issuer.datastore.sqlite.entries import SQLiteEntries
from issuer.datastore.sqlite.records import SQLiteAudit, SQLiteChanges, SQLiteCheckpoints, SQLiteLedger
from issuer.datastore.sqlite.revocations import SQLiteDenials, SQLiteRevocations
from issuer.datastore.sqlite.supersessions import SQLiteSupersessions
from issuer.datastore.sqlite.tables import SQLiteAuthorities, SQLiteBundles, SQLiteNodes, SQLiteTimes, SQLiteTokens

__all__ = ["SQLiteTransaction"]


class SQLiteTransaction:
    """The tables, seen through one connection; it holds no state of its own and serves one transaction after another."""

    def __init__(self, database: Database) -> None:
        self.entries: Entries = SQLiteEntries(database)
        self.nodes: Nodes = SQLiteNodes(database)
        self.tokens: Tokens = SQLiteTokens(database)
        self.bundles: Bundles = SQLiteBundles(database)
        self.authorities: Authorities = SQLiteAuthorities(database)
        self.ledger: Ledger = SQLiteLedger(database)
        self.revocations: Revocations = SQLiteRevocations(database)
        self.denials: Denials = SQLiteDenials(database)
        self.supersessions: Supersessions = SQLiteSupersessions(database)
        self.crls: CRLs = SQLiteCRLs(database)
        self.changes: Changes = SQLiteChanges(database)
        self.times: Times = SQLiteTimes(database)
        self.checkpoints: Checkpoints = SQLiteCheckpoints(database)
        self.audit: Audit = SQLiteAudit(database)
