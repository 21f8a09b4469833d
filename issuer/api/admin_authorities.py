"""The admin door's words for authorities and the clock."""

from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.decisions.authority import Authority, AuthorityKind
from issuer.flows.rotate_authority import RotateAuthority

__all__ = ["authority_to_pb", "list_authorities", "rotate_authority"]


async def list_authorities(flow: RotateAuthority) -> pb.ListAuthoritiesResponse:
    """All authorities, oldest first."""
    return pb.ListAuthoritiesResponse(authorities=[authority_to_pb(row, waits) for row, waits in await flow.rows()])


async def rotate_authority(
    flow: RotateAuthority, request: pb.RotateAuthorityRequest, *, actor: str
) -> pb.ListAuthoritiesResponse:
    """Have the next authority of a kind sign as soon as everybody knows it."""
    if request.kind not in set(AuthorityKind):
        expected = ", ".join(AuthorityKind)
        raise Refused(Kind.INVALID, f"kind: expected one of {expected}, found {request.kind!r}")
    await flow.ask(AuthorityKind(request.kind), actor=actor)
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
    for name in ("published_at", "activate_at", "activated_at", "last_not_after"):
        if (moment := getattr(row, name)) is not None:
            getattr(message, name).FromDatetime(moment)
    return message
