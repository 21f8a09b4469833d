"""Entries that only observe, and what the issuer knows of what they would have given: values, and when an entry begins or ceases to.

How a node's reports are bounded: issuer/flows/record_uses. Why there are such entries: ADR-0031.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from svid.spiffeid import SpiffeID

__all__ = ["ObservedEntry", "ObservedProgram", "Turns", "turns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedEntry:
    """An entry that only observes.

    Args:
        since: when it began to.
    """

    entry_id: EntryID
    spiffe_id: SpiffeID
    parent_id: SpiffeID
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedProgram:
    """The processes of one uid and executable that would have been given SVIDs of an entry, or refused for an audience.

    Args:
        refused_audience: empty: they would have been given SVIDs.
        pid: 0: several processes.
        nodes: on how many they ran.
        processes: how many there were at least.
        times: how often they asked; a report that was sent twice counts twice.
        x509, jwt: the kinds of SVIDs.
    """

    uid: int
    executable: str
    refused_audience: str
    pid: int
    nodes: int
    processes: int
    times: int
    first_at: datetime
    last_at: datetime
    x509: bool
    jwt: bool


class Turns(NamedTuple):
    """Which entries begin to observe with a change, and which cease to."""

    begin: tuple[EntryID, ...]
    end: tuple[EntryID, ...]


def turns(steps: Iterable[tuple[RegistrationEntry | None, RegistrationEntry | None]]) -> Turns:
    """Find them among entries before and after a change; None: it does not exist."""
    begin: list[EntryID] = []
    end: list[EntryID] = []
    for before, after in steps:
        was, now = before is not None and before.observe, after is not None and after.observe
        if now and not was and after is not None:
            begin.append(after.id)
        elif was and not now and before is not None:
            end.append(before.id)
    return Turns(tuple(begin), tuple(end))
