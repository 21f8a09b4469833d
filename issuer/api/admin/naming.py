"""The admin door's messages for what operators type in place of ids."""

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import MOST_TEXTS, Nameable
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import choice
from issuer.api.admin.part import Part

__all__ = ["NamingPart"]


class NamingPart(Part):
    """The method that finds ids."""

    async def resolve(self, request: pb.ResolveRequest) -> pb.ResolveResponse:
        kind = choice(Nameable, request.kind, "kind")
        if kind is None:
            raise Refused(Kind.INVALID, f"kind: expected one of {', '.join(Nameable)}, found nothing")
        if len(request.texts) > MOST_TEXTS:
            raise Refused(Kind.INVALID, f"texts: expected at most {MOST_TEXTS}, found {len(request.texts)}")
        found = await self._flows.queries.resolve(kind, request.texts, with_past=request.past)
        return pb.ResolveResponse(
            meanings=[
                pb.Meanings(meanings=[pb.Meaning(id=one.id, spiffe_id=one.spiffe_id) for one in each]) for each in found
            ]
        )
