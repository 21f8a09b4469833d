"""The admin door's methods for revocations."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import duration_from_pb, selector_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import MAX_NUMBER, number, page_size
from issuer.api.admin.part import Part
from issuer.api.admin.revocationmessages import (
    blocked_to_pb,
    exchanged_to_pb,
    fallen_to_pb,
    reason_from_text,
    revocation_status,
    revocation_to_pb,
    target_from_pb,
)
from issuer.decisions.filters import EntryFilter
from issuer.flows.revoke import Revoke
from svid.spiffeid import TrustDomain

__all__ = ["RevocationsPart", "list_revocations", "revoke"]

_MOST_BLOCKED = 100


class RevocationsPart(Part):
    """The methods for revocations."""

    async def revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        return await revoke(
            self._flows.revoke,
            request,
            trust_domain=self._flows.trust_domain,
            longest_lives=self._longest_lives,
            actor=self._by(request),
        )

    async def lift_revocation(self, request: pb.GetRevocationRequest) -> pb.RevocationStatus:
        lifted = await self._flows.revoke.lift(min(request.number, MAX_NUMBER), actor=self._by(request))
        return revocation_status(await self._flows.enforcement.look(lifted.number))

    async def get_revocation(self, request: pb.GetRevocationRequest) -> pb.RevocationStatus:
        return revocation_status(await self._flows.enforcement.look(min(request.number, MAX_NUMBER)))

    async def await_revocation(self, request: pb.AwaitRevocationRequest) -> pb.RevocationStatus:
        longest = duration_from_pb(request.longest, "longest")
        number = min(request.number, MAX_NUMBER)
        return revocation_status(await self._flows.enforcement(number, longest=longest, actor=self._by(request)))

    async def list_revocations(self, request: pb.ListRevocationsRequest) -> pb.ListRevocationsResponse:
        limit = page_size(request.page_size)
        return await list_revocations(self._flows.revoke, before=number(request.page_token), limit=limit)

    async def list_blocked(self, request: pb.ListBlockedRequest) -> pb.ListBlockedResponse:
        node = await self._flows.queries.get_node(request.node_id)
        where = EntryFilter(selector=selector_from_pb(request.selector) if request.HasField("selector") else None)
        now = self._flows.clock.now()
        found = await self._flows.queries.list_blocked(where, node, now=now, limit=_MOST_BLOCKED + 1)
        return blocked_to_pb(found[:_MOST_BLOCKED], more=len(found) > _MOST_BLOCKED)


async def revoke(
    flow: Revoke,
    request: pb.RevokeRequest,
    *,
    trust_domain: TrustDomain,
    longest_lives: Callable[[], Awaitable[Mapping[str, timedelta]]],
    actor: str,
) -> pb.RevokeResponse:
    """Revoke, or only return what would end.

    Args:
        longest_lives: finds how long the tokens of declared providers live; asked afterwards, because a large rulebook takes long to read.
    """
    reason = reason_from_text(request.reason)
    target = target_from_pb(request.target)
    if target.spiffe_id is not None and not target.spiffe_id.is_member_of(trust_domain):
        raise Refused(Kind.INVALID, f"spiffe_id: expected one of {trust_domain}, found {target.spiffe_id}")
    done = await flow(target, reason=reason, comment=request.comment, dry_run=request.dry_run, actor=actor)
    lives = await longest_lives()
    return pb.RevokeResponse(
        revocation=revocation_to_pb(done.revocation),
        fallen=(fallen_to_pb(one, lives) for one in done.falling.groups),
        more=done.falling.more,
        exchanged=map(exchanged_to_pb, await flow.exchanged(target, lives)),
    )


async def list_revocations(flow: Revoke, *, before: int, limit: int) -> pb.ListRevocationsResponse:
    """Return one page of the revocations, newest first."""
    found = await flow.find(before=before, limit=limit)
    token = str(found[-1].number) if found and found[-1].number > 1 else ""  # revocations are never forgotten
    return pb.ListRevocationsResponse(revocations=map(revocation_to_pb, found), next_page_token=token)
