"""The tables of one connection, as the transaction that flows see; worker begins and ends it."""

from sqlite_utils import Database

from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.crls import SQLiteCRLs
from issuer.datastore.sqlite.entries import SQLiteEntries
from issuer.datastore.sqlite.exports import SQLiteExports
from issuer.datastore.sqlite.ids import SQLiteIds
from issuer.datastore.sqlite.limits import SQLiteIssuanceLimits
from issuer.datastore.sqlite.observed import SQLiteObservations
from issuer.datastore.sqlite.records import SQLiteAudit, SQLiteChanges, SQLiteCheckpoints, SQLiteLedger
from issuer.datastore.sqlite.revocations import SQLiteDenials, SQLiteRevocations
from issuer.datastore.sqlite.rulebooks import SQLiteHeldAgents, SQLiteRulebooks
from issuer.datastore.sqlite.supersessions import SQLiteSupersessions
from issuer.datastore.sqlite.tables import SQLiteAuthorities, SQLiteBundles, SQLiteNodes, SQLiteTimes, SQLiteTokens
from issuer.datastore.sqlite.uses import SQLiteUses
from issuer.datastore.transaction import TableTransaction

__all__ = ["transaction_over"]


def transaction_over(database: Database) -> Transaction:
    """The tables, seen through one connection; this serves one transaction after another."""
    return TableTransaction(
        entries=SQLiteEntries(database),
        nodes=SQLiteNodes(database),
        tokens=SQLiteTokens(database),
        bundles=SQLiteBundles(database),
        authorities=SQLiteAuthorities(database),
        exports=SQLiteExports(database),
        rulebooks=SQLiteRulebooks(database),
        agents=SQLiteHeldAgents(database),
        limits=SQLiteIssuanceLimits(database),
        ledger=SQLiteLedger(database),
        revocations=SQLiteRevocations(database),
        denials=SQLiteDenials(database),
        supersessions=SQLiteSupersessions(database),
        crls=SQLiteCRLs(database),
        uses=SQLiteUses(database),
        observations=SQLiteObservations(database),
        changes=SQLiteChanges(database),
        times=SQLiteTimes(database),
        checkpoints=SQLiteCheckpoints(database),
        audit=SQLiteAudit(database),
        ids=SQLiteIds(database),
    )
