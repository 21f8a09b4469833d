BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'issuer','0001','2026-11-28 21:45:27.099023+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'issuer','0002','2026-11-28 21:45:27.101488+00:00');
CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT
    ;
INSERT INTO "audit" VALUES(1,X'7B22616374696F6E223A22656E7472792063726561746564222C226163746F72223A227569643A30222C226174223A22323032362D30312D30315431323A30303A30302B30303A3030222C2263726564656E7469616C223A22222C226465636973696F6E223A22616C6C6F776564222C22656E7472795F7265766973696F6E223A302C226661637473223A7B7D2C22726561736F6E223A22222C227375626A656374223A226531227D',X'5C5E72B03A6960CAEF5FF96FF7A4B5BA8381CF2B2709003D273CE37DCE6E722A');
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
    , activate_at INTEGER, published_change INTEGER NOT NULL DEFAULT 0, last_not_after INTEGER, suspect INTEGER NOT NULL DEFAULT 0) STRICT
    ;
CREATE TABLE change (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        parents TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "change" VALUES(1,'entry','e1','["spiffe://example.org/cognomen/node/join_token/n1"]');
CREATE TABLE checkpoint (
        number INTEGER PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT
    ;
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
    ;
INSERT INTO "credential" VALUES(1,'x509','80000000000000000000000000000000','spiffe://example.org/web','e1',1,'n1','k0','x509-1','[]',1767268800000000,1767268800000000,'intended');
INSERT INTO "credential" VALUES(2,'x509','80000000000000000000000000000001','spiffe://example.org/web','e1',1,'n1','k1','x509-1','[]',1767268800000000,1767272400000000,'intended');
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
    ;
INSERT INTO "entry" VALUES('e1','spiffe://example.org/web','spiffe://example.org/cognomen/node/join_token/n1','["unix:uid:1000"]',NULL,NULL,NULL,'[]',0,'',NULL,'','{}',X'D3190A1024377BA4762CED1EC7CDBF066B63AE52E79D2DAC34994E8BC79507F8');
CREATE TABLE entry_selector (
        selector TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        PRIMARY KEY (selector, entry_id)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "entry_selector" VALUES('unix:uid:1000','e1');
CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        incarnation TEXT NOT NULL,
        change_number INTEGER NOT NULL,
        bundle_sequence INTEGER NOT NULL
    , clock_mark INTEGER NOT NULL DEFAULT 0) STRICT
    ;
INSERT INTO "meta" VALUES(1,'86b8dbe997ac8e35af53c675fd89147e',1,0,0);
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
    , unconfirmed INTEGER NOT NULL DEFAULT 0) STRICT
    ;
INSERT INTO "node" VALUES('n1','spiffe://example.org/cognomen/node/join_token/n1','join_token','["join_token:label:team:travel"]',1767268800000000,1767272400000000,'active','aa','',0,0);
CREATE TABLE token (
        hash TEXT PRIMARY KEY NOT NULL,
        node_id TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        key_hash TEXT NOT NULL,
        used_at INTEGER
    ) STRICT
    ;
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX entry_by_parent ON entry (parent_id, id);
CREATE INDEX entry_by_spiffe_id ON entry (spiffe_id, id);
CREATE INDEX credential_by_key ON credential (key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX credential_by_spiffe_id ON credential (spiffe_id);
CREATE INDEX credential_by_entry ON credential (entry_id) WHERE entry_id IS NOT NULL;
CREATE INDEX credential_by_node ON credential (node_id) WHERE node_id IS NOT NULL;
INSERT INTO "sqlite_sequence" VALUES('credential',2);
COMMIT;
