"""The admin door's messages for authorities."""

from collections.abc import Sequence

from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.part import Part
from issuer.api.admin.revocationmessages import reason_from_text
from issuer.decisions.authority import Authority, AuthorityKind
from issuer.keepers.authority_outlook import Seen

__all__ = ["AuthoritiesPart", "authority_to_pb"]


class AuthoritiesPart(Part):
    """The methods for authorities."""

    async def list_authorities(self, request: pb.ListAuthoritiesRequest) -> pb.ListAuthoritiesResponse:
        del request
        return await self._authorities()

    async def rotate_authority(self, request: pb.RotateAuthorityRequest) -> pb.ListAuthoritiesResponse:
        flow = self._flows.authorities
        lost = await flow.ask(_kind(request.kind), at_once=request.at_once, actor=self._by(request))
        return await self._authorities(cut_off=lost)

    async def prepare_authority(self, request: pb.PrepareAuthorityRequest) -> pb.ListAuthoritiesResponse:
        await self._flows.authorities.prepare(_kind(request.kind), actor=self._by(request))
        return await self._authorities()

    async def activate_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        flow = self._flows.authorities
        lost = await flow.activate(request.key_id, at_once=request.at_once, actor=self._by(request))
        return await self._authorities(cut_off=lost)

    async def taint_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        reason = reason_from_text(request.reason)
        lost = await self._flows.authorities.taint(
            request.key_id, at_once=request.at_once, reason=reason, comment=request.comment, actor=self._by(request)
        )
        return await self._authorities(cut_off=lost)

    async def revoke_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        reason = reason_from_text(request.reason)
        lost = await self._flows.authorities.revoke(
            request.key_id, at_once=request.at_once, reason=reason, comment=request.comment, actor=self._by(request)
        )
        return await self._authorities(cut_off=lost)

    async def _authorities(self, *, cut_off: Sequence[str] = ()) -> pb.ListAuthoritiesResponse:
        """All authorities, and the nodes that a command cut off."""
        seen = await self._flows.authorities.seen()
        return pb.ListAuthoritiesResponse(authorities=map(_seen_to_pb, seen), cut_off=cut_off)


def authority_to_pb(row: Authority, waits_for: str) -> pb.Authority:
    """Translate an authority."""
    message = pb.Authority(
        key_id=row.key_id,
        kind=row.kind.value,
        state=row.state.value,
        not_before=time_to_pb(row.not_before),
        not_after=time_to_pb(row.not_after),
        waits_for=waits_for,
    )
    for name in ("published_at", "activate_at", "activated_at", "last_not_after", "tainted_at"):
        if (moment := getattr(row, name)) is not None:
            getattr(message, name).FromDatetime(moment)
    return message


def _seen_to_pb(seen: Seen) -> pb.Authority:
    message = authority_to_pb(seen.authority, seen.waits_for)
    message.use.live, message.use.unreplaced = seen.use.live, seen.use.unreplaced
    message.use.attestors, message.use.acknowledged = seen.attestors, seen.acknowledged
    return message


def _kind(text: str) -> AuthorityKind:
    if text not in set(AuthorityKind):
        raise Refused(Kind.INVALID, f"kind: expected one of {', '.join(AuthorityKind)}, found {text!r}")
    return AuthorityKind(text)
