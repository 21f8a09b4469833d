"""Registration entries in SQLite: a row for each, and a table of their selectors for finding them."""

import heapq
import itertools
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.sqlite import codec
from issuer.datastore.tables import EntryRow
from issuer.decisions.filters import EntryFilter
from svid.spiffeid import SpiffeID

__all__ = ["SQLiteEntries"]

_COLUMNS = (
    "spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, expires_at, dns_names,"
    " revision, hint, created_at, owner, labels, is_default, audiences, callers, observe"
)
_SELECT = f"SELECT id, {_COLUMNS} FROM entry"  # noqa: S608 - constants only
_INSERT = (
    f"INSERT INTO entry ({_COLUMNS}, fingerprint, id)"  # noqa: S608 - constants only
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    f"UPDATE entry SET ({_COLUMNS}, fingerprint)"  # noqa: S608 - constants only
    " = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?"
)
_INSERT_SELECTOR = "INSERT INTO entry_selector (selector, entry_id) VALUES (?, ?)"
_DELETE_SELECTORS = (
    "DELETE FROM entry_selector WHERE (selector, entry_id) IN"
    " (SELECT json_each.value, entry.id FROM entry, json_each(entry.selectors) WHERE entry.id = ?)"
)

_UNUSED = (
    "coalesce(created_at, 0) < ?"
    " AND NOT EXISTS (SELECT 1 FROM entry_last_use AS used WHERE used.entry_id = entry.id AND used.at >= ?)"
)

_Row: TypeAlias = tuple[
    str,
    str,
    str,
    str,
    int | None,
    int | None,
    int | None,
    str,
    int,
    str,
    int | None,
    str,
    str,
    int,
    str | None,
    str | None,
    int,
]  # id and _COLUMNS
_Column: TypeAlias = str | int | bytes | None


class SQLiteEntries:
    """Registration entries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection = database.conn

    def get(self, ids: Collection[EntryID]) -> Mapping[EntryID, RegistrationEntry]:
        """Those of these entries that exist."""
        query = f"{_SELECT} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - constants only
        rows = self._connection.execute(query, (codec.texts_to_json(ids),))
        return {entry.id: entry for entry in map(_from_row, rows)}

    def find(self, where: EntryFilter, *, after: str, limit: int) -> Sequence[RegistrationEntry]:
        """A page in id order, ids greater than `after` ("" = from the start)."""
        conditions, arguments = _conditions(where, after)
        query = f"{_SELECT} WHERE {conditions} ORDER BY id LIMIT ?"
        return [_from_row(row) for row in self._connection.execute(query, (*arguments, limit))]

    def each(self, where: EntryFilter, *, after: str, limit: int) -> Iterator[RegistrationEntry]:
        """The same page, one by one. Only ids are sorted: sorting whole rows would take as much memory as the page."""
        conditions, arguments = _conditions(where, after)
        query = f"SELECT id FROM entry WHERE {conditions} ORDER BY id LIMIT ?"  # noqa: S608 - constants only
        for entry_id in self._connection.execute(query, (*arguments, limit)).fetchall():
            yield from map(_from_row, self._connection.execute(f"{_SELECT} WHERE id = ?", entry_id))

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        """Every entry whose parent is one of these, in id order. Each parent's come by index and are merged, never all in memory."""
        query = f"{_SELECT} WHERE parent_id = ? ORDER BY id"
        each = [map(_from_row, self._connection.execute(query, (str(parent),))) for parent in set(parents)]
        return heapq.merge(*each, key=attrgetter("id"))

    def taken(self, fingerprints: Collection[bytes]) -> Mapping[bytes, EntryID]:
        """Which of these fingerprints are taken, and by which entry."""
        found: dict[bytes, EntryID] = {}
        for fingerprint in fingerprints:
            row = self._connection.execute("SELECT id FROM entry WHERE fingerprint = ?", (fingerprint,)).fetchone()
            if row is not None:
                found[fingerprint] = EntryID(row[0])
        return found

    def alike(self, entry: RegistrationEntry, *, most: int) -> int:
        """Count entries with the parent and the selectors of this one, up to `most`, among those with its rarest selector."""
        rows = "SELECT 1 FROM entry_selector WHERE selector = ? LIMIT ?"
        counted = {str(one): self._count(rows, str(one), most) for one in entry.selectors}
        # CROSS JOIN keeps this order; SQLite might otherwise prefer the index of parents, of which there are few.
        rarest = min(counted, key=counted.__getitem__)
        rows = (
            "SELECT 1 FROM entry_selector CROSS JOIN entry ON entry.id = entry_selector.entry_id"
            " WHERE selector = ? AND parent_id = ? AND selectors = ? LIMIT ?"
        )
        return self._count(rows, rarest, str(entry.parent_id), codec.selectors_to_json(entry.selectors), most)

    def insert(self, rows: Sequence[EntryRow]) -> None:
        """Add entries; their ids are new (CONFLICT), and so are their fingerprints (EXISTS)."""
        with self._database.atomic():
            self._write(_INSERT, rows)

    def replace(self, rows: Sequence[EntryRow]) -> None:
        """Overwrite entries; their ids exist, and no other has their fingerprints (EXISTS)."""
        with self._database.atomic():
            self._connection.executemany(_DELETE_SELECTORS, ((row.entry.id,) for row in rows))
            self._write(_UPDATE, rows)

    def delete(self, ids: Sequence[EntryID]) -> None:
        """Remove entries; their ids exist."""
        with self._database.atomic():
            self._connection.executemany(_DELETE_SELECTORS, ((entry_id,) for entry_id in ids))
            removed = self._connection.executemany("DELETE FROM entry WHERE id = ?", ((entry_id,) for entry_id in ids))
            _check_count(removed.rowcount, len(ids))

    def _count(self, rows: str, *arguments: str | int) -> int:
        (found,) = self._connection.execute(f"SELECT count(*) FROM ({rows})", arguments).fetchone()  # noqa: S608 - constants only
        return int(found)

    def _write(self, statement: str, rows: Sequence[EntryRow]) -> None:
        try:
            written = self._connection.executemany(statement, itertools.starmap(_to_row, rows))
        except sqlite3.IntegrityError as e:
            if e.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                raise Refused(Kind.CONFLICT, "entry: the id already exists") from e
            raise Refused(Kind.EXISTS, "entry: one with the same SPIFFE ID, parent and selectors already exists") from e
        _check_count(written.rowcount, len(rows))
        self._connection.executemany(_INSERT_SELECTOR, _selector_rows(row.entry for row in rows))


def _conditions(where: EntryFilter, after: str) -> tuple[str, list[str | int]]:
    """What comes after WHERE, and its arguments."""
    conditions = ["id > ?"]
    arguments: list[str | int] = [after]
    if where.spiffe_id is not None:
        above = str(where.spiffe_id)
        if where.below:  # `0` follows `/`
            conditions.append("(spiffe_id = ? OR (spiffe_id > ? AND spiffe_id < ?))")
            arguments += [above, f"{above}/", f"{above}0"]
        else:
            conditions.append("spiffe_id = ?")
            arguments.append(above)
    if where.parent_id is not None:
        conditions.append("parent_id = ?")
        arguments.append(str(where.parent_id))
    if where.selector is not None:
        conditions.append("id IN (SELECT entry_id FROM entry_selector WHERE selector = ?)")
        arguments.append(str(where.selector))
    if where.owner is not None:
        conditions.append("owner = ?")
        arguments.append(where.owner)
    for label in where.labels:
        conditions.append("EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)")
        arguments += label
    if where.expires_before is not None:
        conditions.append("expires_at < ?")
        arguments.append(codec.to_micros(where.expires_before))
    if where.not_below is not None:
        conditions.append("parent_id <> ?")
        arguments.append(str(where.not_below))
    if where.unused_since is not None:
        conditions.append(_UNUSED)
        arguments += [codec.to_micros(where.unused_since)] * 2
    return " AND ".join(conditions), arguments


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise Refused(Kind.NOT_FOUND, f"entry: expected {expected} by their ids, found {max(found, 0)}")


def _selector_rows(entries: Iterable[RegistrationEntry]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        for selector in entry.selectors:
            yield str(selector), entry.id


def _to_row(entry: RegistrationEntry, fingerprint: bytes) -> tuple[_Column, ...]:
    return (
        str(entry.spiffe_id),
        str(entry.parent_id),
        codec.selectors_to_json(entry.selectors),
        None if entry.x509_svid_ttl is None else int(entry.x509_svid_ttl.total_seconds()),
        None if entry.jwt_svid_ttl is None else int(entry.jwt_svid_ttl.total_seconds()),
        None if entry.expires_at is None else codec.to_micros(entry.expires_at),
        codec.texts_to_json(entry.dns_names),
        entry.revision,
        entry.hint,
        None if entry.created_at is None else codec.to_micros(entry.created_at),
        entry.owner,
        codec.map_to_json(entry.labels),
        int(entry.default),
        None if entry.audiences is None else codec.texts_to_json(entry.audiences),
        None if entry.callers is None else codec.texts_to_json(map(str, entry.callers)),
        int(entry.observe),
        fingerprint,
        entry.id,
    )


def _from_row(row: _Row) -> RegistrationEntry:
    return RegistrationEntry(
        id=EntryID(row[0]),
        spiffe_id=codec.spiffe_id(row[1]),
        parent_id=codec.spiffe_id(row[2]),
        selectors=codec.selectors_from_json(row[3]),
        x509_svid_ttl=None if row[4] is None else timedelta(seconds=row[4]),
        jwt_svid_ttl=None if row[5] is None else timedelta(seconds=row[5]),
        expires_at=codec.optional_moment(row[6]),
        dns_names=codec.texts_from_json(row[7]),
        revision=row[8],
        hint=row[9],
        created_at=codec.optional_moment(row[10]),
        owner=row[11],
        labels=codec.map_from_json(row[12]),
        default=bool(row[13]),
        audiences=None if row[14] is None else codec.texts_from_json(row[14]),
        callers=None if row[15] is None else tuple(map(codec.spiffe_id, codec.texts_from_json(row[15]))),
        observe=bool(row[16]),
    )
