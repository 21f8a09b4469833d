"""The admin door's words for authorities."""

from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin_revocations import reason_from_text
from issuer.decisions.authority import Authority, AuthorityKind
from issuer.flows.command_authorities import CommandAuthorities, Seen

__all__ = [
    "activate_authority",
    "authority_to_pb",
    "list_authorities",
    "prepare_authority",
    "revoke_authority",
    "rotate_authority",
    "taint_authority",
]


async def list_authorities(flow: CommandAuthorities) -> pb.ListAuthoritiesResponse:
    """All authorities, oldest first."""
    return pb.ListAuthoritiesResponse(authorities=map(_seen_to_pb, await flow.seen()))


async def rotate_authority(
    flow: CommandAuthorities, request: pb.RotateAuthorityRequest, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Have the next authority of a kind sign as soon as everybody knows it."""
    await flow.rotate.ask(_kind(request.kind), actor=actor)
    return await list_authorities(flow)


async def prepare_authority(
    flow: CommandAuthorities, request: pb.PrepareAuthorityRequest, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Make and publish one more of a kind that could sign next."""
    await flow.prepare(_kind(request.kind), actor=actor)
    return await list_authorities(flow)


async def activate_authority(
    flow: CommandAuthorities, request: pb.AuthorityCommand, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Have one sign now."""
    await flow.activate(request.key_id, at_once=request.at_once, actor=actor)
    return await list_authorities(flow)


async def taint_authority(
    flow: CommandAuthorities, request: pb.AuthorityCommand, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Have all that one signed replaced."""
    reason = reason_from_text(request.reason)
    await flow.taint(request.key_id, at_once=request.at_once, reason=reason, comment=request.comment, actor=actor)
    return await list_authorities(flow)


async def revoke_authority(
    flow: CommandAuthorities, request: pb.AuthorityCommand, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Take one out of the bundle."""
    reason = reason_from_text(request.reason)
    await flow.revoke(request.key_id, at_once=request.at_once, reason=reason, comment=request.comment, actor=actor)
    return await list_authorities(flow)


def authority_to_pb(row: Authority, waits_for: str) -> pb.Authority:
    """Write an authority."""
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
