"""How each release changed the tables of the one before, as numbered migrations. A released migration never changes; new ones only add.

Times are microseconds since 1970, UTC; lists and maps are JSON.
"""

import secrets
from collections.abc import Callable, Sequence

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.sqlite.firsttables import FIRST_TABLES

__all__ = ["migrate"]

_SECOND = (
    "ALTER TABLE meta ADD COLUMN clock_mark INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE node ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE authority ADD COLUMN activate_at INTEGER",
    "ALTER TABLE authority ADD COLUMN published_change INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE authority ADD COLUMN last_not_after INTEGER",
    "ALTER TABLE authority ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0",
    # Lifetimes are back-dated by 30 s; a published authority should sign after 3/7 of its own lifetime.
    """
    UPDATE authority SET activate_at = published_at + (not_after - not_before - 30000000) / 7 * 3 WHERE state = 'next'
    """,
    """
    UPDATE authority SET last_not_after =
        (SELECT max(not_after) FROM credential WHERE authority_id = key_id AND kind <> 'authority')
    """,
    # As before, except for node_id: a node that comes back with a new invite has several tokens.
    "ALTER TABLE token RENAME TO token_0001",
    """
    CREATE TABLE token (
        hash TEXT PRIMARY KEY NOT NULL,
        node_id TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        key_hash TEXT NOT NULL,
        used_at INTEGER
    ) STRICT
    """,
    (
        "INSERT INTO token (hash, node_id, labels, created_at, expires_at, key_hash, used_at)"
        " SELECT hash, node_id, labels, created_at, expires_at, key_hash, used_at FROM token_0001"
    ),
    "DROP TABLE token_0001",
    """
    CREATE TABLE checkpoint (
        number INTEGER PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT
    """,
)

_THIRD = (
    "ALTER TABLE node ADD COLUMN current_since INTEGER",
    "ALTER TABLE node ADD COLUMN replaced TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE authority ADD COLUMN tainted_at INTEGER",
    "ALTER TABLE authority ADD COLUMN tainted_change INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE authority ADD COLUMN retired_at INTEGER",
    # 0 in the ledger: not revoked. Rows before live_from had expired at live_at, except those of authorities; so had rows before
    # short_from with a lifetime of at most two hours; no row before open_from could be denied any more.
    "ALTER TABLE credential ADD COLUMN revocation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meta ADD COLUMN live_from INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meta ADD COLUMN live_at INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meta ADD COLUMN short_from INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX credential_long ON credential (not_after) WHERE not_after - issued_at > 7200000000",
    "CREATE INDEX credential_revoked ON credential (number) WHERE revocation > 0",
    "CREATE INDEX credential_of_authorities ON credential (number) WHERE kind = 'authority'",
    # NULL: this store did not come from a backup.
    "ALTER TABLE meta ADD COLUMN restored_at INTEGER",
    "ALTER TABLE meta ADD COLUMN backup_of INTEGER",
    "ALTER TABLE meta ADD COLUMN open_from INTEGER NOT NULL DEFAULT 0",
    # A new random text after each change of what is blocked.
    "ALTER TABLE meta ADD COLUMN blocks TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE revocation (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        target TEXT NOT NULL,
        reason TEXT NOT NULL,
        comment TEXT NOT NULL,
        actor TEXT NOT NULL,
        at INTEGER NOT NULL,
        denied INTEGER NOT NULL,
        over INTEGER NOT NULL,
        compromised INTEGER NOT NULL,
        change INTEGER NOT NULL,
        lifted_at INTEGER,
        lifted_by TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE INDEX revocation_standing ON revocation (number)
        WHERE lifted_at IS NULL AND kind IN ('entry', 'spiffe-id', 'selector')
    """,
    # is_compromised: learned after it was denied; determines the reason on lists.
    """
    CREATE TABLE denial (
        serial TEXT PRIMARY KEY NOT NULL,
        authority_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        revocation INTEGER NOT NULL,
        denied_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        is_listed INTEGER NOT NULL,
        is_compromised INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX denial_by_revocation ON denial (revocation, ends_at)",
    "CREATE INDEX denial_by_end ON denial (kind, ends_at)",
    "CREATE INDEX denial_listed ON denial (authority_id, ends_at) WHERE is_listed = 1",
    # up_to: the last ledger row that it applies to; beyond: NULL: no matter when the row expires.
    """
    CREATE TABLE supersession (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        entry_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        up_to INTEGER NOT NULL,
        beyond INTEGER,
        actor TEXT NOT NULL,
        at INTEGER NOT NULL,
        due_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX supersession_by_holder ON supersession (entry_id, node_id)",
    # number: the last that was used; this_update, der: of the last list that was finished, NULL and empty before the first.
    """
    CREATE TABLE crl (
        authority_id TEXT PRIMARY KEY NOT NULL,
        number INTEGER NOT NULL,
        this_update INTEGER,
        der BLOB NOT NULL
    ) STRICT
    """,
)

_FOURTH = (
    # DER back to back; empty: the authority is a root itself.
    "ALTER TABLE authority ADD COLUMN above BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE authority ADD COLUMN roots BLOB NOT NULL DEFAULT x''",
)

_FIFTH = (
    # Which rows of the chain record changes of an entry. Rows that nobody can read are left to the check of the chain.
    """
    CREATE TABLE entry_change (
        entry_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (entry_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO entry_change (entry_id, number)
        SELECT json_extract(event, '$.facts.entry'), number
        FROM (SELECT number, CAST(body AS TEXT) AS event FROM audit)
        WHERE json_valid(event)
            AND json_extract(event, '$.action') IN ('entry created', 'entry updated', 'entry deleted')
            AND json_type(event, '$.facts.entry') = 'text'
    """,
)

_SIXTH = (
    # Empty: none yet, as for a node that an earlier release wrote.
    "ALTER TABLE node ADD COLUMN name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE node ADD COLUMN address TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE node ADD COLUMN seen_at INTEGER",
    # A short id; the whole id where two nodes would have the same; none where even that is too long to tell them apart.
    "UPDATE node SET name = substr(id, 1, 8)",
    """
    UPDATE node SET name = substr(id, 1, 253)
        WHERE lower(name) IN (SELECT lower(name) FROM node GROUP BY lower(name) HAVING count(*) > 1)
            OR lower(name) IN (SELECT lower(id) FROM node)
    """,
    "UPDATE node SET name = '' WHERE lower(name) IN (SELECT lower(name) FROM node GROUP BY lower(name) HAVING count(*) > 1)",
    "CREATE UNIQUE INDEX node_by_name ON node (name COLLATE NOCASE) WHERE name <> ''",
)

_SEVENTH = ("ALTER TABLE entry ADD COLUMN is_default INTEGER NOT NULL DEFAULT 0",)

_EIGHTH = (
    # What nodes report: which process was given SVIDs of an entry. pid 0: several, counted together. program: 63 bits of the SHA-256 of the
    # executable, which keep it out of the index. size: bytes that the row counts for.
    """
    CREATE TABLE entry_use (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        entry_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        uid INTEGER NOT NULL,
        account INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        started INTEGER NOT NULL,
        executable TEXT NOT NULL,
        program INTEGER NOT NULL,
        size INTEGER NOT NULL,
        processes INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        x509 INTEGER NOT NULL,
        jwt INTEGER NOT NULL,
        UNIQUE (entry_id, node_id, uid, gid, pid, started, program)
    ) STRICT
    """,
    "CREATE INDEX entry_use_by_node ON entry_use (node_id, size)",
    "CREATE INDEX entry_use_by_end ON entry_use (last_at)",
    """
    CREATE TABLE entry_last_use (
        entry_id TEXT PRIMARY KEY NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX entry_last_use_by_time ON entry_last_use (at)",
    "CREATE INDEX credential_by_holder ON credential (entry_id, node_id, not_after) WHERE entry_id IS NOT NULL",
    "ALTER TABLE meta ADD COLUMN uses_since INTEGER NOT NULL DEFAULT 0",
    "UPDATE meta SET uses_since = unixepoch() * 1000000",
)

_NINTH = (
    # Which SPIFFE IDs an entry ever had, so that one that is gone is found by them.
    """
    CREATE TABLE entry_spiffe_id (
        spiffe_id TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        PRIMARY KEY (spiffe_id, entry_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT OR IGNORE INTO entry_spiffe_id (spiffe_id, entry_id)
        SELECT json_extract(event, '$.subject'), entry_id
        FROM (
            SELECT entry_id, CAST(body AS TEXT) AS event
            FROM entry_change CROSS JOIN audit ON audit.number = entry_change.number
        )
        WHERE json_valid(event) AND json_type(event, '$.subject') = 'text'
    """,
)

_TENTH = (
    # The time of which the attestor reported every use. Both NULL: it reports none; uses_until NULL: it ended after its last report.
    "ALTER TABLE node ADD COLUMN uses_since INTEGER",
    "ALTER TABLE node ADD COLUMN uses_until INTEGER",
)

_ELEVENTH = (
    # Copies of the bundle that relying parties have; key_ids: JSON. digest: of the copy and of where it went; empty: not known.
    """
    CREATE TABLE bundle_export (
        name TEXT PRIMARY KEY NOT NULL,
        format TEXT NOT NULL,
        key_ids TEXT NOT NULL,
        digest TEXT NOT NULL,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        login TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_TWELFTH = (
    # What JWT-SVIDs of the entry may be for: JSON; NULL: anybody, as in the release before.
    "ALTER TABLE entry ADD COLUMN audiences TEXT",
    # Every rulebook that was applied; files: compressed JSON, contents by name.
    """
    CREATE TABLE rulebook (
        revision INTEGER PRIMARY KEY NOT NULL,
        files BLOB NOT NULL,
        digest TEXT NOT NULL,
        components INTEGER NOT NULL,
        actor TEXT NOT NULL,
        login TEXT NOT NULL,
        comment TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT
    """,
    # Names that no agent may have any more; revision: of the rulebook that retired it.
    """
    CREATE TABLE retired_agent (
        name TEXT PRIMARY KEY NOT NULL,
        owner TEXT NOT NULL,
        revision INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # Agents that an operator suspended, until one resumes them.
    """
    CREATE TABLE held_agent (
        name TEXT PRIMARY KEY NOT NULL,
        actor TEXT NOT NULL,
        login TEXT NOT NULL,
        comment TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_THIRTEENTH = (
    # Who may call the identity of the entry: JSON; NULL: not declared, as in the release before.
    "ALTER TABLE entry ADD COLUMN callers TEXT",
)

_FOURTEENTH = (
    # Whether nothing is issued for the entry, and what would have been is noted; since when, in a table of its own.
    "ALTER TABLE entry ADD COLUMN observe INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE observed_entry (
        entry_id TEXT PRIMARY KEY NOT NULL,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # As entry_use, of what would have been; audience: for which it would have been refused; empty: it would have been given.
    """
    CREATE TABLE observed_use (
        number INTEGER PRIMARY KEY NOT NULL,
        entry_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        uid INTEGER NOT NULL,
        account INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        started INTEGER NOT NULL,
        program INTEGER NOT NULL,
        audience TEXT NOT NULL,
        size INTEGER NOT NULL,
        executable TEXT NOT NULL,
        processes INTEGER NOT NULL,
        times INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        x509 INTEGER NOT NULL,
        jwt INTEGER NOT NULL,
        UNIQUE (entry_id, audience, node_id, uid, gid, pid, started, program)
    ) STRICT
    """,
    "CREATE INDEX observed_use_by_node ON observed_use (node_id, size)",
    "CREATE INDEX observed_use_by_end ON observed_use (last_at)",
)

_FIFTEENTH = (
    # Limits on issuance of the rulebook with that revision; those of another one are not in force. rule: JSON.
    """
    CREATE TABLE issuance_limit (
        path TEXT PRIMARY KEY NOT NULL,
        revision INTEGER NOT NULL,
        rule TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_SIXTEENTH = (
    # Who retired an agent: empty: the rulebook did.
    "ALTER TABLE retired_agent ADD COLUMN actor TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE retired_agent ADD COLUMN login TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE retired_agent ADD COLUMN comment TEXT NOT NULL DEFAULT ''",
    # The review that was due, as an ISO date, if the issuer suspended the agent for that; NULL: an operator suspended it.
    "ALTER TABLE held_agent ADD COLUMN review_by TEXT",
    # Agents that an operator resumed although the review of that date is overdue.
    """
    CREATE TABLE excused_agent (
        name TEXT PRIMARY KEY NOT NULL,
        review_by TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # The revision of the rulebook in force, of what was signed for its entries; 0: other entries, and earlier releases.
    "ALTER TABLE credential ADD COLUMN rulebook INTEGER NOT NULL DEFAULT 0",
)

_LATER = {
    "0002": _SECOND,
    "0003": _THIRD,
    "0004": _FOURTH,
    "0005": _FIFTH,
    "0006": _SIXTH,
    "0007": _SEVENTH,
    "0008": _EIGHTH,
    "0009": _NINTH,
    "0010": _TENTH,
    "0011": _ELEVENTH,
    "0012": _TWELFTH,
    "0013": _THIRTEENTH,
    "0014": _FOURTEENTH,
    "0015": _FIFTEENTH,
    "0016": _SIXTEENTH,
}


def migrate(database: Database) -> None:
    """Bring the schema up to date.

    Raises:
        Refused: CONFLICT when a later release wrote this file.
    """
    ours = _all()
    unknown = sorted({migration.name for migration in ours.applied(database)} - {"0001", *_LATER})
    if unknown:
        raise Refused(
            Kind.CONFLICT,
            f"datastore: expected the schema of this release, found that of a later one ({', '.join(unknown)})",
            hint="run the release that wrote it, or restore an earlier backup",
        )
    ours.apply(database)


def _all() -> Migrations:
    found = Migrations("issuer")
    found(name="0001")(_first)
    for name, statements in _LATER.items():
        found(name=name)(_executing(statements))
    return found


def _first(database: Database) -> None:
    _executing(FIRST_TABLES)(database)
    database.execute(
        "INSERT INTO meta (id, incarnation, change_number, bundle_sequence) VALUES (1, ?, 0, 0)",
        [secrets.token_hex(16)],
    )


def _executing(statements: Sequence[str]) -> Callable[[Database], None]:
    def execute(database: Database) -> None:
        for statement in statements:
            database.execute(statement)

    return execute
