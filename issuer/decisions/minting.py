"""Decide what an item of a mint must satisfy, and which draft it becomes: the entry is this node's, the key usable and nobody else's.

profile decides what a draft looks like, entitlement which parents a node has, cognomen/protocol/audiences how many audiences there are.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from cognomen.protocol.audiences import check_audiences, not_for
from cognomen.protocol.entry import MAX_ENTRY_ID_BYTES, EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.decisions import profile
from issuer.decisions.authority import Authority
from issuer.decisions.budget import mint_cost
from issuer.decisions.entitlement import entry_ends_at, is_entitled
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.profile import Intent, JWTDraft, Validity, X509Draft
from issuer.decisions.revocation import Blocks
from svid.errors import UnusableKeyError
from svid.keys import KeyKind, kind_of, public_key_from_der, thumbprint
from svid.spiffeid import SpiffeID

__all__ = [
    "MAX_ITEMS",
    "Granting",
    "Holder",
    "JWTWish",
    "Wish",
    "X509Wish",
    "check_batch",
    "check_holder",
    "check_not_own",
    "judge",
    "jwt_wish",
    "parse_key",
    "shared_keys",
    "x509_wish",
]

MAX_ITEMS = 1000
"""The most SVIDs that one call may ask for."""

_MAX_KEY_BYTES = 1024
_CERTIFIED_KINDS = frozenset({KeyKind.EC_P256, KeyKind.EC_P384})
"""The kinds of keys that we certify for nodes and workloads."""

DraftT = TypeVar("DraftT", X509Draft, JWTDraft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What a key was certified for: an entry on a node; no entry: the node itself.

    Args:
        is_compromised: a certificate for this key was revoked because somebody else may have it.
    """

    entry_id: EntryID | None
    node_id: NodeID | None
    is_compromised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Granting:
    """What the items of one batch are judged by, as the deciding transaction sees it.

    Args:
        parents: those whose entries are the node's.
        parent_ends: when those parents expire that have an expiry.
        blocks: what we no longer sign for.
        entries: those that the batch names and that exist.
        ttl: the default for entries that name none.
        holders: what those of the batch's keys that were certified before were certified for.
        shared: those of the batch's keys that it names under several entries.
        own_keys: the thumbprints of the keys that we sign with.
        jwt_issuer: what JWT-SVIDs name as their issuer; empty: nothing.
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
    own_keys: Collection[str]
    jwt_issuer: str = ""

    def validity(self, entry: RegistrationEntry, ttl: timedelta) -> Validity:
        """How long an SVID of that entry may be valid.

        Raises:
            Refused: as profile.entry_validity does
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
        """The thumbprint of the key to be certified; empty: none."""

    @property
    def cost(self) -> float:
        """What it costs the budgets of its entry and its node."""

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[DraftT]:
        """What to sign for that entry, which is the node's.

        Raises:
            Refused: INVALID, DENIED
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Wish:
    """A request for an X509-SVID."""

    entry_id: EntryID
    public_key: bytes
    key_hash: str
    serial: int
    cost: float = 1

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[X509Draft]:
        """As Wish."""
        if self.key_hash in by.shared:
            raise Refused(Kind.INVALID, "public_key: expected a different key for each entry, found one under several")
        check_not_own(self.key_hash, by.own_keys)
        check_holder(by.holders.get(self.key_hash), Holder(entry_id=entry.id, node_id=by.node_id))
        ttl = entry.x509_svid_ttl or by.ttl
        validity = by.validity(entry, ttl)
        draft = profile.build_x509(entry, self.public_key, serial=self.serial, validity=validity)
        return Intent(kind=CredentialKind.X509, draft=draft, entry=entry, node_id=by.node_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTWish:
    """A request for a JWT-SVID."""

    entry_id: EntryID
    audiences: tuple[str, ...]
    jti: str
    cost: float
    key_hash: str = ""

    def intent(self, entry: RegistrationEntry, by: Granting) -> Intent[JWTDraft]:
        """As Wish.

        Raises:
            Refused: DENIED for an audience that the entry does not have.
        """
        if not entry.allows(self.audiences):
            raise not_for(entry.spiffe_id.path, entry.audiences or (), self.audiences)
        ttl = entry.jwt_svid_ttl or by.ttl
        validity = by.validity(entry, ttl)
        draft = profile.build_jwt(entry, self.audiences, jti=self.jti, validity=validity, issuer=by.jwt_issuer)
        return Intent(kind=CredentialKind.JWT, draft=draft, entry=entry, node_id=by.node_id)


def x509_wish(entry_id: EntryID, public_key: bytes, *, serial: int) -> X509Wish | Refused:
    """Parse an item; what is wrong with it refuses it alone."""
    try:
        _check_entry_id(entry_id)
        parse_key(public_key)
    except Refused as refused:
        return refused.with_traceback(None)  # kept as a value: with its frames it would be a cycle
    return X509Wish(entry_id=entry_id, public_key=public_key, key_hash=thumbprint(public_key), serial=serial)


def jwt_wish(entry_id: EntryID, audiences: tuple[str, ...], *, serial: int) -> JWTWish | Refused:
    """Parse an item; what is wrong with it refuses it alone."""
    try:
        _check_entry_id(entry_id)
        check_audiences(audiences, field="audiences")
    except Refused as refused:
        return refused.with_traceback(None)  # kept as a value: with its frames it would be a cycle
    jti, cost = profile.serial_to_text(serial), mint_cost(audiences)
    return JWTWish(entry_id=entry_id, audiences=audiences, jti=jti, cost=cost)


def check_batch(size: int) -> None:
    """Limit the size of a batch.

    Raises:
        Refused: INVALID
    """
    if not 1 <= size <= MAX_ITEMS:
        raise Refused(Kind.INVALID, f"items: expected 1 to {MAX_ITEMS}, found {size}")


def _check_entry_id(entry_id: EntryID) -> None:
    """Limit the entry id of an item, because we keep it in memory for a while.

    Raises:
        Refused: INVALID
    """
    if len(entry_id) > MAX_ENTRY_ID_BYTES:
        raise Refused(
            Kind.INVALID, f"entry_id: expected at most {MAX_ENTRY_ID_BYTES} characters, found {len(entry_id)}"
        )


def parse_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """Parse a public key to be certified.

    Raises:
        Refused: INVALID for a type or curve that we do not certify.
    """
    if len(der) > _MAX_KEY_BYTES:
        raise Refused(Kind.INVALID, f"public_key: expected at most {_MAX_KEY_BYTES} bytes, found {len(der)}")
    try:
        key = public_key_from_der(der)
    except UnusableKeyError as e:
        raise Refused(Kind.INVALID, f"public_{e}") from e
    if not isinstance(key, ec.EllipticCurvePublicKey) or kind_of(key) not in _CERTIFIED_KINDS:
        raise Refused(
            Kind.INVALID, f"public_key: expected {' or '.join(sorted(_CERTIFIED_KINDS))}, found {kind_of(key)}"
        )
    return key


def _entry(entry_id: EntryID, by: Granting) -> RegistrationEntry:
    """The entry, if this node may mint for it; an unknown entry and somebody else's are refused in the same way.

    Raises:
        Refused: DENIED
    """
    entry = by.entries.get(entry_id)
    if entry is None or entry.parent_id not in by.parents:
        raise Refused(Kind.DENIED, "entry_id: this node has no such entry")
    if is_entitled(entry, by.parents, blocks=by.blocks, now=by.now):
        if entry.observe:
            raise _only_observes()
        return entry
    if by.blocks.entry(entry):
        raise Refused(Kind.DENIED, "entry_id: the entry is blocked by a revocation")
    raise Refused(Kind.DENIED, "entry_id: the entry has expired")


def _only_observes() -> Refused:
    """The refusal of anything that would be issued for an entry that only observes."""
    return Refused(
        Kind.DENIED,
        "entry_id: the entry only observes, and nothing is issued for it",
        hint='an attestor of this release does not ask; in the rulebook: mode = "enforce"',
    )


def judge(wish: Wish[DraftT], by: Granting) -> Intent[DraftT] | Refused:
    """What to sign for an item, or why not."""
    try:
        return wish.intent(_entry(wish.entry_id, by), by)
    except Refused as refused:
        return refused.with_traceback(None)  # kept as a value: with its frames it would be a cycle


def check_holder(known: Holder | None, wanted: Holder) -> None:
    """Refuse a key that leaked, or that the ledger has for something else: one key proves one identity on one node.

    Raises:
        Refused: DENIED
    """
    if known is not None and known.is_compromised:
        raise Refused(Kind.DENIED, "public_key: expected a new key, found one that was revoked as compromised")
    if known is not None and known != wanted:
        raise Refused(Kind.DENIED, "public_key: expected a new key, found one certified for another entry or node")


def check_not_own(key_hash: str, own_keys: Collection[str]) -> None:
    """Refuse a key that we sign with: a certificate for it would claim that somebody else has it.

    Raises:
        Refused: DENIED
    """
    if key_hash in own_keys:
        raise Refused(Kind.DENIED, "public_key: expected the caller's own key, found one that the issuer signs with")


def shared_keys(items: Iterable[tuple[EntryID, str]]) -> frozenset[str]:
    """The hashes of keys that a batch names under more than one entry.

    Args:
        items: the entry and the key hash of each item.
    """
    entries: defaultdict[str, set[EntryID]] = defaultdict(set)
    for entry_id, key_hash in items:
        entries[key_hash].add(entry_id)
    return frozenset(key_hash for key_hash, ids in entries.items() if len(ids) > 1)
