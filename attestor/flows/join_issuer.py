"""A node joins: from an invite, or from what was kept, to a node that can speak to the issuer.

Which of the two, and whether an answer is good, is decided in attestor/decisions/node.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog

from attestor.decisions.node import NEW_INVITE, Node, NodeCredential, check_trust_domain, joined, joining, resumable
from attestor.issuerclient.port import Evidence, IssuerClient, JoinDoor
from attestor.nodeattestor.port import NodeAttestor
from attestor.nodeclock import NodeClock
from attestor.state.port import State
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.invite import Invite
from svid.backoff import Backoff
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain

__all__ = ["JoinIssuer"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=5))


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinIssuer:
    """The flow and its ports.

    Args:
        trust_domain: the configured one, None: whichever the invite names.
    """

    trust_domain: TrustDomain | None
    state: State
    door: JoinDoor
    client: IssuerClient
    clock: NodeClock

    async def run(self, invite: Invite | None, node_attestor: NodeAttestor | None) -> Node:
        """Go on as the node that was kept, or join with the invite; until the issuer can be reached if need be.

        Args:
            node_attestor: needed with an invite.

        Raises:
            Refused: what the issuer, the state or decisions/node refuse.
        """
        # 1. What do we have?
        saved = await asyncio.to_thread(self.state.load)
        node = resumable(saved, invite)
        if node is not None:
            check_trust_domain(self.trust_domain, node.bundle.trust_domain, where="state")
            return await self._resume(node)
        if invite is None or node_attestor is None:
            raise AssertionError("an invite comes with its node attestor")
        check_trust_domain(self.trust_domain, invite.trust_domain, where="invite")
        # 2. A key, kept before anybody hears of it; the same for the same invite.
        start = joining(saved, invite, generate_private_key(KeyKind.EC_P256))
        await asyncio.to_thread(self.state.save, start)
        # 3. Ask until there is an answer, and check it.
        evidence = Evidence(
            attestor=node_attestor.name, evidence=await node_attestor.evidence(), answer=node_attestor.answer
        )
        credential = await self._join(invite, evidence, public_key_to_der(start.private_key.public_key()))
        node = joined(invite, credential, start, at=self.clock.read())
        # 4. Keep it, then use it.
        await asyncio.to_thread(self.state.save, node)
        await self.client.use(node)
        log.info("node joined", spiffe_id=str(node.svid.spiffe_id), not_after=node.svid.not_after.isoformat())
        return node

    async def _resume(self, node: Node) -> Node:
        await self.client.use(node)
        log.info("node resumed", spiffe_id=str(node.svid.spiffe_id), not_after=node.svid.not_after.isoformat())
        return node

    async def _join(self, invite: Invite, evidence: Evidence, public_key: bytes) -> NodeCredential:
        for delay in _BACKOFF.delays(secrets.SystemRandom().random):
            asked_at = self.clock.monotonic()
            try:
                credential = await self.door.join(invite, evidence, public_key)
            except Refused as e:
                if e.kind in {Kind.UNAUTHENTICATED, Kind.DENIED}:
                    raise Refused(e.kind, e.detail, hint=e.hint or NEW_INVITE) from e
                if e.kind is not Kind.UNAVAILABLE:
                    raise
                log.warning(
                    "issuer not reached, trying again",
                    address=invite.join_address,
                    reason=e.detail,
                    hint=e.hint,
                    delay_seconds=round(delay.total_seconds(), 3),
                )
            else:
                self.clock.hear(credential.issued_at, asked_at=asked_at)
                return credential
            await self.clock.sleep(delay.total_seconds())
        raise AssertionError("delays end")
