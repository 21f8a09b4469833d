"""What one item of a mint must satisfy, and the draft that it becomes: the entry is this node's, the key is usable and nobody else's.

How a draft looks is decided in profile; which parents a node has in entitlement; how many audiences in cognomen/daemon/audiences.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from cognomen.daemon.audiences import check_audiences
from cognomen.daemon.errors import Kind, Refused
from issuer.decisions import profile
from issuer.decisions.audit import CredentialKind, NodeID
from issuer.decisions.authority import Authority
from issuer.decisions.budget import mint_cost
from issuer.decisions.entitlement import entry_ends_at, is_entitled
from issuer.decisions.profile import Intent, JWTDraft, Validity, X509Draft
from issuer.decisions.revocation import Blocks
from svid.entry import MAX_ENTRY_ID_BYTES, EntryID, RegistrationEntry
from svid.errors import UnusableKeyError
from svid.keys import KeyKind, PublicKey, kind_of, public_key_from_der, thumbprint
from svid.spiffeid import SpiffeID

__all__ = [
    "Granting",
    "Holder",
    "JWTWish",
    "Wish",
    "X509Wish",
    "check_batch",
    "check_holder",
    "judge",
    "jwt_wish",
    "parse_key",
    "shared_keys",
    "x509_wish",
]

_MAX_ITEMS = 1000
_MAX_KEY_BYTES = 1024
_CERTIFIED_KINDS = frozenset({KeyKind.EC_P256, KeyKind.EC_P384})
"""The kinds of key that we certify for nodes and workloads."""

DraftT = TypeVar("DraftT", X509Draft, JWTDraft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Under what a key was certified: an entry on a node; no entry: the node's own.

    Args:
        is_compromised: a certificate for this key was revoked because somebody else may have it.
    """

    entry_id: EntryID | None
    node_id: NodeID | None
    is_compromised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Granting:
    """What the items of one batch are judged by: how things stand in the transaction that decides.

    Args:
        parents: whose entries are the node's.
        parent_ends: when those of them end that end by themselves.
        blocks: who gets nothing signed any more.
        entries: those that the batch names, where they are there.
        ttl: of entries that name none.
        holders: of the batch's keys, those that were certified before.
        shared: the batch's keys that it names under several entries.
    """

    node_id: NodeID
    parents: Collection[SpiffeID]
    parent_ends: Mapping[SpiffeID, datetime]
    blocks: Blocks
    entries: Mapping[EntryID, RegistrationEntry]
    authority: Authority
    ttl: timedelta
    now: datetime
    holders: Mapping[str, Holder]
    shared: Collection[str]

    def validity(self, entry: RegistrationEntry, ttl: timedelta) -> Validity:
        """Until when an SVID of that entry may live.

        Raises:
            Refused: as profile.entry_validity
        """
        ends_at = entry_ends_at(entry, self.parent_ends)
        return profile.entry_validity(entry, ttl=ttl, ends_at=ends_at, now=self.now, authority=self.authority)


class Wish(Protocol[DraftT]):
    """One item of a batch, parsed."""

    @property
    def entry_id(self) -> EntryID:
        """The entry that it names."""

    @property
    def key_hash(self) -> str:
        """The key that it wants certified; empty: none."""

    @property
    def cost(self) -> float:
        """What it takes from the budgets of its entry and node."""

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[DraftT]:
        """What is to be signed for that entry, which is the node's.

        Raises:
            Refused: INVALID, DENIED
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Wish:
    """An X509-SVID wanted."""

    entry_id: EntryID
    public_key: bytes
    key_hash: str
    serial: int
    cost: float = 1

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[X509Draft]:
        """As Wish."""
        if self.key_hash in by.shared:
            raise Refused(Kind.INVALID, "public_key: expected a key for each entry, found one under several")
        check_holder(by.holders.get(self.key_hash), Holder(entry_id=entry.id, node_id=by.node_id))
        ttl = entry.x509_svid_ttl or by.ttl
        validity = by.validity(entry, ttl)
        draft = profile.build_x509(entry, self.public_key, serial=self.serial, validity=validity)
        return Intent(kind=CredentialKind.X509, draft=draft, entry=entry, node_id=by.node_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTWish:
    """A JWT-SVID wanted."""

    entry_id: EntryID
    audiences: tuple[str, ...]
    jti: str
    cost: float
    key_hash: str = ""

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[JWTDraft]:
        """As Wish."""
        ttl = entry.jwt_svid_ttl or by.ttl
        validity = by.validity(entry, ttl)
        draft = profile.build_jwt(entry, self.audiences, jti=self.jti, validity=validity)
        return Intent(kind=CredentialKind.JWT, draft=draft, entry=entry, node_id=by.node_id)


def x509_wish(entry_id: EntryID, public_key: bytes, *, serial: int) -> X509Wish | Refused:
    """Parse an item; what is wrong with it refuses it alone."""
    try:
        _check_entry_id(entry_id)
        parse_key(public_key)
    except Refused as refused:
        return refused
    return X509Wish(entry_id=entry_id, public_key=public_key, key_hash=thumbprint(public_key), serial=serial)


def jwt_wish(entry_id: EntryID, audiences: tuple[str, ...], *, serial: int) -> JWTWish | Refused:
    """Parse an item; what is wrong with it refuses it alone."""
    try:
        _check_entry_id(entry_id)
        check_audiences(audiences, field="audiences")
    except Refused as refused:
        return refused
    jti, cost = profile.serial_to_text(serial), mint_cost(audiences)
    return JWTWish(entry_id=entry_id, audiences=audiences, jti=jti, cost=cost)


def check_batch(size: int) -> None:
    """Bound a batch as a whole.

    Raises:
        Refused: INVALID
    """
    if not 1 <= size <= _MAX_ITEMS:
        raise Refused(Kind.INVALID, f"items: expected 1 to {_MAX_ITEMS}, found {size}")


def _check_entry_id(entry_id: EntryID) -> None:
    """Bound what an item names its entry by, which is kept in memory for a while.

    Raises:
        Refused: INVALID
    """
    if len(entry_id) > MAX_ENTRY_ID_BYTES:
        raise Refused(
            Kind.INVALID, f"entry_id: expected at most {MAX_ENTRY_ID_BYTES} characters, found {len(entry_id)}"
        )


def parse_key(der: bytes) -> PublicKey:
    """Parse a public key that somebody wants certified.

    Raises:
        Refused: INVALID, for another type or curve than we certify.
    """
    if len(der) > _MAX_KEY_BYTES:
        raise Refused(Kind.INVALID, f"public_key: expected at most {_MAX_KEY_BYTES} bytes, found {len(der)}")
    try:
        key = public_key_from_der(der)
    except UnusableKeyError as e:
        raise Refused(Kind.INVALID, f"public_{e}") from e
    if kind_of(key) not in _CERTIFIED_KINDS:
        raise Refused(
            Kind.INVALID, f"public_key: expected {' or '.join(sorted(_CERTIFIED_KINDS))}, found {kind_of(key)}"
        )
    return key


def _entry(entry_id: EntryID, by: Granting) -> RegistrationEntry:
    """The entry, if this node may mint for it; an unknown one and somebody else's are refused alike.

    Raises:
        Refused: DENIED
    """
    entry = by.entries.get(entry_id)
    if entry is None or entry.parent_id not in by.parents:
        raise Refused(Kind.DENIED, "entry_id: expected an entry of this node, found none")
    if is_entitled(entry, by.parents, blocks=by.blocks, now=by.now):
        return entry
    if by.blocks.entry(entry):
        raise Refused(Kind.DENIED, "entry_id: expected an entry that is not blocked, found one that was revoked")
    raise Refused(Kind.DENIED, "entry_id: expected an entry that is not over, found one that is")


def judge(wish: Wish[DraftT], by: Granting) -> Intent[DraftT] | Refused:
    """What is to be signed for an item, or why it is not."""
    try:
        return wish.intent(_entry(wish.entry_id, by), by)
    except Refused as refused:
        return refused


def check_holder(known: Holder | None, wanted: Holder) -> None:
    """Refuse a key that the ledger knows under something else, for one key proves one identity on one node; and one that leaked.

    Raises:
        Refused: DENIED
    """
    if known is not None and known.is_compromised:
        raise Refused(Kind.DENIED, "public_key: expected a new key, found one that was revoked as compromised")
    if known is not None and known != wanted:
        raise Refused(Kind.DENIED, "public_key: expected a new key, found one certified for another entry or node")


def shared_keys(items: Iterable[tuple[EntryID, str]]) -> frozenset[str]:
    """The hashes of keys that one batch names under more than one entry.

    Args:
        items: entry and key hash of each item.
    """
    entries: defaultdict[str, set[EntryID]] = defaultdict(set)
    for entry_id, key_hash in items:
        entries[key_hash].add(entry_id)
    return frozenset(key_hash for key_hash, ids in entries.items() if len(ids) > 1)
