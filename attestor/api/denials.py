"""The service that streams denials to our own library, beside the Workload API; one instance serves one caller on one connection.

Decided here: what a message looks like. Which caller is sent what: flows/serve_denials. Who may report what it enforces: attestor/receipts.
"""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from attestor.api.header import method
from attestor.flows.serve_denials import ServeDenials, Word
from attestor.receipts import Follower
from cognomen.gate.call import only_request
from cognomen.gate.caller import Caller
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from svid.errors import SVIDError
from svid.spiffeid import TrustDomain
from svid.wire.denials import read_enforced
from svid.wire.pb import denials_pb2 as pb

__all__ = ["Denials"]

_SERVICE = "cognomen.workload.v1.Denials"


class Denials:
    """Serves cognomen.workload.v1.Denials to one caller."""

    def __init__(self, flow: ServeDenials, caller: Caller, trust_domain: TrustDomain) -> None:
        self._flow = flow
        self._follower = Follower(caller)
        self._trust_domain = trust_domain

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by their paths."""
        receipt = pb.EnforcedRequest, pb.EnforcedResponse
        return {
            f"/{_SERVICE}/Follow": method(self._follow, Cardinality.UNARY_STREAM, pb.FollowRequest, pb.Denied),
            f"/{_SERVICE}/Enforced": method(self._enforced, Cardinality.UNARY_UNARY, *receipt),
        }

    async def _follow(self, stream: Stream[pb.FollowRequest, pb.Denied]) -> None:
        await only_request(stream)

        async def send(word: Word) -> None:
            await stream.send_message(_denied(word, self._trust_domain))

        await self._flow.follow(self._follower, send)

    async def _enforced(self, stream: Stream[pb.EnforcedRequest, pb.EnforcedResponse]) -> None:
        request = await only_request(stream)
        try:
            receipt = read_enforced(request)
        except SVIDError as e:
            raise Refused(Kind.INVALID, str(e)) from e
        if receipt.gone:
            self._flow.receipts.leave(self._follower, receipt.point)
        else:
            epoch = Cursor(incarnation=receipt.epoch.incarnation, number=receipt.epoch.number)
            self._flow.receipts.take(self._follower, receipt.point, epoch)
        await stream.send_message(pb.EnforcedResponse())


def _denied(word: Word, trust_domain: TrustDomain) -> pb.Denied:
    age = Duration()
    age.FromTimedelta(word.age)
    epoch = word.epoch
    return pb.Denied(
        trust_domain=trust_domain.name,
        epoch=None if epoch is None else pb.Epoch(incarnation=epoch.incarnation, number=epoch.number),
        snapshot=word.snapshot,
        more=word.more,
        numbers=word.denials.numbers,
        ends=word.denials.ends,
        age=age,
    )
