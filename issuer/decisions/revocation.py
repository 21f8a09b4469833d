"""What an operator may end, and who is blocked by it: revocations, as they are asked for and as they stand.

Which credentials follow is found in the ledger (datastore.port.Fallen). How denials reach verifiers: ADR-0015.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.admission import Node
from issuer.decisions.audit import Credential, CredentialKind, CredentialState, NodeID
from issuer.decisions.names import is_reserved, node_id_of
from svid.entry import EntryID, RegistrationEntry
from svid.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = [
    "HINT_OF_A_GROUP",
    "MAX_BLOCKED",
    "MAX_OVER",
    "MAX_SERIALS",
    "Blocks",
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
    "lifted",
]

MAX_SERIALS = 100_000
"""The most credentials that one command may name."""

MAX_BLOCKED = 20_000
"""The most that blocks which stand may name together: every change of them is read as a whole."""

MAX_OVER = 50_000
"""The most credentials that were over which one command denies, the newest: every verifier keeps certificates for a day."""

HINT_OF_A_GROUP = "its members: cognomen revoke selector, or revoke node"
"""What an operator does who names a node group."""

_MOST = {"serials": MAX_SERIALS, "entry_ids": 1000, "node_ids": 1000}
_MAX_COMMENT = 1024
_WORKLOADS = frozenset({CredentialKind.X509, CredentialKind.JWT})


class Reason(StrEnum):
    """Why a credential ends before its time, by the names that CRLs have; not those that only a CRL's own changes use.

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
    UPDATE = "update"  # of entries, or of the node groups above them, likewise


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
    """What an operator names; which fields count depends on the kind.

    Args:
        serials: of `svid`: serials in lower-case hexadecimal, or jtis.
        before: of `issued-before`: what was issued until then.
        entry_ids: of `entry`, `deletion` and `update`; of `issued-before`, to narrow it.
        node_ids: of `node`; of `issued-before`, to narrow it.
        spiffe_id: of `spiffe-id`; of `issued-before`, to narrow it.
        below: of `spiffe-id`: every SPIFFE ID below it, too.
        selector: of `selector`: entries and nodes that have it.
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
        """Whether nothing more is signed for whom it names."""
        return self.kind in _BLOCKING


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What an operator said.

    Args:
        number: its own; 0 until stored.
        actor: who said it, as the audit names them.
        denied: how many credentials ended by it.
        over: how many credentials it denied that were over, for verifiers whose clocks lag, and for the connections that may be open to
            whoever showed a certificate.
        compromised: of how many certificates that had ended before the keys count as compromised by it.
        change: the change number after which followers have it; 0 until stored.
        lifted_at: when its block ended; None: it stands, or it is none.
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
    """Which of the credentials that are of use: those that satisfy all that is set.

    Args:
        any_of: of serials, entries and nodes, one is enough.
        below: those of every SPIFFE ID below `spiffe_id`, too.
        issued_until: those that were issued then or before, tokens by their iat; and those of a moment that is still to come, which
            were signed while the clock was ahead.
    """

    kinds: frozenset[CredentialKind] = _WORKLOADS
    serials: Collection[str] | None = None
    entry_ids: Collection[EntryID] | None = None
    node_ids: Collection[NodeID] | None = None
    any_of: bool = False
    spiffe_id: SpiffeID | None = None
    below: bool = False
    issued_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Who gets nothing signed any more, by the revocations that say so.

    Args:
        below: the SPIFFE IDs, as texts, that are blocked with all that lies below them.
        named: how many of all these the revocations name, those included that several name.
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
    """A SPIFFE ID and every one above it in its trust domain, as texts: few, however many are blocked."""
    text = str(spiffe_id)
    yield text
    for _ in range(spiffe_id.path.count("/")):
        text = text.rpartition("/")[0]
        yield text


def blocks_of(revocations: Iterable[Revocation]) -> Blocks:
    """What these revocations block, as long as they are not lifted."""
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
    """Let one more block stand beside these.

    Raises:
        Refused: EXHAUSTED
    """
    if target.is_block and (wanted := blocks.named + _named_by(target)) > MAX_BLOCKED:
        raise Refused(
            Kind.EXHAUSTED,
            f"target: expected at most {MAX_BLOCKED} that blocks name, found {wanted}",
            hint="lift those that nobody needs (cognomen revoke list, lift), or block many by one:"
            " cognomen revoke spiffe-id --below; svid and issued-before block nobody",
        )


def check_comment(comment: str) -> None:
    """Bound what an operator writes beside it.

    Raises:
        Refused: INVALID
    """
    found = len(comment.encode(errors="replace"))
    if found > _MAX_COMMENT or not all(character.isprintable() for character in comment):
        raise Refused(Kind.INVALID, f"comment: expected at most {_MAX_COMMENT} printable bytes, found {found} bytes")


def check_target(target: Target, *, now: datetime) -> None:
    """Refuse a target that names nothing, too much, or what its kind has no use for: a block reads all that a target holds.

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
            f"before: expected a moment of the past, found {target.before.isoformat()} at {now.isoformat()}",
        )


def check_spiffe_id(spiffe_id: SpiffeID, *, is_group: bool) -> None:
    """Refuse a SPIFFE ID that no workload can have: naming it would end nothing, and block nobody.

    Args:
        is_group: node groups have it, and no workload.

    Raises:
        Refused: INVALID
    """
    if is_reserved(spiffe_id):
        node_id = node_id_of(spiffe_id)
        hint = "the issuer's own: cognomen authority" if node_id is None else f"cognomen revoke node {node_id}"
        raise Refused(Kind.INVALID, f"spiffe_id: expected a workload's, found {spiffe_id}", hint=hint)
    if is_group:
        raise Refused(
            Kind.INVALID,
            f"spiffe_id: expected a workload's, found {spiffe_id} of a node group",
            hint=HINT_OF_A_GROUP,
        )


def check_serials(wanted: Collection[str], found: Iterable[Credential]) -> None:
    """Refuse to end what we did not sign for a workload.

    Raises:
        Refused: NOT_FOUND for a serial that the ledger does not know; INVALID for the credential of a node, the issuer or an authority.
    """
    known: set[str] = set()
    for credential in found:
        if credential.kind not in _WORKLOADS:
            hint = f"cognomen revoke node {credential.node_id}" if credential.kind is CredentialKind.NODE else ""
            raise Refused(
                Kind.INVALID,
                f"serial: expected a workload's, found {credential.serial} of the {credential.kind}",
                hint=hint,
            )
        if credential.state is not CredentialState.FAILED:
            known.add(credential.serial)
    for serial in wanted:
        if serial not in known:
            raise Refused(
                Kind.NOT_FOUND,
                f"serial: expected one that we signed, found {serial[:80]!r}",
                hint="serials and jtis are listed by: cognomen svid list",
            )


def lifted(revocation: Revocation, *, by: str, now: datetime) -> Revocation:
    """The row once its block has ended.

    Raises:
        Refused: INVALID for one that blocks nobody; CONFLICT for one that was lifted before.
    """
    if not revocation.target.is_block:
        hint = "a banned node stays banned" if revocation.target.kind is RevocationKind.NODE else ""
        raise Refused(
            Kind.INVALID,
            f"number: expected a revocation that blocks somebody, found one of {revocation.target.kind}",
            hint=hint or "what it ended stays ended; who still matches has got another",
        )
    if revocation.lifted_at is not None:
        raise Refused(
            Kind.CONFLICT,
            f"number: expected a block that stands, found one that {revocation.lifted_by} lifted"
            f" at {revocation.lifted_at.isoformat()}",
        )
    return replace(revocation, lifted_at=now, lifted_by=by)
