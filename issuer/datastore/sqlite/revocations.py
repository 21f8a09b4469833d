"""Revocations and denials in SQLite: what operators said, and the rows of the ledger that ended by it.

Where rows of the ledger that can be denied are looked for: sqlite/marks.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

import msgspec
from sqlite_utils import Database

from issuer.datastore.revocationport import Denied, Fallen, Falling
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import IS_LONG, LIVE, LIVE_FROM, OPEN_FROM, SHORT_FROM
from issuer.decisions.audit import CredentialKind, NodeID
from issuer.decisions.crl import DeniedCertificate
from issuer.decisions.revocation import MAX_OVER, Blocks, Live, Reason, Revocation, RevocationKind, Target, blocks_of
from svid.denials import KEPT_FOR, OPEN_FOR, Denial, number_of_jti
from svid.entry import EntryID
from svid.keys import KeyID
from svid.selector import Selector

__all__ = ["SQLiteDenials", "SQLiteRevocations"]

_MAX_NUMBER = 2**63 - 1
_PAGE_BYTES = 4 * 1024 * 1024  # a revocation of 100,000 serials takes 3.5 MB
_SET_BACK = timedelta(minutes=2)  # so that the steps of a clock that is being kept right cost nothing
_REACH = OPEN_FOR + KEPT_FOR  # verifiers whose clocks lag end a connection later
_OF_USE = (
    "kind <> 'authority' AND not_after > CASE kind WHEN 'x509' THEN :reach ELSE :lagging END"  # what a denial may stop
)

_MOST_GROUPS = 1000  # so that an answer is small whatever ends
_KEPT = 4  # of different moments, which transactions that go on still see
_blocks: dict[str, Blocks] = {}
"""By meta.blocks: every mint reads them. What was rolled back has a name that nobody asks for again."""

_REVOCATION = (
    "number, kind, target, reason, comment, actor, at, denied, over, compromised, change, lifted_at, lifted_by"
)
_Row: TypeAlias = tuple[int, str, str, str, str, str, int, int, int, int, int, int | None, str]
_Argument: TypeAlias = str | int


class _Rows(NamedTuple):
    """Rows of the ledger: what they are, from where on they are, and which of them where there are too many.

    Args:
        first: bounds what an index finds by who they are of.
    """

    condition: str
    first: str
    order: str = ""


_LIVE = _Rows(f"revocation = 0 AND {LIVE}", LIVE_FROM)
_OVER = _Rows(
    f"revocation = 0 AND {_OF_USE} AND not_after <= :now AND number >= {OPEN_FROM}",
    OPEN_FROM,
    f" ORDER BY number DESC LIMIT {MAX_OVER}",
)
_NOT_COMPROMISED = (
    "kind <> 'jwt' AND revocation <> :revocation"
    " AND revocation NOT IN (SELECT number FROM revocation WHERE reason = 'keyCompromise')"
)
_DAY_FROM = f"min({LIVE_FROM}, {OPEN_FROM})"
_ENDED = _Rows(f"revocation <> 0 AND not_after > :reach AND {_NOT_COMPROMISED} AND number >= {_DAY_FROM}", _DAY_FROM)
_EVER_ENDED = _Rows(f"(revocation <> 0 OR not_after <= :reach) AND {_NOT_COMPROMISED}", "0")


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
        """Note what became of one: what it denied, its change, its end."""
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
        for row in self._select("number < ? ORDER BY number DESC LIMIT ?", before or _MAX_NUMBER, limit):
            page.append(_revocation(row))
            size += len(row[2])
            if size > _PAGE_BYTES:
                break
        return page

    def standing(self) -> Sequence[Revocation]:
        """Those that block somebody now."""
        return [*map(_revocation, self._select("lifted_at IS NULL AND kind IN ('entry', 'spiffe-id', 'selector')"))]

    def blocks(self) -> Blocks:
        """What those that block somebody block; read anew only after a change of them."""
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

    def falling(self, where: Live, *, now: datetime) -> Falling:
        """What of live credentials `deny` would end."""
        condition, arguments = _condition(_LIVE, where, now)
        rows = self._connection.execute(
            "SELECT kind, spiffe_id, node_id, audiences, count(*), max(not_after), count(*) OVER (), sum(count(*)) OVER ()"  # noqa: S608 - our own texts
            f" FROM credential WHERE {condition} GROUP BY kind, spiffe_id, node_id, audiences"
            f" ORDER BY spiffe_id, node_id, kind, audiences LIMIT {_MOST_GROUPS}",
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

    def is_any(self, where: Live, *, now: datetime, is_leak: bool = False) -> bool:
        """Whether `deny` would deny anything; of a leak: or `compromise` find anything."""
        looks = (_condition(rows, where, now) for rows in (_LIVE, _OVER, *([_ended(where)] if is_leak else [])))
        return any(
            self._connection.execute(
                f"SELECT 1 FROM credential WHERE {condition} LIMIT 1",  # noqa: S608 - our own texts
                {**arguments, "revocation": 0},
            ).fetchone()
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

    def compromise(self, where: Live, *, revocation: int, now: datetime) -> int:
        """Let keys count as compromised of certificates that had ended before; how many those were."""
        condition, arguments = _condition(_ended(where), where, now)
        found = self._connection.execute(
            f"UPDATE credential SET revocation = :revocation WHERE {condition} RETURNING serial",  # noqa: S608 - our own texts
            {**arguments, "revocation": revocation},
        ).fetchall()
        self._connection.execute(
            "UPDATE denial SET is_compromised = 1 WHERE serial IN (SELECT value FROM json_each(?))",
            (codec.texts_to_json(serial for (serial,) in found),),
        )
        return len(found)

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
            f" ORDER BY number LIMIT 1), {end}), short_from = coalesce("
            f"(SELECT number FROM credential WHERE number >= {SHORT_FROM} AND kind <> 'authority' AND not_after > :now"
            f" AND NOT {IS_LONG} ORDER BY number LIMIT 1), {end}), open_from = coalesce("
            f"(SELECT number FROM credential WHERE number >= {OPEN_FROM} AND {_OF_USE}"
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


def _ended(where: Live) -> _Rows:
    """Those that had ended before and may be compromised: what is named by serial is found however old it is."""
    return _ENDED if where.serials is None else _EVER_ENDED


def _moments(now: datetime) -> dict[str, int]:
    """Those that conditions name."""
    before = {"now": timedelta(), "lagging": KEPT_FOR, "reach": _REACH}
    return {name: codec.to_micros(now - time) for name, time in before.items()}


def _condition(rows: _Rows, where: Live, now: datetime) -> tuple[str, dict[str, _Argument]]:
    """The condition of those rows that are named."""
    conditions = [
        rows.condition,
        "state <> 'failed'",
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
            conditions.append(f"number >= {rows.first} AND spiffe_id = :spiffe_id")
    if where.issued_until is not None:
        # An iat is in whole seconds. What is of the future was signed before now, while the clock was ahead, and nobody knows when.
        conditions.append(
            "(iif(kind = 'jwt', issued_at - issued_at % 1000000, issued_at) <= :issued_until OR issued_at > :now)"
        )
        arguments["issued_until"] = codec.to_micros(where.issued_until)
    return " AND ".join(conditions), arguments


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
