"""Decide what an operator may revoke, and whom a revocation blocks.

The ledger finds which credentials end (falling). ADR-0015 says how denials reach verifiers.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID, is_reserved, node_id_of
from cognomen.protocol.selector import Selector
from issuer.decisions.admission import Node
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from svid.denials import KEPT_FOR, OPEN_FOR
from svid.spiffeid import SpiffeID

__all__ = [
    "HINT_OF_A_GROUP",
    "MAX_BLOCKED",
    "MAX_OVER",
    "MAX_SERIALS",
    "Blocks",
    "Deniable",
    "Live",
    "Reason",
    "Revocation",
    "RevocationKind",
    "Target",
    "blocks_of",
    "check_comment",
    "check_room",
    "check_serials",
    "check_spiffe_id",
    "check_target",
    "deniable_at",
    "lifted",
]

MAX_SERIALS = 100_000
"""The most credentials that one command may name."""

MAX_BLOCKED = 20_000
"""The most targets that the blocks in force may name together: every change of them is read as a whole."""

MAX_OVER = 50_000
"""The most expired credentials that one command denies, the newest first: every verifier keeps certificates for a day."""

HINT_OF_A_GROUP = "to revoke its members: cognomen revoke selector, or revoke node"
"""What an operator should do instead of naming a node group."""

_MOST = {"serials": MAX_SERIALS, "entry_ids": 1000, "node_ids": 1000}
_MAX_COMMENT = 1024
_WORKLOADS = frozenset({CredentialKind.X509, CredentialKind.JWT})


class Reason(StrEnum):
    """Why a credential ends early, by the names in CRLs, without those that only describe changes of a CRL itself.

    Source: RFC 5280 5.3.1
    """

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


class RevocationKind(StrEnum):
    """What a revocation names."""

    SVID = "svid"
    ISSUED_BEFORE = "issued-before"
    ENTRY = "entry"
    SPIFFE_ID = "spiffe-id"
    SELECTOR = "selector"
    NODE = "node"
    DELETION = "deletion"  # of entries, by another command
    UPDATE = "update"  # of entries or of the node groups above them, by another command


_BLOCKING = frozenset({RevocationKind.ENTRY, RevocationKind.SPIFFE_ID, RevocationKind.SELECTOR})
_NEEDED = {
    RevocationKind.SVID: "serials",
    RevocationKind.ISSUED_BEFORE: "before",
    RevocationKind.ENTRY: "entry_ids",
    RevocationKind.SPIFFE_ID: "spiffe_id",
    RevocationKind.SELECTOR: "selector",
    RevocationKind.NODE: "node_ids",
    RevocationKind.DELETION: "entry_ids",
    RevocationKind.UPDATE: "entry_ids",
}
_OPTIONAL = {
    RevocationKind.ISSUED_BEFORE: frozenset({"entry_ids", "node_ids", "spiffe_id"}),
    RevocationKind.SPIFFE_ID: frozenset({"below"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an operator names; the kind determines which fields count.

    Args:
        serials: for `svid`: serials in lower-case hexadecimal, or jtis.
        before: for `issued-before`: what was issued until then.
        entry_ids: for `entry`, `deletion` and `update`; for `issued-before`, to narrow it.
        node_ids: for `node`; for `issued-before`, to narrow it.
        spiffe_id: for `spiffe-id`; for `issued-before`, to narrow it.
        below: for `spiffe-id`: also every SPIFFE ID below it.
        selector: for `selector`: entries and nodes that have it.
    """

    kind: RevocationKind
    serials: tuple[str, ...] = ()
    before: datetime | None = None
    entry_ids: tuple[EntryID, ...] = ()
    node_ids: tuple[NodeID, ...] = ()
    spiffe_id: SpiffeID | None = None
    below: bool = False
    selector: Selector | None = None

    @property
    def is_block(self) -> bool:
        """Whether nothing more is signed for what it names."""
        return self.kind in _BLOCKING


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """An operator's revocation.

    Args:
        number: its number; 0 until stored.
        actor: who ordered it, as the audit record names them.
        denied: how many credentials it ended.
        over: how many expired credentials it denied, for verifiers whose clocks lag, and for connections that may still be open to
            peers that showed a certificate.
        compromised: for how many certificates that had already ended it marked the keys as compromised.
        change: the change number with which followers have it; 0 until stored.
        lifted_at: when its block ended; None: the block is in force, or it blocks nobody.
    """

    target: Target
    reason: Reason
    comment: str
    actor: str
    at: datetime
    number: int = 0
    denied: int = 0
    over: int = 0
    compromised: int = 0
    change: int = 0
    lifted_at: datetime | None = None
    lifted_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Which of the credentials that are of use: those that satisfy every condition that is set.

    Args:
        any_of: one match among serials, entries and nodes is enough.
        below: also those of every SPIFFE ID below `spiffe_id`.
        issued_until: those that were issued then or before, tokens by their iat; and those issued at a future time, which were signed
            while the clock was ahead.
    """

    kinds: frozenset[CredentialKind] = _WORKLOADS
    serials: Collection[str] | None = None
    entry_ids: Collection[EntryID] | None = None
    node_ids: Collection[NodeID] | None = None
    any_of: bool = False
    spiffe_id: SpiffeID | None = None
    below: bool = False
    issued_until: datetime | None = None


class Deniable(NamedTuple):
    """Which credentials can be denied, by the time at which they expire: those that expire later than these.

    Args:
        now: for those that are live.
        lagging: for tokens and for certificates of nodes: verifiers whose clocks lag still accept them.
        open: for certificates of workloads: connections may still be open to the peer that showed one.
    """

    now: datetime
    lagging: datetime
    open: datetime


def deniable_at(now: datetime) -> Deniable:
    """Which credentials can be denied at this time."""
    lagging = now - KEPT_FOR
    return Deniable(
        now=now, lagging=lagging, open=lagging - OPEN_FOR
    )  # a verifier whose clock lags closes a connection later


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What the revocations in force block: nothing is signed for it any more.

    Args:
        below: the SPIFFE IDs, as texts, that are blocked together with everything below them.
        named: how many targets the revocations name; one that several revocations name counts several times.
    """

    entry_ids: frozenset[EntryID] = frozenset()
    spiffe_ids: frozenset[SpiffeID] = frozenset()
    below: frozenset[str] = frozenset()
    selectors: frozenset[Selector] = frozenset()
    named: int = 0

    def entry(self, entry: RegistrationEntry) -> bool:
        """Whether this entry is blocked."""
        return (
            entry.id in self.entry_ids
            or entry.spiffe_id in self.spiffe_ids
            or not self.selectors.isdisjoint(entry.selectors)
            or (bool(self.below) and not self.below.isdisjoint(_with_those_above(entry.spiffe_id)))
        )

    def node(self, node: Node) -> bool:
        """Whether every entry on this node is blocked."""
        return not self.selectors.isdisjoint(node.selectors)


def _with_those_above(spiffe_id: SpiffeID) -> Iterator[str]:
    """A SPIFFE ID and every ID above it in its trust domain, as texts: few, no matter how many are blocked."""
    text = str(spiffe_id)
    yield text
    for _ in range(spiffe_id.path.count("/")):
        text = text.rpartition("/")[0]
        yield text


def blocks_of(revocations: Iterable[Revocation]) -> Blocks:
    """What these revocations block, unless they were lifted."""
    standing = [one.target for one in revocations if one.target.is_block and one.lifted_at is None]
    named = [one for one in standing if one.spiffe_id is not None]
    return Blocks(
        entry_ids=frozenset(entry_id for one in standing for entry_id in one.entry_ids),
        spiffe_ids=frozenset(one.spiffe_id for one in named if one.spiffe_id is not None and not one.below),
        below=frozenset(str(one.spiffe_id) for one in named if one.below),
        selectors=frozenset(one.selector for one in standing if one.selector is not None),
        named=sum(map(_named_by, standing)),
    )


def _named_by(target: Target) -> int:
    return len(target.entry_ids) or 1


def check_room(target: Target, blocks: Blocks) -> None:
    """Check that there is room for one more block beside these.

    Raises:
        Refused: EXHAUSTED
    """
    if target.is_block and (wanted := blocks.named + _named_by(target)) > MAX_BLOCKED:
        raise Refused(
            Kind.EXHAUSTED,
            f"target: expected blocks to name at most {MAX_BLOCKED} in all, found {wanted}",
            hint="lift those that nobody needs (cognomen revoke list, lift), or block many with one:"
            " cognomen revoke spiffe-id --below; svid and issued-before block nobody",
        )


def check_comment(comment: str) -> None:
    """Limit an operator's comment.

    Raises:
        Refused: INVALID
    """
    found = len(comment.encode(errors="replace"))
    if found > _MAX_COMMENT or not all(character.isprintable() for character in comment):
        raise Refused(Kind.INVALID, f"comment: expected at most {_MAX_COMMENT} printable bytes, found {found} bytes")


def check_target(target: Target, *, now: datetime) -> None:
    """Refuse a target that names nothing, too much, or something that its kind does not use: a block reads all that a target holds.

    Raises:
        Refused: INVALID
    """
    named = {
        "serials": len(target.serials),
        "before": int(target.before is not None),
        "entry_ids": len(target.entry_ids),
        "node_ids": len(target.node_ids),
        "spiffe_id": int(target.spiffe_id is not None),
        "below": int(target.below),
        "selector": int(target.selector is not None),
    }
    for name, found in named.items():
        least = int(name == _NEEDED[target.kind])
        most = _MOST.get(name, 1) if least or name in _OPTIONAL.get(target.kind, ()) else 0
        if not least <= found <= most:
            expected = f"{least} to {most}" if least < most else str(most)
            raise Refused(
                Kind.INVALID, f"{name}: expected {expected} for a target of kind {target.kind}, found {found}"
            )
    if target.before is not None and target.before > now:
        raise Refused(
            Kind.INVALID,
            f"before: expected a time in the past, found {moment_in_words(target.before)} at {moment_in_words(now)}",
        )


def check_spiffe_id(spiffe_id: SpiffeID, *, is_group: bool) -> None:
    """Refuse a SPIFFE ID that no workload can have: naming it would end nothing and block nobody.

    Args:
        is_group: it belongs to node groups, and not to a workload.

    Raises:
        Refused: INVALID
    """
    if is_reserved(spiffe_id):
        is_node = node_id_of(spiffe_id) is not None
        hint = f"cognomen revoke node {spiffe_id}" if is_node else "this is the issuer's own, see: cognomen authority"
        raise Refused(Kind.INVALID, f"spiffe_id: expected a workload's SPIFFE ID, found {spiffe_id}", hint=hint)
    if is_group:
        raise Refused(
            Kind.INVALID,
            f"spiffe_id: expected a workload's SPIFFE ID, found the node group {spiffe_id}",
            hint=HINT_OF_A_GROUP,
        )


def check_serials(wanted: Collection[str], found: Iterable[Credential]) -> None:
    """Refuse to end anything that we did not sign for a workload.

    Raises:
        Refused: NOT_FOUND for a serial that is not in the ledger; INVALID for the credential of a node, the issuer or an authority.
    """
    known: set[str] = set()
    for credential in found:
        if credential.kind not in _WORKLOADS:
            hint = f"cognomen revoke node {credential.node_id}" if credential.kind is CredentialKind.NODE else ""
            raise Refused(
                Kind.INVALID,
                f"serial: expected a workload's credential, found {credential.serial} of the {credential.kind}",
                hint=hint,
            )
        if credential.state is not CredentialState.FAILED:
            known.add(credential.serial)
    for serial in wanted:
        if serial not in known:
            raise Refused(
                Kind.NOT_FOUND,
                f"serial: expected one that we signed, found {serial[:80]!r}",
                hint="list the serials and jtis: cognomen svid list",
            )


def lifted(revocation: Revocation, *, by: str, now: datetime) -> Revocation:
    """The row once its block has ended.

    Raises:
        Refused: INVALID if it blocks nobody; CONFLICT if it was already lifted.
    """
    if not revocation.target.is_block:
        hint = "a banned node stays banned" if revocation.target.kind is RevocationKind.NODE else ""
        raise Refused(
            Kind.INVALID,
            f"number: expected a revocation that blocks somebody, found one of {revocation.target.kind}",
            hint=hint or "what it ended stays ended; those that still match have new ones",
        )
    if revocation.lifted_at is not None:
        raise Refused(
            Kind.CONFLICT,
            f"number: expected a block in force, found one that {revocation.lifted_by} lifted"
            f" at {moment_in_words(revocation.lifted_at)}",
        )
    return replace(revocation, lifted_at=now, lifted_by=by)
