"""Registration entries in SQLite: a row each, and a table of their selectors to find them by."""

import heapq
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import TypeAlias

from sqlite_utils import Database

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import EntryFilter
from issuer.datastore.sqlite import codec
from issuer.decisions.registration import fingerprint
from svid.entry import EntryID, RegistrationEntry
from svid.spiffeid import SpiffeID

__all__ = ["SQLiteEntries"]

_COLUMNS = (
    "spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, expires_at, dns_names,"
    " revision, hint, created_at, owner, labels"
)
_SELECT = f"SELECT id, {_COLUMNS} FROM entry"  # noqa: S608 - constants only
_INSERT = (
    f"INSERT INTO entry ({_COLUMNS}, fingerprint, id)"  # noqa: S608 - constants only
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    f"UPDATE entry SET ({_COLUMNS}, fingerprint)"  # noqa: S608 - constants only
    " = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?"
)
_INSERT_SELECTOR = "INSERT INTO entry_selector (selector, entry_id) VALUES (?, ?)"
_DELETE_SELECTORS = (
    "DELETE FROM entry_selector WHERE (selector, entry_id) IN"
    " (SELECT json_each.value, entry.id FROM entry, json_each(entry.selectors) WHERE entry.id = ?)"
)

_Row: TypeAlias = tuple[
    str, str, str, str, int | None, int | None, int | None, str, int, str, int | None, str, str
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
        query = f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?"
        return [_from_row(row) for row in self._connection.execute(query, (*arguments, limit))]

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        """Every entry whose parent is one of these, in id order: each parent's by index, merged, never all in memory."""
        query = f"{_SELECT} WHERE parent_id = ? ORDER BY id"
        each = [map(_from_row, self._connection.execute(query, (str(parent),))) for parent in set(parents)]
        return heapq.merge(*each, key=attrgetter("id"))

    def twins(self, entries: Collection[RegistrationEntry]) -> Mapping[EntryID, EntryID]:
        """For those of these whose SPIFFE ID, parent and selectors stand under another id: that id, by their own id."""
        found: dict[EntryID, EntryID] = {}
        for entry in entries:
            row = self._connection.execute(
                "SELECT id FROM entry WHERE fingerprint = ? AND id <> ?", (fingerprint(entry), entry.id)
            ).fetchone()
            if row is not None:
                found[entry.id] = EntryID(row[0])
        return found

    def insert(self, entries: Sequence[RegistrationEntry]) -> None:
        """Add entries; their ids are new (CONFLICT), and they have no twins (EXISTS)."""
        with self._database.atomic():
            self._write(_INSERT, entries)

    def replace(self, entries: Sequence[RegistrationEntry]) -> None:
        """Overwrite entries; their ids exist, and they have no twins (EXISTS)."""
        with self._database.atomic():
            self._connection.executemany(_DELETE_SELECTORS, ((entry.id,) for entry in entries))
            self._write(_UPDATE, entries)

    def delete(self, ids: Sequence[EntryID]) -> None:
        """Remove entries; their ids exist."""
        with self._database.atomic():
            self._connection.executemany(_DELETE_SELECTORS, ((entry_id,) for entry_id in ids))
            removed = self._connection.executemany("DELETE FROM entry WHERE id = ?", ((entry_id,) for entry_id in ids))
            _check_count(removed.rowcount, len(ids))

    def _write(self, statement: str, entries: Sequence[RegistrationEntry]) -> None:
        try:
            written = self._connection.executemany(statement, map(_to_row, entries))
        except sqlite3.IntegrityError as e:
            if e.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                raise Refused(Kind.CONFLICT, "entry: expected a new id, found one that is taken") from e
            raise Refused(Kind.EXISTS, "entry: another has the same SPIFFE ID, parent and selectors") from e
        _check_count(written.rowcount, len(entries))
        self._connection.executemany(_INSERT_SELECTOR, _selector_rows(entries))


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise Refused(Kind.NOT_FOUND, f"entry: expected {expected} by their ids, found {max(found, 0)}")


def _selector_rows(entries: Iterable[RegistrationEntry]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        for selector in entry.selectors:
            yield str(selector), entry.id


def _to_row(entry: RegistrationEntry) -> tuple[_Column, ...]:
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
        fingerprint(entry),
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
    )
