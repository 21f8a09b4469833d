"""Conversion between the messages of the attestor's Denials service and our values: the only module that knows both.

It decides which messages are usable, in either direction. svid/workloadapi/denials applies them.
"""

from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from svid.denials import Denial, pack, unpack
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain
from svid.wire.pb import denials_pb2 as pb

__all__ = [
    "MAX_POINT_BYTES",
    "DenialsMessage",
    "Enforced",
    "Epoch",
    "check_point",
    "read_age",
    "read_denied",
    "read_enforced",
    "write_denied",
    "write_enforced",
]

MAX_POINT_BYTES = 256
"""The maximum length of an enforcement point's name, in UTF-8."""

_MAX_AGE = 315_576_000_000  # ten thousand years, where a Duration ends
_BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A place in the issuer's change log.

    Attributes:
        incarnation: the incarnation of the store that the number belongs to.
    """

    incarnation: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialsMessage:
    """One message of the stream: further denials.

    Attributes:
        epoch: the epoch that a receiver has reached once it applied this message and all before it; None if the next message is `more` of
            the same.
        snapshot: whether it is part of the snapshot of all denials, with which a stream begins.
        age: how long ago the attestor heard from the issuer; None if it does not know.
    """

    trust_domain: TrustDomain
    epoch: Epoch | None
    snapshot: bool
    denials: tuple[Denial, ...]
    age: timedelta | None

    @property
    def more(self) -> bool:
        """Whether the next message continues the same snapshot or change."""
        return self.epoch is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """The receipt of an enforcement point: it enforces everything up to this epoch.

    Attributes:
        gone: the point no longer exists, but its process goes on.
    """

    epoch: Epoch
    point: str
    gone: bool = False


def read_denied(message: pb.Denied) -> DenialsMessage:
    """Read a message of Follow.

    Raises:
        SpiffeIDError: the trust domain is invalid.
        SVIDError: the numbers, the ends, the epoch or the age are invalid.
    """
    return DenialsMessage(
        trust_domain=TrustDomain.parse(message.trust_domain),
        epoch=None if message.more else _read_epoch(message.epoch),
        snapshot=message.snapshot,
        denials=unpack(message.numbers, message.ends),
        age=read_age(message.age) if message.HasField("age") else None,
    )


def write_denied(value: DenialsMessage) -> pb.Denied:
    """Write a message of Follow."""
    numbers, ends = pack(value.denials)
    return pb.Denied(
        trust_domain=str(value.trust_domain),
        epoch=None if value.epoch is None else _write_epoch(value.epoch),
        snapshot=value.snapshot,
        more=value.more,
        numbers=numbers,
        ends=ends,
        age=None if value.age is None else _write_age(value.age),
    )


def read_enforced(request: pb.EnforcedRequest) -> Enforced:
    """Read a receipt.

    Raises:
        SVIDError: there is no epoch, or the point's name is empty or too long.
    """
    check_point(request.point)
    return Enforced(epoch=_read_epoch(request.epoch), point=request.point, gone=request.gone)


def write_enforced(value: Enforced) -> pb.EnforcedRequest:
    """Write a receipt."""
    return pb.EnforcedRequest(epoch=_write_epoch(value.epoch), point=value.point, gone=value.gone)


def check_point(point: str) -> None:
    """Check the name of an enforcement point.

    Raises:
        SVIDError: it is empty or too long, or cannot be encoded as UTF-8.
    """
    try:
        size = len(point.encode())
    except UnicodeEncodeError as e:
        raise SVIDError(f"point: not valid Unicode: {point!r}") from e
    if not 1 <= size <= MAX_POINT_BYTES:
        raise SVIDError(f"point: expected 1 to {MAX_POINT_BYTES} bytes, found {size}")


def _read_epoch(epoch: pb.Epoch) -> Epoch:
    if not epoch.incarnation:
        raise SVIDError("epoch: the incarnation is missing")
    return Epoch(incarnation=epoch.incarnation, number=epoch.number)


def _write_epoch(epoch: Epoch) -> pb.Epoch:
    return pb.Epoch(incarnation=epoch.incarnation, number=epoch.number)


def read_age(age: Duration) -> timedelta:
    """Read an age; SVIDError if it is not a length of time."""
    if not (0 <= age.seconds <= _MAX_AGE and 0 <= age.nanos < _BILLION):
        raise SVIDError(f"age: expected a length of time, found {age.seconds} s and {age.nanos} ns")
    return timedelta(
        seconds=age.seconds, microseconds=-(-age.nanos // 1000)
    )  # rounded up, so that it never seems younger than it is


def _write_age(age: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(age)
    return duration
