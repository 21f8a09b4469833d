"""Uses of identities that are right, for tests to bend."""

from dataclasses import replace
from datetime import UTC, datetime

from cognomen.protocol.entry import EntryID
from cognomen.protocol.uses import EntryUse

__all__ = ["a_use"]

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_USE = EntryUse(
    entry_id=EntryID("web"),
    uid=1001,
    account=1001,
    gid=1002,
    pid=4711,
    started=77,
    executable="/usr/bin/db",
    processes=1,
    first_at=_NOON,
    last_at=_NOON,
    x509=True,
    jwt=False,
)


def a_use(**fields: object) -> EntryUse:
    """A use with these fields."""
    return replace(_USE, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments
