"""What the attestor asks of the issuer."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography import x509

from attestor.decisions.node import Node, NodeCredential
from attestor.decisions.sync import Change
from cognomen.daemon.errors import Refused
from cognomen.daemon.invite import Invite
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Enforcement
from svid.entry import EntryID

__all__ = [
    "MAX_BATCH",
    "Evidence",
    "IssuerClient",
    "JWTRequest",
    "JoinDoor",
    "MintedJWT",
    "MintedX509",
    "X509Request",
]

MAX_BATCH = 200
"""The most items that one mint of tokens may hold: the issuer takes 512 KiB, and an item may have 2 KiB of audiences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a node attestor has to show, and how it answers a challenge."""

    attestor: str
    evidence: bytes = field(repr=False)
    answer: Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """An X509-SVID wanted: for this entry and this SubjectPublicKeyInfo."""

    entry_id: EntryID
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedX509:
    """An X509-SVID without its key, leaf first."""

    chain: tuple[x509.Certificate, ...]
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRequest:
    """A JWT-SVID wanted: for this entry and these audiences."""

    entry_id: EntryID
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedJWT:
    """A JWT-SVID."""

    token: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime


class JoinDoor(Protocol):
    """The issuer, as seen by whoever has no valid node SVID; every call has a deadline of its own.

    Raises:
        Refused: with the issuer's kind; UNAVAILABLE when it cannot be reached.
    """

    async def join(self, invite: Invite, evidence: Evidence, public_key: bytes) -> NodeCredential:
        """Prove this node at the join door."""

    async def readmit(self, node: Node, public_key: bytes) -> NodeCredential:
        """Come back as this node, whose SVID ran out, by its key; the next SVID is for the new key."""


class IssuerClient(Protocol):
    """The issuer, as seen from a node; every call has a deadline of its own.

    Raises:
        Refused: with the issuer's kind; UNAVAILABLE when it cannot be reached.
    """

    async def use(self, node: Node) -> None:
        """Speak as this node from now on, trusting its bundle; calls under way end as they were, the feed ends."""

    async def renew(self, public_key: bytes) -> NodeCredential:
        """Get the next node SVID, for a new key."""

    def follow(self, cursor: Cursor | None) -> AsyncGenerator[Change, None]:
        """Follow the feed from there; whole steps only."""

    async def acknowledge(self, cursor: Cursor, enforcement: Enforcement) -> datetime | None:
        """Say what has been applied, and how far the enforcement points are.

        The answer is what the issuer's clock says, None from one that is older than we are.
        """

    async def mint_x509(self, requests: Sequence[X509Request]) -> Sequence[MintedX509 | Refused]:
        """Mint a batch, answers in order."""

    async def mint_jwt(self, requests: Sequence[JWTRequest]) -> Sequence[MintedJWT | Refused]:
        """Mint a batch, answers in order."""
