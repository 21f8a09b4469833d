"""Calls of the SPIFFE Workload API over gRPC: one method for each; it returns a value, or raises an error that says why not.

On the same socket, our own attestor also serves something that the standard has no message for: the denied credentials.

A call is made only once; svid/workloadapi/sources follows streams and tries again. The stubs are hand-written, because the service's name
has no package, but our messages have one (one process cannot hold two copies of messages without a package).
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
from svid.wire.pb import callers_pb2, denials_pb2
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
from svid.workloadapi.forks import forks
from svid.workloadapi.reach import explained
from svid.workloadapi.words import answered

__all__ = ["Stream", "WorkloadAPIClient"]

_SERVICE = "/SpiffeWorkloadAPI"
_DENIALS = "/cognomen.workload.v1.Denials"
_CALLERS = "/cognomen.workload.v1.Callers"
_HEADER = (("workload.spiffe.io", "true"),)
_FRESH = (*_HEADER, ("cognomen-fresh", "true"))
_MAX_MESSAGE_BYTES = 16 << 20
_ANSWERS_SECONDS = 0.5
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # our own backoff decides when to try; the channel must not delay it
    ("grpc.max_reconnect_backoff_ms", 1000),
    (
        "grpc.enable_retries",
        0,
    ),  # gRPC would retry a call that a gate turned away at once, forever, and keep each attempt in memory
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_Response = TypeVar("_Response", bound=Message)
_Message_co = TypeVar("_Message_co", covariant=True)


class _Call(Protocol[_Message_co]):
    def __iter__(self) -> Iterator[_Message_co]: ...

    def cancel(self) -> bool: ...


class Stream(Generic[_Response]):
    """An open stream: iterate over its messages. `cancel`, from any thread, ends the iteration; a fork of this process does so as well.

    Attributes:
        is_interrupted: whether a fork ended it.

    Raises:
        WorkloadAPIError: while iterating; the stream ended with a status.
    """

    def __init__(self, call: _Call[_Response]) -> None:
        self._call = call
        self.is_interrupted = False

    def __iter__(self) -> Iterator[_Response]:
        messages = iter(self._call)
        try:
            while True:
                with forks.within():
                    message = next(messages, None)
                if message is None:
                    return
                yield message
        except grpc.RpcError as e:
            raise _error(e) from e
        finally:
            forks.leave(self)

    def cancel(self) -> None:
        """End the stream now."""
        forks.leave(self)
        self._call.cancel()

    def interrupt(self) -> None:
        """End the stream because of a fork."""
        self.is_interrupted = True
        self._call.cancel()


class WorkloadAPIClient:
    """A connection to the Workload API; it connects at the first call, and reconnects after a loss. Usable from any thread.

    In a forked child it makes a new connection, unless a thread was inside a call at the time of the fork.

    Args:
        socket: `unix:///path` or `tcp://ip:port`; the default is the value of SPIFFE_ENDPOINT_SOCKET.
        timeout: how long each call may take.

    Attributes:
        target: the address of the Workload API in gRPC's notation.

    Raises:
        AddressError: there is no address, or it cannot be used.
    """

    def __init__(self, socket: str | None = None, *, timeout: timedelta = timedelta(seconds=10)) -> None:
        self.target = endpoint_target(socket)
        self._timeout = timeout
        self._is_closed = False
        self._inherited: list[grpc.Channel] = []  # a child must neither use nor close these
        self._changing = threading.Lock()
        self._channel: grpc.Channel | None = None
        forks.renew(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every stream on it."""
        with self._changing:
            self._is_closed = True
            channel = self._channel
        if channel is not None:
            channel.close()

    def reconnect(self) -> None:
        """Drop the connection, whatever its state: calls in progress on it end, and the next call makes a new one."""
        with self._changing:
            if self._is_closed:
                return
            left, self._channel = self._channel, None
        if left is not None:
            left.close()

    def renew(self) -> None:
        """In a forked child, leave the connection to the parent that made it."""
        self._changing = threading.Lock()
        if self._channel is not None:
            self._inherited.append(self._channel)
            self._channel = None

    def fetch_x509_context(self) -> X509Context:
        """Fetch the X509-SVIDs of this process, and the bundles to check its peers with.

        Raises:
            WorkloadAPIError: PERMISSION_DENIED if this process has no identity; or any other status.
            SVIDError: the answer is not valid.
        """
        return read_x509_context(self._first(f"{_SERVICE}/FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse))

    def fetch_x509_bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Fetch the bundles that authenticate X509-SVIDs; raises the errors of fetch_x509_context."""
        return read_x509_bundles(
            self._first(f"{_SERVICE}/FetchX509Bundles", pb.X509BundlesRequest(), pb.X509BundlesResponse)
        )

    def fetch_jwt_bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Fetch the bundles that authenticate JWT-SVIDs; raises the errors of fetch_x509_context."""
        return read_jwt_bundles(
            self._first(f"{_SERVICE}/FetchJWTBundles", pb.JWTBundlesRequest(), pb.JWTBundlesResponse)
        )

    def fetch_jwt_svids(
        self,
        audience: str | Collection[str],
        *,
        spiffe_id: SpiffeID | str | None = None,
        timeout: timedelta | None = None,
        fresh: bool = False,
    ) -> tuple[JWTSVID, ...]:
        """Fetch a JWT-SVID for each identity of this process, the default one first, or only for `spiffe_id`.

        Args:
            timeout: how long the call may take; None means the client's own timeout.
            fresh: ask for tokens that nobody else has received or will receive; an attestor other than ours may ignore it.

        Raises:
            SpiffeIDError: the text is not a SPIFFE ID.
            WorkloadAPIError: PERMISSION_DENIED if this process has no such identity; or any other status.
            JWTSVIDError: the answer is not valid.
        """
        audiences = [audience] if isinstance(audience, str) else list(audience)
        if isinstance(spiffe_id, str):
            spiffe_id = SpiffeID.parse(spiffe_id)
        request = pb.JWTSVIDRequest(audience=audiences, spiffe_id=str(spiffe_id or ""))
        metadata = _FRESH if fresh else _HEADER
        answer = self._call(f"{_SERVICE}/FetchJWTSVID", request, pb.JWTSVIDResponse, timeout, metadata=metadata)
        svids = read_jwt_svids(answer)
        for svid in svids:
            if not set(audiences) <= set(svid.audiences):
                raise JWTSVIDError(f"aud: expected {audiences}, found {list(svid.audiences)}", clause="JWT-SVID 3.2")
            if spiffe_id is not None and svid.spiffe_id != spiffe_id:
                raise JWTSVIDError(f"sub: expected {spiffe_id}, found {svid.spiffe_id}", clause="Workload API 6.2.1")
        return svids

    def fetch_jwt_svid(
        self,
        audience: str | Collection[str],
        *,
        spiffe_id: SpiffeID | str | None = None,
        timeout: timedelta | None = None,
        fresh: bool = False,
    ) -> JWTSVID:
        """Fetch the JWT-SVID of the default identity, or of `spiffe_id`; arguments and errors are those of fetch_jwt_svids."""
        return self.fetch_jwt_svids(audience, spiffe_id=spiffe_id, timeout=timeout, fresh=fresh)[0]

    def validate_jwt_svid(self, token: str, audience: str) -> ValidatedToken:
        """Let the Workload API check a token, and return its identity and claims.

        Raises:
            WorkloadAPIError: INVALID_ARGUMENT if the token is not valid for this audience; or any other status.
        """
        request = pb.ValidateJWTSVIDRequest(audience=audience, svid=token)
        return read_validation(self._call(f"{_SERVICE}/ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse))

    def open_x509_contexts(self) -> Stream[pb.X509SVIDResponse]:
        """Open the stream of FetchX509SVID."""
        return self._follow(f"{_SERVICE}/FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse)

    def open_jwt_bundles(self) -> Stream[pb.JWTBundlesResponse]:
        """Open the stream of FetchJWTBundles."""
        return self._follow(f"{_SERVICE}/FetchJWTBundles", pb.JWTBundlesRequest(), pb.JWTBundlesResponse)

    def open_denials(self) -> Stream[denials_pb2.Denied]:
        """Open the stream of denials; a Workload API other than our attestor's answers UNIMPLEMENTED."""
        return self._follow(f"{_DENIALS}/Follow", denials_pb2.FollowRequest(), denials_pb2.Denied)

    def open_callers(self) -> Stream[callers_pb2.DeclaredCallers]:
        """Open the stream of our declared callers; a Workload API other than our attestor's answers UNIMPLEMENTED."""
        return self._follow(f"{_CALLERS}/Follow", callers_pb2.FollowCallersRequest(), callers_pb2.DeclaredCallers)

    def enforced(self, receipt: Enforced) -> None:
        """Tell the attestor up to which epoch an enforcement point enforces denials.

        Raises:
            WorkloadAPIError: any status.
        """
        self._call(f"{_DENIALS}/Enforced", write_enforced(receipt), denials_pb2.EnforcedResponse)

    def answers(self) -> bool:
        """Whether the Workload API answers at all within half a second; it gets an invalid request, and any answer counts."""
        try:
            with forks.within(), self._connection() as channel:
                ask = channel.unary_unary(
                    f"{_SERVICE}/ValidateJWTSVID",
                    request_serializer=_serialize,
                    response_deserializer=pb.ValidateJWTSVIDResponse.FromString,
                )
                ask(pb.ValidateJWTSVIDRequest(), metadata=_HEADER, timeout=_ANSWERS_SECONDS)
        except grpc.RpcError as e:
            return e.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        except WorkloadAPIError:
            return False
        return True

    @contextlib.contextmanager
    def _connection(self) -> Iterator[grpc.Channel]:
        """Yield the channel, to begin a call.

        Raises:
            WorkloadAPIError: CANCELLED if this client was closed, UNAVAILABLE if gRPC cannot work in this process.
        """
        forks.demand_usable()
        with self._changing:
            if self._is_closed:
                raise _closed()
            if self._channel is None:
                self._channel = grpc.insecure_channel(self.target, options=_OPTIONS)
            channel = self._channel
        try:
            yield channel
        except ValueError as e:  # gRPC raises this if the channel was closed
            raise _closed() from e

    def _follow(self, method: str, request: Message, response: type[_Response]) -> Stream[_Response]:
        """Open a stream that goes on until it is cancelled or the process forks."""
        with forks.within():
            stream = self._open(method, request, response, None)
            forks.keep(stream)
        return stream

    def _open(
        self, method: str, request: Message, response: type[_Response], timeout: timedelta | None
    ) -> Stream[_Response]:
        with self._connection() as channel:
            stub = channel.unary_stream(
                method, request_serializer=_serialize, response_deserializer=response.FromString
            )
            return Stream(stub(request, metadata=_HEADER, timeout=None if timeout is None else timeout.total_seconds()))

    def _first(self, method: str, request: Message, response: type[_Response]) -> _Response:
        with forks.within():
            stream = self._open(method, request, response, self._timeout)
        try:
            for message in stream:
                return message
        except WorkloadAPIError as e:
            raise explained(e, self.target, self._timeout, answers=self.answers) from e
        finally:
            stream.cancel()
        raise WorkloadAPIError(f"{method}: expected a message, found the end of the stream", code="OK")

    def _call(
        self,
        method: str,
        request: Message,
        response: type[_Response],
        timeout: timedelta | None = None,
        *,
        metadata: tuple[tuple[str, str], ...] = _HEADER,
    ) -> _Response:
        timeout = self._timeout if timeout is None else timeout
        try:
            with forks.within(), self._connection() as channel:
                stub = channel.unary_unary(
                    method, request_serializer=_serialize, response_deserializer=response.FromString
                )
                return stub(request, metadata=metadata, timeout=timeout.total_seconds())
        except grpc.RpcError as e:
            raise explained(_error(e), self.target, timeout, answers=self.answers) from e


def _serialize(request: Message) -> bytes:
    return request.SerializeToString()


def _closed() -> WorkloadAPIError:
    return WorkloadAPIError("client: already closed", code="CANCELLED")


def _error(error: grpc.RpcError) -> WorkloadAPIError:
    """Convert gRPC's error; an error of a channel's call is also its Call, and knows the status."""
    return answered(error.code().name, error.details() or "")
