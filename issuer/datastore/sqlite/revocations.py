"""Revocations and denials in SQLite: what operators said, and the rows of the ledger that ended by it.

What is live is looked for from `meta.live_from` on, what was so within a day from `meta.open_from` on, and both by the ledger's indexes,
which keep the order of its rows; in all of it only after the clock was set back by minutes.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec
from sqlite_utils import Database

from issuer.datastore.revocationport import Denied, Fallen
from issuer.datastore.sqlite import codec
from issuer.decisions.audit import CredentialKind, NodeID
from issuer.decisions.crl import DeniedCertificate, SignedCRL
from issuer.decisions.revocation import MAX_OVER, Live, Reason, Revocation, RevocationKind, Target
from svid.denials import KEPT_FOR, OPEN_FOR, Denial, number_of_jti
from svid.entry import EntryID
from svid.keys import KeyID
from svid.selector import Selector

__all__ = ["LIVE_FROM", "SQLiteCRLs", "SQLiteDenials", "SQLiteRevocations"]

_MAX_NUMBER = 2**63 - 1
_PAGE_BYTES = 4 * 1024 * 1024  # a revocation of 100,000 serials takes 3.5 MB
_SET_BACK = timedelta(minutes=2)  # so that the steps of a clock that is being kept right cost nothing
LIVE_FROM = "(SELECT CASE WHEN live_at <= :now THEN live_from ELSE 0 END FROM meta)"
"""From where on rows may be live at :now: the clock may have been set back to before live_at, when some that were over are not."""

_OPEN_FROM = "(SELECT CASE WHEN live_at <= :now THEN open_from ELSE 0 END FROM meta)"
_REACH = OPEN_FOR + KEPT_FOR  # verifiers whose clocks lag end a connection later
_OF_USE = (
    "kind <> 'authority' AND not_after > CASE kind WHEN 'x509' THEN :reach ELSE :lagging END"  # what a denial may stop
)

_CACHED = 4096  # every mint reads all that stand
_REVOCATION = "number, kind, target, reason, comment, actor, at, denied, over, change, lifted_at, lifted_by"
_Row: TypeAlias = tuple[int, str, str, str, str, str, int, int, int, int, int | None, str]
_Argument: TypeAlias = str | int


class _Rows(NamedTuple):
    """Rows of the ledger: from where on they are, what they are, and which of them where there are too many."""

    first: str
    condition: str
    order: str = ""


_LIVE = _Rows(LIVE_FROM, "not_after > :now")
_OVER = _Rows(
    _OPEN_FROM,
    f"{_OF_USE} AND not_after <= :now",
    f" ORDER BY number DESC LIMIT {MAX_OVER}",
)


class _Target(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A target but its kind, as JSON."""

    serials: tuple[str, ...] = ()
    before: int | None = None
    entry_ids: tuple[str, ...] = ()
    node_ids: tuple[str, ...] = ()
    spiffe_id: str = ""
    below: bool = False
    selector: str = ""


class SQLiteRevocations:
    """What operators said."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def add(self, revocation: Revocation) -> int:
        """Add one; its number."""
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
            "INSERT INTO revocation (kind, target, reason, comment, actor, at, denied, over, change, lifted_by)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, '')",
            (
                target.kind.value,
                msgspec.json.encode(document).decode(),
                revocation.reason.value,
                revocation.comment,
                revocation.actor,
                codec.to_micros(revocation.at),
            ),
        )
        return int(added.lastrowid or 0)

    def put(self, revocation: Revocation) -> None:
        """Note what became of one: what it denied, its change, its end."""
        self._connection.execute(
            "UPDATE revocation SET denied = ?, over = ?, change = ?, lifted_at = ?, lifted_by = ? WHERE number = ?",
            (
                revocation.denied,
                revocation.over,
                revocation.change,
                codec.optional_micros(revocation.lifted_at),
                revocation.lifted_by,
                revocation.number,
            ),
        )

    def get(self, number: int) -> Revocation | None:
        """One of them."""
        return next(map(_revocation, self._select("number = ?", number)), None)

    def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page, newest first, numbers less than `before` (0 = from the newest); cut short where targets are large."""
        page: list[Revocation] = []
        size = 0
        for row in self._select("number < ? ORDER BY number DESC LIMIT ?", before or _MAX_NUMBER, limit):
            page.append(_revocation(row))
            size += len(row[2])
            if size > _PAGE_BYTES:
                break
        return page

    def standing(self) -> Sequence[Revocation]:
        """Those that block somebody now."""
        return [*map(_known, self._select("lifted_at IS NULL AND kind IN ('entry', 'spiffe-id', 'selector')"))]

    def _select(self, where: str, *arguments: int) -> Iterator[_Row]:
        query = f"SELECT {_REVOCATION} FROM revocation WHERE {where}"  # noqa: S608 - our own texts
        return iter(self._connection.execute(query, arguments))


class SQLiteDenials:
    """The credentials that were denied."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def fallen(self, where: Live, *, now: datetime) -> Sequence[Fallen]:
        """What of live credentials `deny` would end, by SPIFFE ID, node, kind and audiences."""
        condition, arguments = _condition(_LIVE, where, now)
        rows = self._connection.execute(
            f"SELECT kind, spiffe_id, node_id, audiences, count(*), max(not_after) FROM credential WHERE {condition}"  # noqa: S608 - our own texts
            " GROUP BY kind, spiffe_id, node_id, audiences ORDER BY spiffe_id, node_id, kind, audiences",
            arguments,
        )
        return [
            Fallen(
                kind=CredentialKind(kind),
                spiffe_id=codec.spiffe_id(spiffe_id),
                node_id=None if node_id is None else NodeID(node_id),
                audiences=codec.texts_from_json(audiences),
                count=count,
                ends_at=codec.from_micros(ends_at),
            )
            for kind, spiffe_id, node_id, audiences, count, ends_at in rows
        ]

    def is_any(self, where: Live, *, now: datetime) -> bool:
        """Whether `deny` would deny anything."""
        looks = (_condition(rows, where, now) for rows in (_LIVE, _OVER))
        return any(
            self._connection.execute(f"SELECT 1 FROM credential WHERE {condition} LIMIT 1", arguments).fetchone()  # noqa: S608 - our own texts
            for condition, arguments in looks
        )

    def deny(self, where: Live, *, revocation: int, now: datetime) -> Denied:
        """Deny those that are live, and of those that are over but of use the newest MAX_OVER; all that is not denied yet."""
        live, over = (self._deny(rows, where, revocation, now) for rows in (_LIVE, _OVER))
        self._connection.execute(
            "UPDATE credential SET revocation = ? WHERE serial IN (SELECT serial FROM denial WHERE revocation = ?)",
            (revocation, revocation),
        )
        return Denied(live=live, over=over)

    def count(self) -> int:
        """How many are kept."""
        return int(self._connection.execute("SELECT count(*) FROM denial").fetchone()[0])

    def of(self, revocations: Collection[int]) -> Iterator[Denial]:
        """Those that follow from these revocations."""
        return self._denials(
            "WHERE revocation IN (SELECT value FROM json_each(?)) ORDER BY serial",
            msgspec.json.encode(list(revocations)).decode(),
        )

    def last_end(self, revocation: int) -> datetime | None:
        """The latest end of those that follow from it; None: none is left."""
        query = "SELECT max(ends_at) FROM denial WHERE revocation = ?"
        (ends_at,) = self._connection.execute(query, (revocation,)).fetchone()
        return codec.optional_moment(ends_at)

    def all(self) -> Iterator[Denial]:
        """Every one that is kept."""
        return self._denials("ORDER BY serial")

    def of_authority(self, authority_id: KeyID) -> Sequence[DeniedCertificate]:
        """Those that this X.509 authority's list names, by their serials: they were live then, or so for clocks that lag."""
        rows = self._connection.execute(
            "SELECT denial.serial, denial.denied_at, denial.ends_at, revocation.reason FROM denial"
            " JOIN revocation ON revocation.number = denial.revocation"
            " WHERE denial.authority_id = ? AND denial.is_listed = 1 ORDER BY denial.serial",
            (authority_id,),
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

    def prune(self, *, ended_before: datetime, now: datetime) -> None:
        """Forget the tokens that were over by then, and the certificates that were so OPEN_FOR before.

        The lists of authorities go on naming the certificates that were over by then until one was signed after their end. The store learns
        from where on the ledger's rows may be live, and may be denied.

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
            {"before": codec.to_micros(ended_before - OPEN_FOR)},
        )
        end = "(SELECT max(number) + 1 FROM credential), 0"
        self._connection.execute(
            "UPDATE meta SET live_at = :now, live_from = coalesce("  # noqa: S608 - our own texts
            f"(SELECT number FROM credential WHERE number >= {LIVE_FROM} AND kind <> 'authority' AND not_after > :now"
            f" ORDER BY number LIMIT 1), {end}), open_from = coalesce("
            f"(SELECT number FROM credential WHERE number >= {_OPEN_FROM} AND {_OF_USE}"
            f" ORDER BY number LIMIT 1), {end})",
            _moments(now - _SET_BACK),
        )

    def _deny(self, rows: _Rows, where: Live, revocation: int, now: datetime) -> int:
        condition, arguments = _condition(rows, where, now)
        denied = self._connection.execute(
            "INSERT INTO denial (serial, authority_id, kind, revocation, denied_at, ends_at, is_listed)"  # noqa: S608 - our own texts
            " SELECT serial, authority_id, kind, :revocation, :now, not_after, kind <> 'jwt' AND not_after > :lagging"
            f" FROM credential WHERE {condition}{rows.order}",
            {**arguments, "revocation": revocation},
        ).rowcount
        return max(denied, 0)

    def _denials(self, where: str, *arguments: str) -> Iterator[Denial]:
        for serial, kind, ends_at in self._connection.execute(
            f"SELECT serial, kind, ends_at FROM denial {where}",  # noqa: S608 - our own texts
            arguments,
        ):
            if (number := number_of_jti(serial)) is not None:
                longer = timedelta() if kind == CredentialKind.JWT else OPEN_FOR
                yield Denial(number, codec.from_micros(ends_at) + longer)


class SQLiteCRLs:
    """The newest certificate revocation list of each authority."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def get(self, authority_id: KeyID) -> SignedCRL | None:
        """That of one authority."""
        row = self._connection.execute(
            "SELECT number, this_update, der FROM crl WHERE authority_id = ?", (authority_id,)
        ).fetchone()
        if row is None:
            return None
        number, this_update, der = row
        return SignedCRL(
            authority_id=authority_id, number=number, this_update=codec.optional_moment(this_update), der=der
        )

    def put(self, crl: SignedCRL) -> None:
        """Add one, or overwrite the one of that authority."""
        self._connection.execute(
            "INSERT INTO crl (authority_id, number, this_update, der) VALUES (?, ?, ?, ?) ON CONFLICT (authority_id)"
            " DO UPDATE SET number = excluded.number, this_update = excluded.this_update, der = excluded.der",
            (crl.authority_id, crl.number, codec.optional_micros(crl.this_update), crl.der),
        )

    def delete(self, authority_id: KeyID) -> None:
        """Remove that of an authority; one that is not there is fine."""
        self._connection.execute("DELETE FROM crl WHERE authority_id = ?", (authority_id,))


def _moments(now: datetime) -> dict[str, int]:
    """Those that conditions name."""
    before = {"now": timedelta(), "lagging": KEPT_FOR, "reach": _REACH}
    return {name: codec.to_micros(now - time) for name, time in before.items()}


def _condition(rows: _Rows, where: Live, now: datetime) -> tuple[str, dict[str, _Argument]]:
    """The condition of those rows that are named, and not denied yet."""
    conditions = [
        f"number >= {rows.first}",
        rows.condition,
        "state <> 'failed'",
        "revocation = 0",
        "kind IN (SELECT value FROM json_each(:kinds))",
    ]
    arguments: dict[str, _Argument] = {**_moments(now), "kinds": codec.texts_to_json(sorted(where.kinds))}
    named = {"serial": where.serials, "entry_id": where.entry_ids, "node_id": where.node_ids}
    lists = {column: values for column, values in named.items() if values is not None}
    among = [
        f"(number >= {rows.first} AND {column} IN (SELECT value FROM json_each(:{column})))"  # noqa: S608 - our own names
        for column in lists
    ]  # the bound again: an index that serves one part of an OR knows no other condition
    arguments |= {column: codec.texts_to_json(values) for column, values in lists.items()}
    conditions += [f"({' OR '.join(among)})"] if where.any_of else among
    if where.spiffe_id is not None:
        arguments["spiffe_id"] = str(where.spiffe_id)
        if where.below:  # `+`: by the rows that may be live, not by all that ever were below; `0` follows `/`
            conditions.append(
                "(+spiffe_id = :spiffe_id OR (+spiffe_id > :spiffe_id || '/' AND +spiffe_id < :spiffe_id || '0'))"
            )
        else:
            conditions.append("spiffe_id = :spiffe_id")
    if where.issued_until is not None:
        conditions.append("issued_at <= :issued_until")
        arguments["issued_until"] = codec.to_micros(where.issued_until)
    return " AND ".join(conditions), arguments


@lru_cache(maxsize=_CACHED)
def _known(row: _Row) -> Revocation:
    return _revocation(row)


def _revocation(row: _Row) -> Revocation:
    number, kind, document, reason, comment, actor, at, denied, over, change, lifted_at, lifted_by = row
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
        change=change,
        lifted_at=codec.optional_moment(lifted_at),
        lifted_by=lifted_by,
    )
