"""Conversion of the messages of the attestor's Callers service to our values: the only module that knows both.

It decides which messages are usable. svid/workloadapi/callers puts them together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from svid.spiffeid import SpiffeID
from svid.wire.denials import read_age
from svid.wire.pb import callers_pb2 as pb

__all__ = ["CallersMessage", "read_declared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersMessage:
    """One message of the stream: a list of identities with their callers, or a part of it.

    Attributes:
        unchanged: the last list still holds; this message has no identities.
        more: the next message continues the list.
        callers: by identity, the default one first; None means that nobody declared who may call it.
        age: how long ago the attestor heard from the issuer; None if it does not know.
    """

    unchanged: bool
    more: bool
    callers: Mapping[SpiffeID, frozenset[SpiffeID] | None]
    age: timedelta | None


def read_declared(message: pb.DeclaredCallers) -> CallersMessage:
    """Read a message of Follow.

    Raises:
        SpiffeIDError: an identity or a caller is not a SPIFFE ID.
        SVIDError: the age is invalid.
    """
    return CallersMessage(
        unchanged=message.unchanged,
        more=message.more,
        callers={
            SpiffeID.parse(one.spiffe_id): frozenset(map(SpiffeID.parse, one.callers)) if one.declared else None
            for one in message.identities
        },
        age=read_age(message.age) if message.HasField("age") else None,
    )
