"""Nodes, join tokens, the bundle's sequence, the clock's mark and the authorities in SQLite: few rows, simply read and written."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.protocol.names import NodeID
from issuer.datastore.sqlite import codec
from issuer.decisions.admission import Node, NodeState, Token
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.uses import Reported
from svid.keys import KeyID

__all__ = ["SQLiteAuthorities", "SQLiteBundles", "SQLiteNodes", "SQLiteTimes", "SQLiteTokens"]


_NewRow: TypeAlias = Mapping[str, str | int | bytes | None]


def _put(database: Database, table: str, key: str, row: _NewRow) -> None:
    """Add the row, or overwrite the one with its key."""
    columns = ", ".join(row)
    values = ", ".join(f":{column}" for column in row)
    changes = ", ".join(f"{column} = excluded.{column}" for column in row if column != key)
    database.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {changes}",  # noqa: S608 - our names
        dict(row),
    )


class SQLiteNodes:
    """Attested nodes."""

    _SELECT = (
        "SELECT id, spiffe_id, attestor, selectors, attested_at, svid_not_after, state, current_serial, pending_serial,"
        " acknowledged, unconfirmed, current_since, replaced, name, address, seen_at, uses_since, uses_until FROM node"
    )

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, node_id: NodeID) -> Node | None:
        """One node."""
        rows = self._database.query(f"{self._SELECT} WHERE id = ?", [node_id])
        return next(map(self._from_row, rows), None)

    def named(self, name: str) -> Node | None:
        """The node with that name, in upper or lower case; none has the empty name."""
        rows = self._database.query(f"{self._SELECT} WHERE name = ? COLLATE NOCASE AND name <> ''", [name])
        return next(map(self._from_row, rows), None)

    def put(self, node: Node) -> None:
        """Add a node, or overwrite it; no other node has its name, if it has one."""
        reported = node.reported
        row: _NewRow = {
            "id": node.id,
            "spiffe_id": str(node.spiffe_id),
            "attestor": node.attestor,
            "selectors": codec.selectors_to_json(node.selectors),
            "attested_at": codec.to_micros(node.attested_at),
            "svid_not_after": codec.to_micros(node.svid_not_after),
            "state": node.state.value,
            "current_serial": node.current_serial,
            "pending_serial": node.pending_serial,
            "acknowledged": node.acknowledged,
            "unconfirmed": node.is_unconfirmed,
            "current_since": codec.optional_micros(node.current_since),
            "replaced": codec.map_to_json({serial: str(codec.to_micros(at)) for serial, at in node.replaced.items()}),
            "name": node.name,
            "address": node.address,
            "seen_at": codec.optional_micros(node.seen_at),
            "uses_since": None if reported is None else codec.to_micros(reported.since),
            "uses_until": None if reported is None else codec.optional_micros(reported.until),
        }
        _put(self._database, "node", "id", row)

    def delete(self, node_id: NodeID) -> None:
        """Remove a node, if it exists."""
        self._database.execute("DELETE FROM node WHERE id = ?", [node_id])

    def count(self) -> int:
        """How many there are."""
        return int(self._database.execute("SELECT count(*) FROM node").fetchone()[0])

    def find(self, *, after: str, limit: int) -> Sequence[Node]:
        """A page in id order, ids greater than `after` ("" = from the start)."""
        rows = self._database.query(f"{self._SELECT} WHERE id > ? ORDER BY id LIMIT ?", [after, limit])
        return [self._from_row(row) for row in rows]

    @staticmethod
    def _from_row(row: Mapping[str, str]) -> Node:
        return Node(
            id=NodeID(row["id"]),
            spiffe_id=codec.spiffe_id(row["spiffe_id"]),
            attestor=row["attestor"],
            selectors=codec.selectors_from_json(row["selectors"]),
            attested_at=codec.from_micros(int(row["attested_at"])),
            svid_not_after=codec.from_micros(int(row["svid_not_after"])),
            state=NodeState(row["state"]),
            current_serial=row["current_serial"],
            pending_serial=row["pending_serial"],
            acknowledged=int(row["acknowledged"]),
            is_unconfirmed=bool(row["unconfirmed"]),
            current_since=codec.optional_moment(int(row["current_since"] or 0) or None),
            replaced={
                serial: codec.from_micros(int(at)) for serial, at in codec.map_from_json(row["replaced"]).items()
            },
            name=row["name"],
            address=row["address"],
            seen_at=codec.optional_moment(int(row["seen_at"] or 0) or None),
            reported=_reported(row),
        )


def _reported(row: Mapping[str, str]) -> Reported | None:
    since = codec.optional_moment(int(row["uses_since"] or 0) or None)
    until = codec.optional_moment(int(row["uses_until"] or 0) or None)
    return None if since is None else Reported(since=since, until=until)


class SQLiteTokens:
    """Join tokens, by their hash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, token_hash: str) -> Token | None:
        """One token's row."""
        rows = self._database.query(
            "SELECT hash, node_id, labels, created_at, expires_at, key_hash, used_at FROM token WHERE hash = ?",
            [token_hash],
        )
        for row in rows:
            return Token(
                hash=row["hash"],
                node_id=NodeID(row["node_id"]),
                labels=codec.map_from_json(row["labels"]),
                created_at=codec.from_micros(row["created_at"]),
                expires_at=codec.from_micros(row["expires_at"]),
                key_hash=row["key_hash"],
                used_at=codec.optional_moment(row["used_at"]),
            )
        return None

    def put(self, token: Token) -> None:
        """Add a token's row, or overwrite it."""
        row: _NewRow = {
            "hash": token.hash,
            "node_id": token.node_id,
            "labels": codec.map_to_json(token.labels),
            "created_at": codec.to_micros(token.created_at),
            "expires_at": codec.to_micros(token.expires_at),
            "key_hash": token.key_hash,
            "used_at": codec.optional_micros(token.used_at),
        }
        _put(self._database, "token", "hash", row)

    def void(self, node_id: NodeID) -> None:
        """Forget every token of a node."""
        self._database.execute("DELETE FROM token WHERE node_id = ?", [node_id])

    def prune(self, *, expired_before: datetime) -> None:
        """Forget the tokens that had expired by then."""
        self._database.execute("DELETE FROM token WHERE expires_at < ?", [codec.to_micros(expired_before)])


class SQLiteBundles:
    """The sequence number of our own bundle."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def sequence(self) -> int:
        """The current number of the bundle; 0: none has been published yet."""
        (number,) = self._connection.execute("SELECT bundle_sequence FROM meta").fetchone()
        return int(number)

    def advance(self, *, by: int = 1) -> int:
        """Note that the bundle's content changed; returns its new number."""
        self._connection.execute("UPDATE meta SET bundle_sequence = bundle_sequence + ?", (by,))
        return self.sequence()


class SQLiteTimes:
    """What the store remembers of the wall clock."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def high_water(self) -> datetime | None:
        """The latest time that was noted; None: none yet."""
        (micros,) = self._connection.execute("SELECT clock_mark FROM meta").fetchone()
        return codec.optional_moment(micros or None)

    def note(self, moment: datetime) -> None:
        """Note a time in place of the last one."""
        self._connection.execute("UPDATE meta SET clock_mark = ?", (codec.to_micros(moment),))


class SQLiteAuthorities:
    """Signing authorities."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> Sequence[Authority]:
        """All of them, oldest first."""
        rows = self._database.query(
            "SELECT key_id, kind, state, public_key, certificate, above, roots, not_before, not_after, published_at, activated_at,"
            " published_change, activate_at, last_not_after, suspect, tainted_at, tainted_change,"
            " retired_at"
            " FROM authority ORDER BY number"
        )
        return [
            Authority(
                key_id=KeyID(row["key_id"]),
                kind=AuthorityKind(row["kind"]),
                state=AuthorityState(row["state"]),
                public_key=row["public_key"],
                certificate=row["certificate"],
                above=codec.certificates_from_der(row["above"]),
                roots=codec.certificates_from_der(row["roots"]),
                not_before=codec.from_micros(row["not_before"]),
                not_after=codec.from_micros(row["not_after"]),
                published_at=codec.optional_moment(row["published_at"]),
                activated_at=codec.optional_moment(row["activated_at"]),
                published_change=row["published_change"],
                activate_at=codec.optional_moment(row["activate_at"]),
                last_not_after=codec.optional_moment(row["last_not_after"]),
                is_suspect=bool(row["suspect"]),
                tainted_at=codec.optional_moment(row["tainted_at"]),
                tainted_change=row["tainted_change"],
                retired_at=codec.optional_moment(row["retired_at"]),
            )
            for row in rows
        ]

    def put(self, authority: Authority) -> None:
        """Add an authority, or overwrite it except for its last_not_after, which stays as it is."""
        row: _NewRow = {
            "key_id": authority.key_id,
            "kind": authority.kind.value,
            "state": authority.state.value,
            "public_key": authority.public_key,
            "certificate": authority.certificate,
            "above": b"".join(authority.above),
            "roots": b"".join(authority.roots),
            "not_before": codec.to_micros(authority.not_before),
            "not_after": codec.to_micros(authority.not_after),
            "published_at": codec.optional_micros(authority.published_at),
            "activated_at": codec.optional_micros(authority.activated_at),
            "published_change": authority.published_change,
            "activate_at": codec.optional_micros(authority.activate_at),
            "suspect": authority.is_suspect,
            "tainted_at": codec.optional_micros(authority.tainted_at),
            "tainted_change": authority.tainted_change,
            "retired_at": codec.optional_micros(authority.retired_at),
        }
        _put(self._database, "authority", "key_id", row)

    def extend(self, ends: Mapping[KeyID, datetime]) -> None:
        """Raise the last_not_after of these authorities to at least that; ignore those that do not exist."""
        self._database.conn.executemany(
            "UPDATE authority SET last_not_after = max(coalesce(last_not_after, 0), ?) WHERE key_id = ?",
            [(codec.to_micros(end), key_id) for key_id, end in ends.items()],
        )
