"""JWT-SVIDs that may have been exchanged for tokens that still live: expired ones too, and those that were denied."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from sqlite3 import Connection

from cognomen.protocol.entry import MAX_TTL
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import IS_LONG, LIVE_FROM, SHORT_FROM
from issuer.datastore.sqlite.named import Argument, Rows, condition_of
from issuer.decisions.revocation import Live

__all__ = ["last_ends"]

_SHORT = timedelta(hours=2)  # as marks.IS_LONG
_SLACK = timedelta(minutes=2)  # rows are in the order in which they were signed, but for small corrections of the clock
_OF_USE = "kind = 'jwt' AND not_after > :since"
_FROM, _DAY_FROM = f"min(:short_from, {SHORT_FROM})", f"min(:long_from, {LIVE_FROM})"
_SHORT_LIVED = Rows(f"{_OF_USE} AND number >= {_FROM}", _FROM)
_LONG_LIVED = Rows(f"{_OF_USE} AND {IS_LONG}", _DAY_FROM)
"""Two queries: in one, SQLite would search the whole ledger."""


def last_ends(
    connection: Connection, where: Live, *, audiences: Collection[str], since: datetime, now: datetime
) -> Mapping[str, datetime]:
    """When the last of the named JWT-SVIDs for each of these audiences expires, of those that expire after `since`.

    It reads no row that was signed too long before `since`. If the clock was once set back by minutes, it may miss some that have expired.
    """
    given: dict[str, Argument] = {
        "now": codec.to_micros(now),
        "since": codec.to_micros(since),
        "short_from": _first_signed(connection, since - _SHORT - _SLACK),
        "long_from": _first_signed(connection, since - MAX_TTL - _SLACK),
        "audiences": codec.texts_to_json(audiences),
    }
    ends: dict[str, datetime] = {}
    for rows in (_SHORT_LIVED, _LONG_LIVED):
        condition, arguments = condition_of(rows, where, given)
        found = connection.execute(
            "SELECT audience.value, max(not_after) FROM credential, json_each(audiences) AS audience"  # noqa: S608 - our own texts
            f" WHERE {condition} AND audience.value IN (SELECT value FROM json_each(:audiences)) GROUP BY audience.value",
            arguments,
        )
        for audience, micros in found:
            end = codec.from_micros(micros)
            ends[audience] = max(end, ends.get(audience, end))
    return ends


def _first_signed(connection: Connection, moment: datetime) -> int:
    """The first row that was signed then or later, found by halving: no index has the time of signing."""
    (low, high) = connection.execute(
        "SELECT (SELECT coalesce(min(number), 0) FROM credential), (SELECT coalesce(max(number), 0) + 1 FROM credential)"
    ).fetchone()
    wanted = codec.to_micros(moment)
    while low < high:
        middle = (low + high) // 2
        number, issued_at = connection.execute(
            "SELECT number, issued_at FROM credential WHERE number >= ? AND kind <> 'authority' ORDER BY number LIMIT 1",
            (middle,),
        ).fetchone() or (high, wanted)
        if issued_at >= wanted:
            high = middle
        else:
            low = int(number) + 1
    return int(low)
