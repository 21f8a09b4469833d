"""The SPIFFE Workload API; one instance serves one caller on one connection.

Decided here: what a request must look like. Who the caller is and what it gets: flows/serve_workload.

Every method of this service requires the security header, including those of the WIT profile, which is not built. Health and reflection
do not require it, as in SPIRE: generic tools do not send it, and neither reveals anything about an identity.
"""

import math
import operator
from collections.abc import Collection, Mapping
from typing import TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from attestor.api.header import method
from attestor.decisions.update import Trust, X509Message
from attestor.flows.serve_workload import ServeWorkload
from cognomen.gate.call import only_request
from cognomen.gate.caller import Caller
from cognomen.protocol.audiences import check_audiences
from cognomen.protocol.errors import Kind, Refused
from svid.bundle import Bundle
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID
from svid.wire import workload as wire
from svid.wire.pb import workload_pb2 as pb

__all__ = ["SERVICE", "WorkloadAPI", "X509Writer"]

_FRESH = "cognomen-fresh"  # ours; other attestors ignore it

SERVICE = "SpiffeWorkloadAPI"
"""The service's full name: the standard's file has no package."""

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class X509Writer:
    """Writes the answers of FetchX509SVID and keeps the last one, so that a change for many streams is encoded once for all of them."""

    def __init__(self) -> None:
        self._last: tuple[X509Message, pb.X509SVIDResponse] | None = None

    def write(self, message: X509Message) -> pb.X509SVIDResponse:
        """Write a message; the caller must not change the result."""
        if self._last is None or not _is_same(self._last[0], message):
            trust = message.trust
            bundles = {trust.bundle.trust_domain: trust.bundle}
            context = wire.X509Context(svids=message.svids, bundles=bundles, crls=trust.crls)
            self._last = message, wire.write_x509_context(context)
        return self._last[1]


def _is_same(one: X509Message, other: X509Message) -> bool:
    """Whether both hold the same objects: that is cheaper than comparing contents, and never confuses two keys."""
    return (
        one.trust is other.trust
        and len(one.svids) == len(other.svids)
        and all(map(operator.is_, one.svids, other.svids))
    )


class WorkloadAPI:
    """The service of one connection.

    Args:
        writer: shared by all connections.

    Source: SPIFFE Workload API 5 to 7, Workload Endpoint 3 and 6
    """

    def __init__(self, flow: ServeWorkload, caller: Caller, writer: X509Writer) -> None:
        self._flow = flow
        self._caller = caller
        self._writer = writer

    def __mapping__(self) -> Mapping[str, Handler]:
        unary, stream = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        validation = pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse
        methods = {
            "FetchX509SVID": method(self._fetch_x509_svid, stream, pb.X509SVIDRequest, pb.X509SVIDResponse),
            "FetchX509Bundles": method(self._fetch_x509_bundles, stream, pb.X509BundlesRequest, pb.X509BundlesResponse),
            "FetchJWTSVID": method(self._fetch_jwt_svid, unary, pb.JWTSVIDRequest, pb.JWTSVIDResponse),
            "FetchJWTBundles": method(self._fetch_jwt_bundles, stream, pb.JWTBundlesRequest, pb.JWTBundlesResponse),
            "ValidateJWTSVID": method(self._validate_jwt_svid, unary, *validation),
            "FetchWITSVID": method(_not_built, stream, pb.WITSVIDRequest, pb.WITSVIDResponse),
            "FetchWITBundles": method(_not_built, stream, pb.WITBundlesRequest, pb.WITBundlesResponse),
        }
        return {f"/{SERVICE}/{name}": handler for name, handler in methods.items()}

    async def _fetch_x509_svid(self, stream: Stream[pb.X509SVIDRequest, pb.X509SVIDResponse]) -> None:
        await only_request(stream)

        async def send(message: X509Message) -> None:
            await stream.send_message(self._writer.write(message))

        await self._flow.watch_x509(self._caller, send)

    async def _fetch_x509_bundles(self, stream: Stream[pb.X509BundlesRequest, pb.X509BundlesResponse]) -> None:
        await only_request(stream)

        async def send(trust: Trust) -> None:
            bundles = {trust.bundle.trust_domain: trust.bundle}
            await stream.send_message(wire.write_x509_bundles(bundles, crls=trust.crls))

        await self._flow.watch_x509_bundles(self._caller, send)

    async def _fetch_jwt_bundles(self, stream: Stream[pb.JWTBundlesRequest, pb.JWTBundlesResponse]) -> None:
        await only_request(stream)

        async def send(bundle: Bundle) -> None:
            await stream.send_message(wire.write_jwt_bundles({bundle.trust_domain: bundle}))

        await self._flow.watch_jwt_bundles(self._caller, send)

    async def _fetch_jwt_svid(self, stream: Stream[pb.JWTSVIDRequest, pb.JWTSVIDResponse]) -> None:
        request = await only_request(stream)
        check_audiences(request.audience, field="audience")
        patience = math.inf if stream.deadline is None else stream.deadline.time_remaining()
        issued = await self._flow.fetch_jwts(
            self._caller,
            request.audience,
            _spiffe_id(request.spiffe_id),
            patience=patience,
            fresh=stream.metadata is not None and stream.metadata.get(_FRESH) == "true",
        )
        await stream.send_message(wire.write_jwt_svids((one.spiffe_id, one.token, one.hint) for one in issued))

    async def _validate_jwt_svid(self, stream: Stream[pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse]) -> None:
        request = await only_request(stream)
        _require("audience", request.audience)
        _require("svid", request.svid)
        await stream.send_message(wire.write_validation(self._flow.validate_jwt(request.audience, request.svid)))


async def _not_built(_: Stream[_Request, _Response]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "WIT-SVID: this profile is not supported")


def _require(field: str, value: Collection[object]) -> None:
    if not value:
        raise Refused(Kind.INVALID, f"{field}: missing")


def _spiffe_id(text: str) -> SpiffeID | None:
    try:
        return SpiffeID.parse(text) if text else None
    except SpiffeIDError as err:
        raise Refused(Kind.INVALID, f"spiffe_id: {err}") from err
