"""Join the issuer: turn an invite, or the saved state, into a node that can call the issuer.

Which of the two, and whether an answer is good, is decided in attestor/decisions/node.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from attestor.decisions.node import (
    Joining,
    Node,
    NodeCredential,
    check_trust_domain,
    joined,
    joining,
    resumable,
    way_around,
    way_in,
)
from attestor.issuerclient.port import Evidence, IssuerClient, JoinDoor
from attestor.nodeattestor.port import NodeAttestor
from attestor.state.port import State
from attestor.surroundings import Surroundings
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.plugincalls import PluginCalls
from cognomen.daemon.pulse import Pulse
from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from svid.backoff import Backoff
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import TrustDomain

__all__ = ["JoinIssuer"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=5))


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinIssuer:
    """The flow and its ports.

    Args:
        trust_domain: the configured one; None: the one that the invite names.
        node_name: what the node calls itself, for people.
    """

    trust_domain: TrustDomain | None
    state: State
    door: JoinDoor
    client: IssuerClient
    around: Surroundings
    node_name: str = ""

    async def run(self, invite: Invite | None, node_attestor: NodeAttestor | None) -> Node:
        """Go on as the saved node, or join with the invite; if the issuer cannot be reached, keep trying.

        Args:
            node_attestor: needed with an invite.

        Raises:
            Refused: the issuer, the state or decisions/node refuses.
        """
        # 1. Load what we have.
        saved = await in_own_thread(self.state.load)
        node = resumable(saved, invite)
        if node is not None:
            check_trust_domain(self.trust_domain, node.bundle.trust_domain, where="state")
            return await self._resume(node)
        if invite is None or node_attestor is None:
            raise AssertionError("an invite comes with its node attestor")
        check_trust_domain(self.trust_domain, invite.trust_domain, where="invite")
        # 2. Make a key and save it before anybody sees it; the same invite gets the same key.
        start = joining(saved, invite, generate_private_key(KeyKind.EC_P256))
        await in_own_thread(self.state.save, start)
        # 3. Ask until there is an answer, and check it.
        credential = await self._join(invite, await self._evidence(node_attestor), start)
        node = joined(invite, credential, start, at=self.around.clock.read())
        # 4. Save it, then use it.
        await in_own_thread(self.state.save, node)
        await self.client.use(node)
        log.info("node joined", spiffe_id=str(node.svid.spiffe_id), not_after=node.svid.not_after.isoformat())
        return node

    async def _evidence(self, node_attestor: NodeAttestor) -> Evidence:
        """What the node shows; a failure of its attestor's code is this node's own fault, whatever the issuer does."""
        calls, plugin = PluginCalls(self.around.clock), f"node attestor {node_attestor.name}"

        async def answer(challenge: bytes) -> bytes:
            with calls.calling(plugin, kind=Kind.INTERNAL):
                return await node_attestor.answer(challenge)

        with calls.calling(plugin, kind=Kind.INTERNAL):
            evidence = await node_attestor.evidence()
        return Evidence(attestor=node_attestor.name, evidence=evidence, answer=answer, node_name=self.node_name)

    async def _resume(self, node: Node) -> Node:
        await self.client.use(node)
        log.info("node resumed", spiffe_id=str(node.svid.spiffe_id), not_after=node.svid.not_after.isoformat())
        return node

    async def _join(self, invite: Invite, evidence: Evidence, start: Joining) -> NodeCredential:
        clock = self.around.clock
        attempts = Attempts(
            log,
            clock,
            pulse=Pulse(),  # nobody watches it: the operator who starts the attestor waits
            troubles=self.around.troubles,
            trouble="join",
            over="issuer reached",
            failure=partial(_failure, invite),
            jitter=self.around.jitter,
        )
        while True:
            asked_at = clock.monotonic()
            try:
                credential = await self.door.join(invite, evidence, start.private_key)
            except Refused as e:
                if e.kind in {Kind.UNAUTHENTICATED, Kind.DENIED}:
                    raise Refused(e.kind, e.detail, hint=way_in(e, start.before)).because(e.reason) from e
                if e.kind is not Kind.UNAVAILABLE:
                    raise
                attempts.failed(e, address=invite.join_address)
            else:
                attempts.well()
                clock.hear(credential.issued_at, asked_at=asked_at)
                return credential
            await attempts.rest()


def _failure(invite: Invite, refused: Refused) -> Failure:
    hint = refused.hint or way_around(invite)
    return Failure(event="issuer not reached, trying again", again=_BACKOFF, hint=hint)
