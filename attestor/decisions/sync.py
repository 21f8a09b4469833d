"""What a step of the feed does to what the attestor knows."""

from dataclasses import dataclass

from svid.bundle import Bundle
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Change", "Cursor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where this attestor stands in the issuer's change log."""

    incarnation: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One whole step of the feed: apply all of it, then stand at `cursor`.

    Args:
        snapshot: what it does not name is gone.
        bundle: None: unchanged.
    """

    cursor: Cursor
    snapshot: bool
    entries: tuple[RegistrationEntry, ...] = ()
    gone: tuple[EntryID, ...] = ()
    bundle: Bundle | None = None
