"""The tables of the first release, which are migration 0001. They never change: migrations says how later releases changed them."""

__all__ = ["FIRST_TABLES"]

FIRST_TABLES = (
    """
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        incarnation TEXT NOT NULL,
        change_number INTEGER NOT NULL,
        bundle_sequence INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE entry (
        id TEXT PRIMARY KEY NOT NULL,
        spiffe_id TEXT NOT NULL,
        parent_id TEXT NOT NULL,
        selectors TEXT NOT NULL,
        x509_svid_ttl INTEGER,
        jwt_svid_ttl INTEGER,
        expires_at INTEGER,
        dns_names TEXT NOT NULL,
        revision INTEGER NOT NULL,
        hint TEXT NOT NULL,
        created_at INTEGER,
        owner TEXT NOT NULL,
        labels TEXT NOT NULL,
        fingerprint BLOB NOT NULL UNIQUE
    ) STRICT
    """,
    "CREATE INDEX entry_by_parent ON entry (parent_id, id)",
    "CREATE INDEX entry_by_spiffe_id ON entry (spiffe_id, id)",
    """
    CREATE TABLE entry_selector (
        selector TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        PRIMARY KEY (selector, entry_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE node (
        id TEXT PRIMARY KEY NOT NULL,
        spiffe_id TEXT NOT NULL UNIQUE,
        attestor TEXT NOT NULL,
        selectors TEXT NOT NULL,
        attested_at INTEGER NOT NULL,
        svid_not_after INTEGER NOT NULL,
        state TEXT NOT NULL,
        current_serial TEXT NOT NULL,
        pending_serial TEXT NOT NULL,
        acknowledged INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE token (
        hash TEXT PRIMARY KEY NOT NULL,
        node_id TEXT NOT NULL UNIQUE,
        labels TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        key_hash TEXT NOT NULL,
        used_at INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE authority (
        number INTEGER PRIMARY KEY,
        key_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        public_key BLOB NOT NULL,
        certificate BLOB NOT NULL,
        not_before INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        published_at INTEGER,
        activated_at INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE credential (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        serial TEXT NOT NULL UNIQUE,
        spiffe_id TEXT NOT NULL,
        entry_id TEXT,
        entry_revision INTEGER NOT NULL,
        node_id TEXT,
        key_hash TEXT,
        authority_id TEXT NOT NULL,
        audiences TEXT NOT NULL,
        issued_at INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX credential_by_key ON credential (key_hash) WHERE key_hash IS NOT NULL",
    "CREATE INDEX credential_by_spiffe_id ON credential (spiffe_id)",
    "CREATE INDEX credential_by_entry ON credential (entry_id) WHERE entry_id IS NOT NULL",
    "CREATE INDEX credential_by_node ON credential (node_id) WHERE node_id IS NOT NULL",
    """
    CREATE TABLE change (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        parents TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT
    """,
)
