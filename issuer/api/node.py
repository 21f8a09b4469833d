"""The node door: the feed, mints and renewals of attested nodes. This only translates messages; the flows decide.

The interceptors have already determined who calls: `admitted()`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import grpc

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.wire.feed import cursor_from_pb, cursor_to_pb, write_update
from cognomen.wire.node import time_to_pb
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.questions import answer_from_pb
from cognomen.wire.receipts import enforcement_from_pb
from cognomen.wire.uses import observed_from_pb, reported_from_pb, use_from_pb
from issuer.api.interceptors import admitted
from issuer.api.join import credential_to_pb
from issuer.decisions.feedsteps import FeedStep
from issuer.decisions.minting import check_batch
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.issue_svids import Issued, IssueSVIDs, JWTRequest, X509Request
from issuer.flows.record_uses import RecordUses
from issuer.flows.renew_node import RenewNode
from svid.clock import Clock

__all__ = ["NodeService"]

_FollowContext: TypeAlias = "grpc.aio.ServicerContext[pb.FollowRequest, pb.Change]"


_PARTS_KEPT = 16  # of 64 KiB each


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeService:
    """Serves cognomen.node.v1.Node."""

    feed: FeedAttestors
    svids: IssueSVIDs
    renew: RenewNode
    uses: RecordUses
    clock: Clock

    async def Follow(self, request: pb.FollowRequest, context: _FollowContext) -> None:  # noqa: N802 - the protocol's name
        """Send the feed, until the node's SVID expires."""
        caller = admitted()
        cursor = cursor_from_pb(request.cursor) if request.HasField("cursor") else None

        async def send(step: FeedStep) -> None:
            await context.write(_change(step))

        await self.feed.follow(
            caller.node, not_after=caller.not_after, cursor=cursor, send=send, answers=request.answers
        )

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: object) -> pb.AcknowledgeResponse:  # noqa: N802 - as above
        """Note how far the attestor, its enforcement points and its reports of uses are."""
        del context
        node, cursor = admitted().node, cursor_from_pb(request.cursor)
        enforcement = enforcement_from_pb(request.enforcement, cursor.number)
        self.uses.tell(node, reported_from_pb(request.uses) if request.HasField("uses") else None)
        await self.feed.acknowledge(node, cursor, enforcement)
        return pb.AcknowledgeResponse(now=time_to_pb(self.clock.now()))

    async def MintX509SVIDs(self, request: pb.MintX509SVIDsRequest, context: object) -> pb.MintX509SVIDsResponse:  # noqa: N802 - as above
        """Mint a batch of X509-SVIDs."""
        del context
        check_batch(len(request.items))  # before anything is made from them: each becomes a Python object
        wanted = [X509Request(entry_id=EntryID(item.entry_id), public_key=item.public_key) for item in request.items]
        return pb.MintX509SVIDsResponse(
            items=[_x509(answer) for answer in await self.svids.x509(admitted().node, wanted)]
        )

    async def MintJWTSVIDs(self, request: pb.MintJWTSVIDsRequest, context: object) -> pb.MintJWTSVIDsResponse:  # noqa: N802 - as above
        """Mint a batch of JWT-SVIDs."""
        del context
        check_batch(len(request.items))  # as above
        wanted = [
            JWTRequest(entry_id=EntryID(item.entry_id), audiences=tuple(item.audiences)) for item in request.items
        ]
        return pb.MintJWTSVIDsResponse(items=[_jwt(answer) for answer in await self.svids.jwt(admitted().node, wanted)])

    async def RenewNode(self, request: pb.RenewNodeRequest, context: object) -> pb.NodeCredential:  # noqa: N802 - as above
        """Return the node's next SVID."""
        del context
        return credential_to_pb(await self.renew(admitted().node, request.public_key, request.key_signature))

    async def ReportUses(self, request: pb.ReportUsesRequest, context: object) -> pb.ReportUsesResponse:  # noqa: N802 - as above
        """Record which processes were given SVIDs, or would have been."""
        del context
        node = admitted().node
        self.uses.charge(node, len(request.uses) + len(request.observed))
        last = reported_from_pb(request.last) if request.HasField("last") else None
        uses = [*map(use_from_pb, request.uses), *map(observed_from_pb, request.observed)]
        await self.uses(node, uses, last=last)
        return pb.ReportUsesResponse()

    async def Answer(self, request: pb.AnswerRequest, context: object) -> pb.AnswerResponse:  # noqa: N802 - as above
        """Take the answer to a question."""
        del context
        receiving = self.feed.questions.answering(admitted().node.id, request.question_id)
        if receiving is not None:
            receiving.take(answer_from_pb(request, receiving.ids))
        return pb.AnswerResponse(taken=receiving is not None)


class _Parts:
    """The messages of the last parts of questions: many feeds send the same part at about the same time."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[QuestionIs, pb.Update]] = {}

    def message(self, part: QuestionIs) -> pb.Update:
        """Its message, which belongs to all of them."""
        made = self._made.get(id(part))
        if made is None or made[0] is not part:
            message = pb.Update()
            write_update(part, message)
            made = self._made[id(part)] = part, message
            if len(self._made) > _PARTS_KEPT:
                del self._made[next(iter(self._made))]
        return made[1]


_parts = _Parts()


def _change(step: FeedStep) -> pb.Change:
    message = pb.Change(cursor=cursor_to_pb(step.cursor), snapshot=step.snapshot, more=step.more)
    for update in step.updates:
        if isinstance(update, QuestionIs):
            message.updates.append(_parts.message(update))
        else:
            write_update(update, message.updates.add())
    return message


def _x509(answer: Issued[tuple[bytes, ...]] | Refused) -> pb.MintedX509SVID:
    if isinstance(answer, Refused):
        return pb.MintedX509SVID(refusal=_refusal(answer))
    row = answer.credential
    return pb.MintedX509SVID(
        credential=pb.X509Credential(
            chain=answer.signed, issued_at=time_to_pb(row.issued_at), entry_revision=row.entry_revision
        )
    )


def _jwt(answer: Issued[str] | Refused) -> pb.MintedJWTSVID:
    if isinstance(answer, Refused):
        return pb.MintedJWTSVID(refusal=_refusal(answer))
    row = answer.credential
    return pb.MintedJWTSVID(
        credential=pb.JWTCredential(
            token=answer.signed,
            issued_at=time_to_pb(row.issued_at),
            expires_at=time_to_pb(row.not_after),
            entry_revision=row.entry_revision,
        )
    )


def _refusal(refused: Refused) -> pb.Refusal:
    return pb.Refusal(kind=refused.kind.value, detail=refused.detail)
