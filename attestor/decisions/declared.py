"""Who may call the identities of a process, as its entries declare it, and how that is cut into messages.

It decides nothing about who gets an identity (cognomen/rulebook/matching). The service itself refuses callers (svid/tls/declared).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cognomen.protocol.entry import RegistrationEntry
from svid.spiffeid import SpiffeID

__all__ = ["Declared", "declared_by", "length", "pieces"]

_PIECE_BYTES = 32 * 1024  # of texts in a message, which stays in memory for a process that does not read
_FRAME_BYTES = 4  # a tag, and a length


@dataclass(frozen=True, slots=True)
class Declared:
    """Who may call an identity; None: no entry says so, and nobody may."""

    spiffe_id: SpiffeID
    callers: tuple[SpiffeID, ...] | None


def declared_by(entries: Iterable[RegistrationEntry]) -> tuple[Declared, ...]:
    """Each SPIFFE ID of these entries once, in their order, with the callers that any of its entries declares."""
    found: dict[SpiffeID, tuple[SpiffeID, ...] | None] = {}
    for entry in entries:
        known = found.setdefault(entry.spiffe_id, entry.callers)
        if known is None or (entry.callers is not None and entry.callers != known):
            both = entry.callers if known is None else (*known, *(entry.callers or ()))
            found[entry.spiffe_id] = None if both is None else tuple(sorted(set(both), key=str))
    return tuple(Declared(spiffe_id, callers) for spiffe_id, callers in found.items())


def length(declared: Iterable[Declared]) -> int:
    """About how many bytes they take in messages."""
    return sum(_length(one.spiffe_id) + sum(map(_length, one.callers or ())) for one in declared)


def pieces(declared: Iterable[Declared]) -> Iterator[Sequence[Declared]]:
    """Cut them for messages of bounded size, at least one; an identity whose callers go on in the next one is there again."""
    piece: list[Declared] = []
    room = _PIECE_BYTES
    for one in declared:
        callers = one.callers or ()
        done = 0
        while True:
            room -= _length(one.spiffe_id)
            start = done
            while done < len(callers) and room > 0:
                room -= _length(callers[done])
                done += 1
            piece.append(Declared(one.spiffe_id, None if one.callers is None else callers[start:done]))
            if room <= 0:
                yield piece
                piece, room = [], _PIECE_BYTES
            if done == len(callers):
                break
    yield piece


def _length(spiffe_id: SpiffeID) -> int:
    return _FRAME_BYTES + len("spiffe://") + len(spiffe_id.trust_domain.name) + len(spiffe_id.path)
