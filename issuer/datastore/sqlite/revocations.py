"""Revocations and denials in SQLite: operators' revocations, and the ledger rows that they ended.

sqlite/marks says where to look for ledger rows that can be denied.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec
from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.datastore.revocationport import Denied
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.exchanged import last_ends
from issuer.datastore.sqlite.marks import IS_LONG, LIVE, LIVE_FROM, OPEN_FROM, SHORT_FROM
from issuer.datastore.sqlite.named import Rows, condition_of
from issuer.datastore.tables import DenialRow
from issuer.decisions.crl import DeniedCertificate
from issuer.decisions.falling import Fallen, Falling
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.revocation import Blocks, Deniable, Live, Reason, Revocation, RevocationKind, Target, blocks_of
from svid.keys import KeyID

__all__ = ["SQLiteDenials", "SQLiteRevocations"]

_PAGE_BYTES = 4 * 1024 * 1024  # a revocation of 100,000 serials takes 3.5 MB
_SET_BACK = timedelta(minutes=2)  # so that the small corrections of a synchronized clock cost nothing
_OF_USE = (
    "kind <> 'authority' AND not_after > CASE kind WHEN 'x509' THEN :open ELSE :lagging END"  # what a denial may stop
)

_KEPT = 4  # of different versions, which running transactions still see
_blocks: dict[str, Blocks] = {}
"""Keyed by meta.blocks, because every mint reads them. A version that was rolled back has a name that nobody asks for again."""

_REVOCATION = (
    "number, kind, target, reason, comment, actor, at, denied, over, compromised, change, lifted_at, lifted_by"
)
_Row: TypeAlias = tuple[int, str, str, str, str, str, int, int, int, int, int, int | None, str]


_LIVE = Rows(f"revocation = 0 AND {LIVE}", LIVE_FROM)
_OVER = Rows(
    f"revocation = 0 AND {_OF_USE} AND not_after <= :now AND number >= {OPEN_FROM}",
    OPEN_FROM,
    " ORDER BY number DESC LIMIT :most_over",
)
_NOT_COMPROMISED = (
    "kind <> 'jwt' AND revocation <> :revocation"
    " AND revocation NOT IN (SELECT number FROM revocation WHERE reason = 'keyCompromise')"
)
_DAY_FROM = f"min({LIVE_FROM}, {OPEN_FROM})"
_ENDED = Rows(f"revocation <> 0 AND not_after > :open AND {_NOT_COMPROMISED} AND number >= {_DAY_FROM}", _DAY_FROM)
_EVER_ENDED = Rows(f"(revocation <> 0 OR not_after <= :open) AND {_NOT_COMPROMISED}", "0")


class _Target(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A target without its kind, as JSON."""

    serials: tuple[str, ...] = ()
    before: int | None = None
    entry_ids: tuple[str, ...] = ()
    node_ids: tuple[str, ...] = ()
    spiffe_id: str = ""
    below: bool = False
    selector: str = ""


class SQLiteRevocations:
    """Operators' revocations."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, revocation: Revocation) -> int:
        """Add one; returns its number."""
        target = revocation.target
        document = _Target(
            serials=target.serials,
            before=codec.optional_micros(target.before),
            entry_ids=target.entry_ids,
            node_ids=target.node_ids,
            spiffe_id="" if target.spiffe_id is None else str(target.spiffe_id),
            below=target.below,
            selector="" if target.selector is None else str(target.selector),
        )
        added = self._connection.execute(
            "INSERT INTO revocation (kind, target, reason, comment, actor, at, denied, over, compromised, change, lifted_by)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, '')",
            (
                target.kind.value,
                msgspec.json.encode(document).decode(),
                revocation.reason.value,
                revocation.comment,
                revocation.actor,
                codec.to_micros(revocation.at),
            ),
        )
        self._name_blocks_anew(revocation)
        return int(added.lastrowid or 0)

    def put(self, revocation: Revocation) -> None:
        """Note the result of one: what it denied, its change, its end."""
        self._connection.execute(
            "UPDATE revocation SET denied = ?, over = ?, compromised = ?, change = ?, lifted_at = ?, lifted_by = ?"
            " WHERE number = ?",
            (
                revocation.denied,
                revocation.over,
                revocation.compromised,
                revocation.change,
                codec.optional_micros(revocation.lifted_at),
                revocation.lifted_by,
                revocation.number,
            ),
        )
        self._name_blocks_anew(revocation)

    def get(self, number: int) -> Revocation | None:
        """One of them."""
        return next(map(_revocation, self._select("number = ?", number)), None)

    def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page, newest first, numbers less than `before` (0 = from the newest); cut short where targets are large."""
        page: list[Revocation] = []
        size = 0
        for row in self._select("number < ? ORDER BY number DESC LIMIT ?", before or codec.MAX_NUMBER, limit):
            page.append(_revocation(row))
            size += len(row[2])
            if size > _PAGE_BYTES:
                break
        return page

    def standing(self) -> Sequence[Revocation]:
        """Those that block something now."""
        return [*map(_revocation, self._select("lifted_at IS NULL AND kind IN ('entry', 'spiffe-id', 'selector')"))]

    def blocks(self) -> Blocks:
        """What those in force block; read again only after they have changed."""
        (name,) = self._connection.execute("SELECT blocks FROM meta").fetchone()
        found = _blocks.get(name)
        if found is None:
            found = blocks_of(self.standing())
            if len(_blocks) >= _KEPT:
                _blocks.clear()
            _blocks[name] = found
        return found

    def _name_blocks_anew(self, changed: Revocation) -> None:
        if changed.target.is_block:
            self._connection.execute("UPDATE meta SET blocks = ?", (secrets.token_hex(16),))

    def _select(self, where: str, *arguments: int) -> Iterator[_Row]:
        query = f"SELECT {_REVOCATION} FROM revocation WHERE {where}"  # noqa: S608 - our own texts
        return iter(self._connection.execute(query, arguments))


class SQLiteDenials:
    """The credentials that were denied."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def falling(self, where: Live, *, now: datetime, most: int) -> Falling:
        """Which live credentials `deny` would end, at most that many groups of them."""
        condition, arguments = condition_of(_LIVE, where, {"now": codec.to_micros(now), "most": most})
        rows = self._connection.execute(
            "SELECT kind, spiffe_id, node_id, audiences, count(*), max(not_after), count(*) OVER (), sum(count(*)) OVER ()"  # noqa: S608 - our own texts
            f" FROM credential WHERE {condition} GROUP BY kind, spiffe_id, node_id, audiences"
            " ORDER BY spiffe_id, node_id, kind, audiences LIMIT :most",
            arguments,
        ).fetchall()
        if not rows:
            return Falling()
        *_, groups, count = rows[0]
        found = [
            Fallen(
                kind=CredentialKind(kind),
                spiffe_id=codec.spiffe_id(spiffe_id),
                node_id=None if node_id is None else NodeID(node_id),
                audiences=codec.texts_from_json(audiences),
                count=alike,
                ends_at=codec.from_micros(ends_at),
            )
            for kind, spiffe_id, node_id, audiences, alike, ends_at, *_ in rows
        ]
        return Falling(groups=found, more=groups - len(found), count=count)

    def last_ends(
        self, where: Live, *, audiences: Collection[str], since: datetime, now: datetime
    ) -> Mapping[str, datetime]:
        """When the last of the named JWT-SVIDs for each of these audiences expires, of those that expire after `since`."""
        return last_ends(self._connection, where, audiences=audiences, since=since, now=now)

    def is_any(self, where: Live, *, when: Deniable, is_leak: bool) -> bool:
        """Whether `deny` would deny anything, or in case of a leak, whether `compromise` would find anything."""
        given = {**_moments(when), "revocation": 0}
        looks = (condition_of(rows, where, given) for rows in (_LIVE, _OVER, *([_ended(where)] if is_leak else [])))
        return any(
            self._connection.execute(
                f"SELECT 1 FROM credential WHERE {condition} LIMIT 1",  # noqa: S608 - our own texts
                arguments,
            ).fetchone()
            for condition, arguments in looks
        )

    def deny(self, where: Live, *, revocation: int, when: Deniable, most_over: int) -> Denied:
        """Deny the live ones, and the newest `most_over` of the expired ones; skip those already denied."""
        given = {**_moments(when), "revocation": revocation, "most_over": most_over}
        live, over = (self._deny(rows, where, given) for rows in (_LIVE, _OVER))
        self._connection.execute(
            "UPDATE credential SET revocation = ? WHERE serial IN (SELECT serial FROM denial WHERE revocation = ?)",
            (revocation, revocation),
        )
        return Denied(live=live, over=over)

    def compromise(self, where: Live, *, revocation: int, when: Deniable) -> int:
        """Mark the keys of certificates that had already ended as compromised; returns how many."""
        condition, arguments = condition_of(_ended(where), where, {**_moments(when), "revocation": revocation})
        found = self._connection.execute(
            f"UPDATE credential SET revocation = :revocation WHERE {condition} RETURNING serial",  # noqa: S608 - our own texts
            arguments,
        ).fetchall()
        self._connection.execute(
            "UPDATE denial SET is_compromised = 1 WHERE serial IN (SELECT value FROM json_each(?))",
            (codec.texts_to_json(serial for (serial,) in found),),
        )
        return len(found)

    def count(self) -> int:
        """How many are kept."""
        return int(self._connection.execute("SELECT count(*) FROM denial").fetchone()[0])

    def of(self, revocations: Collection[int]) -> Iterator[DenialRow]:
        """The denials of these revocations."""
        return self._denials(
            "WHERE revocation IN (SELECT value FROM json_each(?)) ORDER BY serial",
            msgspec.json.encode(list(revocations)).decode(),
        )

    def last_end(self, revocation: int) -> datetime | None:
        """When the last of the credentials that this revocation denied expires; None: none is left."""
        query = "SELECT max(ends_at) FROM denial WHERE revocation = ?"
        (ends_at,) = self._connection.execute(query, (revocation,)).fetchone()
        return codec.optional_moment(ends_at)

    def all(self) -> Iterator[DenialRow]:
        """Every denial that is kept."""
        return self._denials("ORDER BY serial")

    def of_authority(self, authority_id: KeyID) -> Sequence[DeniedCertificate]:
        """Those on this X.509 authority's list, by serial: they were valid when denied, at least for clocks that lag."""
        rows = self._connection.execute(
            "SELECT denial.serial, denial.denied_at, denial.ends_at, iif(is_compromised, ?, revocation.reason) FROM denial"
            " JOIN revocation ON revocation.number = denial.revocation"
            " WHERE denial.authority_id = ? AND denial.is_listed = 1 ORDER BY denial.serial",
            (Reason.KEY_COMPROMISE.value, authority_id),
        )
        return [
            DeniedCertificate(
                serial=int(serial, 16),
                denied_at=codec.from_micros(at),
                ends_at=codec.from_micros(ends_at),
                reason=Reason(reason),
            )
            for serial, at, ends_at, reason in rows
        ]

    def prune(self, *, ended_before: datetime, certificates_before: datetime, when: Deniable) -> None:
        """Forget the tokens that expired before `ended_before`, and the certificates that expired before `certificates_before`.

        An authority's list keeps a certificate that expired before `ended_before` until a list was signed after it expired. The store also
        learns from which row on the ledger's rows may be live, and may be denied.

        Source: RFC 5280 3.3
        """
        ended = {"before": codec.to_micros(ended_before)}
        self._connection.execute("DELETE FROM denial WHERE kind = 'jwt' AND ends_at < :before", ended)
        self._connection.execute(
            "UPDATE denial SET is_listed = 0 WHERE is_listed = 1 AND ends_at < :before AND NOT EXISTS ("
            "SELECT 1 FROM crl WHERE crl.authority_id = denial.authority_id AND this_update <= denial.ends_at)",
            ended,
        )
        self._connection.execute(
            "DELETE FROM denial WHERE kind IN ('x509', 'node') AND ends_at < :before AND is_listed = 0",
            {"before": codec.to_micros(certificates_before)},
        )
        end = "(SELECT max(number) + 1 FROM credential), 0"
        self._connection.execute(
            "UPDATE meta SET live_at = :now, live_from = coalesce("  # noqa: S608 - our own texts
            f"(SELECT number FROM credential WHERE number >= {LIVE_FROM} AND kind <> 'authority' AND not_after > :now"
            f" ORDER BY number LIMIT 1), {end}), short_from = coalesce("
            f"(SELECT number FROM credential WHERE number >= {SHORT_FROM} AND kind <> 'authority' AND not_after > :now"
            f" AND NOT {IS_LONG} ORDER BY number LIMIT 1), {end}), open_from = coalesce("
            f"(SELECT number FROM credential WHERE number >= {OPEN_FROM} AND {_OF_USE}"
            f" ORDER BY number LIMIT 1), {end})",
            _moments(when, earlier=_SET_BACK),
        )

    def _deny(self, rows: Rows, where: Live, given: Mapping[str, int]) -> int:
        condition, arguments = condition_of(rows, where, given)
        denied = self._connection.execute(
            "INSERT INTO denial (serial, authority_id, kind, revocation, denied_at, ends_at, is_listed)"  # noqa: S608 - our own texts
            " SELECT serial, authority_id, kind, :revocation, :now, not_after, kind <> 'jwt' AND not_after > :lagging"
            f" FROM credential WHERE {condition}{rows.order}",
            arguments,
        ).rowcount
        return max(denied, 0)

    def _denials(self, where: str, *arguments: str) -> Iterator[DenialRow]:
        query = f"SELECT serial, kind, ends_at FROM denial {where}"  # noqa: S608 - our own texts
        for serial, kind, ends_at in self._connection.execute(query, arguments):
            yield DenialRow(serial, CredentialKind(kind), codec.from_micros(ends_at))


def _ended(where: Live) -> Rows:
    """Those that had already ended and may be compromised; one that is named by serial is found no matter how old it is."""
    return _ENDED if where.serials is None else _EVER_ENDED


def _moments(when: Deniable, *, earlier: timedelta = timedelta()) -> dict[str, int]:
    """The times that conditions name."""
    moments = {"now": when.now, "lagging": when.lagging, "open": when.open}
    return {name: codec.to_micros(moment - earlier) for name, moment in moments.items()}


def _revocation(row: _Row) -> Revocation:
    number, kind, document, reason, comment, actor, at, denied, over, compromised, change, lifted_at, lifted_by = row
    target = msgspec.json.decode(document, type=_Target)
    return Revocation(
        number=number,
        target=Target(
            kind=RevocationKind(kind),
            serials=target.serials,
            before=codec.optional_moment(target.before),
            entry_ids=tuple(map(EntryID, target.entry_ids)),
            node_ids=tuple(map(NodeID, target.node_ids)),
            spiffe_id=codec.spiffe_id(target.spiffe_id) if target.spiffe_id else None,
            below=target.below,
            selector=Selector.parse(target.selector) if target.selector else None,
        ),
        reason=Reason(reason),
        comment=comment,
        actor=actor,
        at=codec.from_micros(at),
        denied=denied,
        over=over,
        compromised=compromised,
        change=change,
        lifted_at=codec.optional_moment(lifted_at),
        lifted_by=lifted_by,
    )
