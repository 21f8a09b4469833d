"""Attest a node: a stranger that shows evidence becomes a node with its own X509-SVID."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

import structlog

from cognomen.daemon.plugincalls import NoAnswer, PluginCalls
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.possession import Purpose
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, Token
from issuer.decisions.attestation import (
    ByIdentity,
    ByToken,
    Proof,
    admit_by_identity,
    admit_by_token,
    check_proof,
    check_unspent,
    redeem_token,
)
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.ledger import Credential
from issuer.decisions.possession import proved_key
from issuer.decisions.sampling import NotProved, Principal
from issuer.keepers.node_svids import NodeCredential, NodeIntent, NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.nodeattestor.port import Challenge, NodeAttestor
from issuer.surroundings import Surroundings
from issuer.works.nodes import named_in
from svid.keys import PublicKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["AttestNode", "Evidence"]

log = structlog.get_logger(__name__)

_SHOWN_FOR = timedelta(hours=1)  # perhaps nobody joins for days, and so nothing would say that it answers again


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a joiner shows; `public_key` is a SubjectPublicKeyInfo, and its private key made `key_signature`.

    Args:
        node_name: what the node calls itself, which may be any text; empty: it does not say.
    """

    attestor: str
    evidence: bytes = field(repr=False)
    public_key: bytes
    key_signature: bytes = field(repr=False)
    node_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestNode:
    """Lets nodes in.

    Args:
        attestors: the node attestors, by name.
        judge_seconds: how long one may judge, less than a join may take (issuer/api/joinroom): otherwise nobody would know what was slow.
    """

    datastore: Datastore
    attestors: Mapping[str, NodeAttestor]
    node_svids: NodeSVIDs
    refusals: RefusalRecord
    around: Surroundings
    trust_domain: TrustDomain
    judge_seconds: float = 8.0
    calls: PluginCalls = field(default_factory=PluginCalls)

    async def __call__(self, shown: Evidence, challenge: Challenge) -> NodeCredential:
        """Attest a node. The same token with the same key may be used again while the token is valid, until the SVID is used.

        Raises:
            Refused: INVALID, UNAUTHENTICATED, DENIED; it is recorded first.
        """
        try:
            # 1. Check the key to be certified, and that the joiner has it.
            key = self._proved_key(shown)
            # 2. Have the named attestor judge the evidence.
            attestor = self._attestor(shown.attestor)
            proof = await self._proof(attestor, shown.evidence, challenge)
            proved = _Proved(attestor=attestor.name, proof=proof, key=key, node_name=shown.node_name)
            # 3. Would we let it in? A joiner that we would refuse must not take a turn at writing.
            await self.datastore.read(lambda tx: self._admitted(tx, proved))
            self.node_svids.check_budget(*_whose(proved))
            # 4. In one transaction: bind the token to the first key that uses it, record the node and its SVID.
            intent = await self.datastore.write(lambda tx: self._admit(tx, proved), expendable=True)
        except Refused as refused:
            stranger = Principal.STRANGER
            await self.refusals.record(refused, principal=stranger, actor=stranger, action=Action.NODE_ATTESTATION)
            raise
        # 5. Only then sign.
        credential = await self.node_svids.release(intent)
        log.info("node attested", node=str(intent.recorded.credential.spiffe_id), attestor=shown.attestor)
        return credential

    async def _proof(self, attestor: NodeAttestor, evidence: bytes, challenge: Challenge) -> Proof:
        """Have it judge the evidence, whatever its code raises or returns.

        Raises:
            NotProved: the attestor refuses; UNAVAILABLE when it fails, gives no answer, or returns what no attestor may prove.
            Refused: the joiner gives no answer.
        """
        of_the_door: list[Refused] = []

        async def ask(question: bytes) -> bytes:
            try:
                with _stopped(deadline):
                    return await challenge(question)
            except Refused as refused:
                of_the_door.append(refused)
                raise
            except Exception as e:  # the connection's: it is not the attestor that failed
                of_the_door.append(Refused(Kind.INVALID, "step: expected an answer, found none"))
                raise of_the_door[-1] from e

        plugin = f"node attestor {attestor.name}"
        try:
            async with self.calls.within(plugin, self.judge_seconds) as deadline:
                proof: object = await attestor.attest(evidence, ask)
        except NoAnswer as late:
            self.around.troubles.note(
                plugin, late.detail.removeprefix(f"{plugin}: "), hint=late.hint, kept_for=_SHOWN_FOR
            )
            raise _not_proved(late, attestor.name) from late
        except Refused as refused:
            if refused in of_the_door:
                raise
            self.around.troubles.over(plugin)
            raise _not_proved(refused, attestor.name) from refused
        finally:
            of_the_door.clear()  # a refusal's frames refer to it
        self.around.troubles.over(plugin)
        try:
            return check_proof(proof, attestor=attestor.name, trust_domain=self.trust_domain)
        except Refused as unfit:
            detail, hint = f"{plugin} failed", "its code must be repaired"
            raise NotProved(unfit.kind, detail, attestor=attestor.name, said=unfit.detail, hint=hint) from unfit

    def _attestor(self, name: str) -> NodeAttestor:
        if name not in self.attestors:
            known = ", ".join(sorted(self.attestors))
            raise Refused(Kind.INVALID, f"attestor: unknown, expected one of {known}")
        return self.attestors[name]

    def _proved_key(self, shown: Evidence) -> PublicKey:
        return proved_key(
            shown.public_key,
            shown.key_signature,
            purpose=Purpose.JOIN,
            trust_domain=self.trust_domain,
            bound_to=shown.evidence,
        )

    def _admit(self, tx: Transaction, proved: "_Proved") -> NodeIntent:
        admitted = self._admitted(tx, proved)
        node = named_in(tx, admitted.node, proved.node_name)
        intent = self.node_svids.record(tx, node, proved.key)
        if admitted.token is not None:
            tx.tokens.put(admitted.token)
        if admitted.is_changed:
            tx.changes.append([Change(kind=ChangeKind.NODE, subject=node.id)])
        event = AuditEvent(
            at=self.around.clock.now(),
            actor=str(node.spiffe_id),
            action=Action.NODE_ATTESTED,
            subject=str(node.spiffe_id),
            facts={
                "attestor": proved.attestor,
                "name": node.name,
                "selectors": " ".join(sorted(map(str, node.selectors))),
            },
        )
        tx.audit.append([event])
        return intent

    def _admitted(self, tx: Transaction, proved: "_Proved") -> "_Admitted":
        match proved.proof:
            case ByToken():
                return self._by_token(tx, proved.proof, proved)
            case ByIdentity():
                return self._by_identity(tx, proved.proof, proved)
            case _:
                assert_never(proved.proof)

    def _by_token(self, tx: Transaction, proof: ByToken, proved: "_Proved") -> "_Admitted":
        now = self.around.clock.now()
        before = tx.tokens.get(proof.token_hash)
        token = redeem_token(before, key_hash=proved.key_hash, now=now)
        known = tx.nodes.get(token.node_id)
        if before is not None and before.key_hash:
            check_unspent(before, known, pending=_pending(tx, known))
        node = admit_by_token(token, known, attestor=proved.attestor, trust_domain=self.trust_domain, now=now)
        return _Admitted(node=node, is_changed=known is None, token=token)

    def _by_identity(self, tx: Transaction, proof: ByIdentity, proved: "_Proved") -> "_Admitted":
        known = tx.nodes.get(proof.node_id)
        node = admit_by_identity(
            proof,
            known,
            attestor=proved.attestor,
            pending=_pending(tx, known),
            key_hash=proved.key_hash,
            trust_domain=self.trust_domain,
            now=self.around.clock.now(),
        )
        return _Admitted(node=node, is_changed=known is None or known.selectors != node.selectors)


@contextlib.contextmanager
def _stopped(deadline: asyncio.Timeout) -> Iterator[None]:
    """Stop the time of a node attestor while the joiner owes an answer."""
    loop, ends = asyncio.get_running_loop(), deadline.when()
    if ends is None:  # it asks twice at once, which the door refuses
        yield
        return
    left = ends - loop.time()
    is_over = contextlib.suppress(RuntimeError)  # a task that the attestor left behind asks
    with is_over:
        deadline.reschedule(None)
    try:
        yield
    finally:
        with is_over:
            deadline.reschedule(loop.time() + left)


def _not_proved(refused: Refused, attestor: str) -> NotProved:
    """The refusal with its attestor's name; a fault of the attestor's own is nothing that a joiner could mend, except by trying again."""
    plugin = f"node attestor {attestor}"
    said = refused.detail if refused.detail.startswith(plugin) else f"{plugin}: {refused.detail}"
    kind, detail = refused.kind, refused.detail
    if kind is Kind.INTERNAL:
        kind, detail = Kind.UNAVAILABLE, f"{plugin} failed"
    named = NotProved(kind, detail, attestor=attestor, said=said, hint=refused.hint)
    named.reason = refused.reason
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proved:
    """What a joiner proved, through which attestor, and the key that it has; and what it calls itself."""

    attestor: str
    proof: Proof
    key: PublicKey
    node_name: str

    @property
    def key_hash(self) -> str:
        """Thumbprint of the key."""
        return thumbprint(public_key_to_der(self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A node that we let in.

    Args:
        is_changed: whether those who follow the nodes have to hear about it.
        token: the new row of its token, if it used one.
    """

    node: Node
    is_changed: bool
    token: Token | None = None


def _whose(proved: _Proved) -> tuple[str, ...]:
    """Whose budget pays for an admission."""
    match proved.proof:
        case ByToken(token_hash=token_hash):
            return "token", token_hash
        case ByIdentity(node_id=node_id):
            return "identity", proved.attestor, node_id
        case _:
            assert_never(proved.proof)


def _pending(tx: Transaction, node: Node | None) -> Credential | None:
    return None if node is None else tx.ledger.get(node.pending_serial)
