"""Denials: credentials that were revoked before they expired; a verifier that holds a denial refuses its credential.

A credential is identified by its number: a certificate's serial, or the `jti` of a JWT-SVID. Both come from the same number space, and are
unique in a trust domain. Denials come from svid/workloadapi/denials in a workload, and from attestor/flows/follow_feed on a node.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from svid.errors import DenialError

__all__ = [
    "KEPT_FOR",
    "OPEN_FOR",
    "SERIAL_BYTES",
    "SILENT_AFTER",
    "Denial",
    "Denials",
    "number_of_jti",
    "pack",
    "unpack",
]

SERIAL_BYTES = 16
"""The size of a number: 128 bits."""

KEPT_FOR = timedelta(minutes=5)
"""How long a denial is kept after it is no longer needed, for verifiers whose clocks are slow."""

OPEN_FOR = timedelta(days=1)
"""How long a connection may stay open after its peer's certificate expired; for the same time, that certificate can be denied."""

SILENT_AFTER = timedelta(seconds=15)
"""How long an attestor that has sent something on a stream of its own may be silent: it sends a message every 5 s."""

_MAX_END = 253_402_300_799  # the last second of year 9999, where datetime ends
_JTI = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Denial:
    """A credential that was revoked before it expired.

    Args:
        number: its serial or jti.
        ends_at: until when the denial is needed, in whole seconds: until a token expires, or until OPEN_FOR after a certificate expires.
    """

    number: int
    ends_at: datetime


def number_of_jti(jti: str | None) -> int | None:
    """The number that a jti stands for; None if the jti is not one of ours.

    Shape: 32 digits, lower-case hexadecimal
    """
    return int(jti, 16) if jti is not None and _JTI.fullmatch(jti) else None


def pack(denials: Iterable[Denial]) -> tuple[bytes, list[int]]:
    """Encode denials for both protocols: the numbers back to back, SERIAL_BYTES each, big-endian; the ends in seconds since 1970."""
    numbers, ends = bytearray(), []
    for denial in denials:
        numbers += denial.number.to_bytes(SERIAL_BYTES)
        ends.append(int(denial.ends_at.timestamp()))
    return bytes(numbers), ends


def unpack(numbers: bytes, ends: Sequence[int]) -> tuple[Denial, ...]:
    """Decode the result of `pack`.

    Raises:
        DenialError: the numbers and ends differ in count, or an end is outside the calendar.
    """
    if len(numbers) % SERIAL_BYTES:
        raise DenialError(f"numbers: expected a multiple of {SERIAL_BYTES} bytes, found {len(numbers)}")
    if len(numbers) != SERIAL_BYTES * len(ends):
        raise DenialError(f"ends: expected one for each of {len(numbers) // SERIAL_BYTES} numbers, found {len(ends)}")
    each = (numbers[at : at + SERIAL_BYTES] for at in range(0, len(numbers), SERIAL_BYTES))
    return tuple(Denial(int.from_bytes(number), _end(seconds)) for number, seconds in zip(each, ends, strict=True))


def _end(seconds: int) -> datetime:
    if not 0 <= seconds <= _MAX_END:
        raise DenialError(f"ends: expected seconds since 1970, up to {_MAX_END}, found {seconds}")
    return datetime.fromtimestamp(seconds, UTC)


class Denials:
    """The denials of one trust domain: a denial is removed only when it is no longer needed.

    Only one thread may add and forget; any thread may read.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, number: object) -> bool:
        return number in self._ends

    def add(self, denials: Iterable[Denial]) -> tuple[int, ...]:
        """Add these denials, and return the numbers that are new."""
        new = []
        for denial in denials:
            if denial.number not in self._ends:
                new.append(denial.number)
            self._ends[denial.number] = int(denial.ends_at.timestamp())
        return tuple(new)

    def forget(self, now: datetime) -> None:
        """Forget the denials that have not been needed for KEPT_FOR."""
        before = int((now - KEPT_FOR).timestamp())
        if any(end < before for end in self._ends.values()):
            self._ends = {number: end for number, end in self._ends.items() if end >= before}

    def all(self) -> tuple[Denial, ...]:
        """All denials, in the order in which they came."""
        return tuple(Denial(number, datetime.fromtimestamp(end, UTC)) for number, end in self._ends.items())
