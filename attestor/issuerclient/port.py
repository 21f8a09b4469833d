"""The calls that the attestor makes to the issuer."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography import x509

from attestor.decisions.node import Node, NodeCredential
from attestor.decisions.sync import Change
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.invite import Invite
from cognomen.protocol.questions import Answer
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.uses import EntryUse, ReportedUses
from svid.keys import PrivateKey

__all__ = [
    "MAX_BATCH",
    "AnswerDoor",
    "Evidence",
    "IssuerClient",
    "JWTRequest",
    "JoinDoor",
    "MintedJWT",
    "MintedX509",
    "X509Request",
]

MAX_BATCH = 200
"""The most items in one call that mints tokens: the issuer accepts 512 KiB, and an item may have 2 KiB of audiences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a node attestor presents, and how it answers a challenge.

    Args:
        node_name: what the node calls itself, for people; empty: it does not say.
    """

    attestor: str
    evidence: bytes = field(repr=False)
    answer: Callable[[bytes], Awaitable[bytes]]
    node_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """A request for an X509-SVID, for this entry and this SubjectPublicKeyInfo."""

    entry_id: EntryID
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedX509:
    """An X509-SVID without its key, leaf first."""

    chain: tuple[x509.Certificate, ...]
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRequest:
    """A request for a JWT-SVID, for this entry and these audiences."""

    entry_id: EntryID
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedJWT:
    """A JWT-SVID."""

    token: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime


class JoinDoor(Protocol):
    """The issuer as a node without a valid SVID sees it; every call has its own deadline.

    Raises:
        Refused: with the issuer's kind; UNAVAILABLE when it cannot be reached.
    """

    async def join(self, invite: Invite, evidence: Evidence, key: PrivateKey) -> NodeCredential:
        """Prove this node's identity at the join door; its SVID is for this key, which signs the request and never leaves the node."""

    async def readmit(self, node: Node, key: PrivateKey) -> NodeCredential:
        """Come back as this node, whose SVID has expired, with its key; the next SVID is for the new key."""


class AnswerDoor(Protocol):
    """The issuer as one that asks questions; every call has its own deadline.

    Raises:
        Refused: with the issuer's kind; UNAVAILABLE when it cannot be reached.
    """

    async def answer(self, question_id: str, answer: Answer) -> bool:
        """Answer a question that came on the feed; False if nobody waits for it any more."""


class IssuerClient(Protocol):
    """The issuer as a node sees it; every call has its own deadline.

    Raises:
        Refused: with the issuer's kind; UNAVAILABLE when it cannot be reached.
    """

    async def use(self, node: Node) -> None:
        """Act as this node from now on and trust its bundle; calls under way finish unchanged, the feed ends."""

    async def renew(self, key: PrivateKey) -> NodeCredential:
        """Get the next node SVID, for a new key."""

    def follow(self, cursor: Cursor | None) -> AsyncGenerator[Change, None]:
        """Follow the feed from that cursor, in whole steps; Refused (UNAVAILABLE) also if nothing arrives for 30 s."""

    async def acknowledge(
        self, cursor: Cursor, enforcement: Enforcement, reported: ReportedUses | None = None
    ) -> datetime | None:
        """Report what has been applied, how far the enforcement points have come, and of which time every use was reported.

        Returns the issuer's time; None if the issuer is an older version that does not send it.
        """

    async def mint_x509(self, requests: Sequence[X509Request]) -> Sequence[MintedX509 | Refused]:
        """Mint a batch, answers in order."""

    async def mint_jwt(self, requests: Sequence[JWTRequest]) -> Sequence[MintedJWT | Refused]:
        """Mint a batch, answers in order."""

    async def report_uses(self, uses: Sequence[EntryUse], *, last: ReportedUses | None = None) -> bool:
        """Report which processes were given SVIDs, at most MOST_REPORTED; they are stored when this returns.

        With `last`, it is the last report of an attestor that gives nobody an SVID any more.

        Returns False if the issuer is an older version that does not take reports.
        """
