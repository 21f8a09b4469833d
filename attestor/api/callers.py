"""The service that tells our own library who may call it, beside the Workload API; one instance serves one caller on one connection.

Decided here: what a message looks like. Who is told what: flows/serve_callers.
"""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from attestor.api.header import method
from attestor.flows.serve_callers import CallersWord, ServeCallers
from cognomen.gate.call import only_request
from cognomen.gate.caller import Caller
from svid.wire.pb import callers_pb2 as pb

__all__ = ["Callers"]

_SERVICE = "cognomen.workload.v1.Callers"


class Callers:
    """Serves cognomen.workload.v1.Callers to one caller."""

    def __init__(self, flow: ServeCallers, caller: Caller) -> None:
        self._flow = flow
        self._caller = caller

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by their paths."""
        messages = pb.FollowCallersRequest, pb.DeclaredCallers
        return {f"/{_SERVICE}/Follow": method(self._follow, Cardinality.UNARY_STREAM, *messages)}

    async def _follow(self, stream: Stream[pb.FollowCallersRequest, pb.DeclaredCallers]) -> None:
        await only_request(stream)

        async def send(word: CallersWord) -> None:
            await stream.send_message(_declared(word))

        await self._flow.follow(self._caller, send)


def _declared(word: CallersWord) -> pb.DeclaredCallers:
    age = Duration()
    age.FromTimedelta(word.age)
    identities = [
        pb.DeclaredIdentity(
            spiffe_id=str(one.spiffe_id), declared=one.callers is not None, callers=map(str, one.callers or ())
        )
        for one in word.declared
    ]
    return pb.DeclaredCallers(unchanged=word.unchanged, more=word.more, identities=identities, age=age)
