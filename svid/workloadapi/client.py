"""Calls of the SPIFFE Workload API over gRPC: one method each, a value back or an error that says why not.

Beside it, on the same socket, our own attestor serves what the standard has no message for: which credentials are denied.

A call is made once: following a stream and trying again is svid/workloadapi/sources'. The stubs are made by hand, because the service's
name has no package and our messages have one (two copies of un-packaged messages cannot live in one process).
"""

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Generic, Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message

from svid.bundle import Bundle
from svid.errors import JWTSVIDError, WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.denials import Enforced, write_enforced
from svid.wire.pb import denials_pb2
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import (
    ValidatedToken,
    X509Context,
    read_jwt_bundles,
    read_jwt_svids,
    read_validation,
    read_x509_bundles,
    read_x509_context,
)
from svid.workloadapi.address import endpoint_target

__all__ = ["Stream", "WorkloadAPIClient"]

_SERVICE = "/SpiffeWorkloadAPI"
_DENIALS = "/cognomen.workload.v1.Denials"
_HEADER = (("workload.spiffe.io", "true"),)
_MAX_MESSAGE_BYTES = 16 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # our own backoff decides when to try; the channel must not hold it up
    ("grpc.max_reconnect_backoff_ms", 1000),
    (
        "grpc.enable_retries",
        0,
    ),  # a call that a gate turned away would be made again at once, for ever, and each attempt kept in memory
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_Response = TypeVar("_Response", bound=Message)
_Message_co = TypeVar("_Message_co", covariant=True)


class _Call(Protocol[_Message_co]):
    def __iter__(self) -> Iterator[_Message_co]: ...

    def cancel(self) -> bool: ...


class Stream(Generic[_Response]):
    """An open stream: iterate over its messages; `cancel`, from any thread, ends the iteration.

    Raises:
        WorkloadAPIError: while iterating; the stream ended with a status.
    """

    def __init__(self, call: _Call[_Response]) -> None:
        self._call = call

    def __iter__(self) -> Iterator[_Response]:
        try:
            yield from self._call
        except grpc.RpcError as e:
            raise _error(e) from e

    def cancel(self) -> None:
        """End the stream, now."""
        self._call.cancel()


class WorkloadAPIClient:
    """A connection to the Workload API; it is made with the first call, and again when it was lost. Usable from any thread.

    Args:
        socket: `unix:///path` or `tcp://ip:port`; without it SPIFFE_ENDPOINT_SOCKET says where.
        timeout: how long each call may take.

    Attributes:
        target: where the Workload API is, as gRPC names it.

    Raises:
        AddressError: no address, or none that can be used.
    """

    def __init__(self, socket: str | None = None, *, timeout: timedelta = timedelta(seconds=10)) -> None:
        self.target = endpoint_target(socket)
        self._channel = self._dial()
        self._changing = threading.Lock()
        self._is_closed = False
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every stream on it."""
        with self._changing:
            self._is_closed = True
        self._channel.close()

    def reconnect(self) -> None:
        """Leave the connection, whoever is at its other end: what is under way on it ends, and what comes next is asked on a new one."""
        with self._changing:
            if self._is_closed:
                return
            left, self._channel = self._channel, self._dial()
        left.close()

    def fetch_x509_context(self) -> X509Context:
        """Fetch the X509-SVIDs of this process, with the bundles to check its peers.

        Raises:
            WorkloadAPIError: PERMISSION_DENIED where there is no identity for this process; any other status.
            SVIDError: an answer that is none.
        """
        return read_x509_context(self._first(f"{_SERVICE}/FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse))

    def fetch_x509_bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Fetch the bundles that authenticate X509-SVIDs; raises as fetch_x509_context."""
        return read_x509_bundles(
            self._first(f"{_SERVICE}/FetchX509Bundles", pb.X509BundlesRequest(), pb.X509BundlesResponse)
        )

    def fetch_jwt_bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Fetch the bundles that authenticate JWT-SVIDs; raises as fetch_x509_context."""
        return read_jwt_bundles(
            self._first(f"{_SERVICE}/FetchJWTBundles", pb.JWTBundlesRequest(), pb.JWTBundlesResponse)
        )

    def fetch_jwt_svids(
        self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None
    ) -> tuple[JWTSVID, ...]:
        """Fetch a JWT-SVID for each identity of this process, or for that one alone, the default one first.

        Raises:
            SpiffeIDError: a text that is no SPIFFE ID.
            WorkloadAPIError: PERMISSION_DENIED where there is no such identity for this process; any other status.
            JWTSVIDError: an answer that is none.
        """
        audiences = [audience] if isinstance(audience, str) else list(audience)
        if isinstance(spiffe_id, str):
            spiffe_id = SpiffeID.parse(spiffe_id)
        request = pb.JWTSVIDRequest(audience=audiences, spiffe_id=str(spiffe_id or ""))
        svids = read_jwt_svids(self._call(f"{_SERVICE}/FetchJWTSVID", request, pb.JWTSVIDResponse))
        for svid in svids:
            if not set(audiences) <= set(svid.audiences):
                raise JWTSVIDError(f"aud: expected {audiences}, found {list(svid.audiences)}", clause="JWT-SVID 3.2")
            if spiffe_id is not None and svid.spiffe_id != spiffe_id:
                raise JWTSVIDError(f"sub: expected {spiffe_id}, found {svid.spiffe_id}", clause="Workload API 6.2.1")
        return svids

    def fetch_jwt_svid(self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None) -> JWTSVID:
        """Fetch the JWT-SVID of the default identity, or of that one; raises as fetch_jwt_svids."""
        return self.fetch_jwt_svids(audience, spiffe_id=spiffe_id)[0]

    def validate_jwt_svid(self, token: str, audience: str) -> ValidatedToken:
        """Let the Workload API say whose token this is.

        Raises:
            WorkloadAPIError: INVALID_ARGUMENT where the token is not valid for this audience; any other status.
        """
        request = pb.ValidateJWTSVIDRequest(audience=audience, svid=token)
        return read_validation(self._call(f"{_SERVICE}/ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse))

    def open_x509_contexts(self) -> Stream[pb.X509SVIDResponse]:
        """Open the stream of FetchX509SVID."""
        return self._open(f"{_SERVICE}/FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse, None)

    def open_jwt_bundles(self) -> Stream[pb.JWTBundlesResponse]:
        """Open the stream of FetchJWTBundles."""
        return self._open(f"{_SERVICE}/FetchJWTBundles", pb.JWTBundlesRequest(), pb.JWTBundlesResponse, None)

    def open_denials(self) -> Stream[denials_pb2.Denied]:
        """Open the stream of what is denied; a Workload API of somebody else's answers UNIMPLEMENTED."""
        return self._open(f"{_DENIALS}/Follow", denials_pb2.FollowRequest(), denials_pb2.Denied, None)

    def enforced(self, receipt: Enforced) -> None:
        """Tell the attestor what an enforcement point has taken.

        Raises:
            WorkloadAPIError: any status.
        """
        self._call(f"{_DENIALS}/Enforced", write_enforced(receipt), denials_pb2.EnforcedResponse)

    def _dial(self) -> grpc.Channel:
        return grpc.insecure_channel(self.target, options=_OPTIONS)

    def _open(
        self, method: str, request: Message, response: type[_Response], timeout: timedelta | None
    ) -> Stream[_Response]:
        stub = self._channel.unary_stream(
            method, request_serializer=_serialize, response_deserializer=response.FromString
        )
        with _closed_is_an_error():
            return Stream(stub(request, metadata=_HEADER, timeout=None if timeout is None else timeout.total_seconds()))

    def _first(self, method: str, request: Message, response: type[_Response]) -> _Response:
        stream = self._open(method, request, response, self._timeout)
        try:
            for message in stream:
                return message
        finally:
            stream.cancel()
        raise WorkloadAPIError(f"{method}: expected a message, found the end of the stream", code="OK")

    def _call(self, method: str, request: Message, response: type[_Response]) -> _Response:
        stub = self._channel.unary_unary(
            method, request_serializer=_serialize, response_deserializer=response.FromString
        )
        try:
            with _closed_is_an_error():
                return stub(request, metadata=_HEADER, timeout=self._timeout.total_seconds())
        except grpc.RpcError as e:
            raise _error(e) from e


def _serialize(request: Message) -> bytes:
    return request.SerializeToString()


@contextlib.contextmanager
def _closed_is_an_error() -> Iterator[None]:
    try:
        yield
    except ValueError as e:  # how gRPC says that the channel was closed
        raise WorkloadAPIError("client: expected an open one, found it closed", code="CANCELLED") from e


def _error(error: grpc.RpcError) -> WorkloadAPIError:
    """Every error of a call made by a channel is its own Call, and knows the status."""
    code = error.code().name
    return WorkloadAPIError(f"the Workload API answered {code}: {error.details()}", code=code)
