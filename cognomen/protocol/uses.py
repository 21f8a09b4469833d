"""Which process used an identity, as values that issuer and attestor share: a use is an SVID that was given to a process.

Of an entry that only observes, it is an SVID that would have been given, or refused for an audience (ADR-0031).

How the attestor notices: attestor/uses. How the issuer keeps it: issuer/flows/record_uses.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.protocol.entry import EntryID
from cognomen.protocol.printable import printable

__all__ = [
    "MOST_AUDIENCES",
    "MOST_EXECUTABLE",
    "MOST_REPORTED",
    "MOST_UNREPORTED",
    "OTHER_AUDIENCES",
    "EntryUse",
    "ReportedUses",
    "short_path",
]

MOST_REPORTED = 1000
"""The most rows in one report."""

MOST_EXECUTABLE = 512
"""The most bytes of an executable's path, as UTF-8, that are reported and kept."""

MOST_UNREPORTED = timedelta(minutes=2)
"""How late reports may be, and how long after the last one an attestor may start again, before the time counts as not reported.

An attestor reports twice a minute. One that was killed has lost at most what it had not reported.
"""

MOST_AUDIENCES = 64
"""The most audiences, refused by an entry that only observes, that a node tells apart."""

OTHER_AUDIENCES = "…"
"""Stands for all others."""

_ROOM_FOR_LENGTH = 32  # bytes, in which we say how long it was


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryUse:
    """A process that was given SVIDs of an entry.

    Args:
        account: the user to whom root gave that uid as a subordinate one; otherwise the uid itself.
        pid: 0: several processes, counted together.
        started: clock ticks from boot to the start of the process, which tells processes with the same pid apart; 0: unknown.
        executable: empty: unknown, or several.
        processes: how many processes there were at least.
        first_at, last_at: when it was first and last given one, by the issuer's clock as far as the node knows it.
        x509, jwt: which kinds of SVIDs it was given.
        is_observed: it was given nothing; it would have been, if the entry did more than observe.
        times: how often since the last report, if it is observed.
        refused_audience: if it is observed: for which it would have been refused a JWT-SVID, as `short_path` writes it; empty: it would
            have been given SVIDs.
    """

    entry_id: EntryID
    uid: int
    account: int
    gid: int
    pid: int
    started: int
    executable: str
    processes: int
    first_at: datetime
    last_at: datetime
    x509: bool
    jwt: bool
    is_observed: bool = False
    times: int = 1
    refused_audience: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedUses:
    """The time of which an attestor has reported every use, and the issuer has stored it.

    Args:
        since, until: how long ago it began and ended, by a clock that nobody sets.
    """

    since: timedelta
    until: timedelta


def short_path(path: str) -> str:
    """A path or an audience as reported: printable, with at most MOST_EXECUTABLE bytes as UTF-8; a longer one says how long it was."""
    if path.isprintable() and len(path.encode()) <= MOST_EXECUTABLE:
        return path
    shown = printable(path, most=MOST_EXECUTABLE)
    if len(shown.encode()) <= MOST_EXECUTABLE:
        return shown
    return f"{shown.encode()[: MOST_EXECUTABLE - _ROOM_FOR_LENGTH].decode(errors='ignore')}… ({len(path)} characters)"
