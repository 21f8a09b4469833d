"""The attestor's Callers service, on the socket of a WorkloadAPIDouble, that says what a test tells it to."""

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

import grpc
from google.protobuf.message import Message

from svid.spiffeid import SpiffeID
from svid.wire.pb import callers_pb2 as pb
from tests.doubles.fail import Fail

__all__ = ["CallersDouble", "listed"]

_SERVICE = "cognomen.workload.v1.Callers"
_SECONDS = 10


def listed(
    callers: Mapping[SpiffeID, Sequence[SpiffeID] | None], *, more: bool = False, age: timedelta | None = timedelta()
) -> pb.DeclaredCallers:
    """A message with these identities and their callers; None: not declared."""
    message = pb.DeclaredCallers(more=more)
    for spiffe_id, ids in callers.items():
        message.identities.add(spiffe_id=str(spiffe_id), declared=ids is not None, callers=map(str, ids or ()))
    if age is not None:
        message.age.FromTimedelta(age)
    return message


class CallersDouble:
    """Each stream begins with the list of that moment; then comes what the test says while it is open.

    Attributes:
        opening: what a stream begins with instead of the list; None: the list.
        streams: the metadata of each Follow so far.
    """

    def __init__(self, callers: Mapping[SpiffeID, Sequence[SpiffeID] | None]) -> None:
        self.opening: list[pb.DeclaredCallers | Fail] | None = None
        self.streams: list[dict[str, str | bytes]] = []
        self._callers = callers
        self._said: list[pb.DeclaredCallers | Fail] = []
        self._changed = threading.Condition()

    def serve(self, server: grpc.Server) -> None:
        """Add this service to a server that was not started yet."""
        handlers: dict[str, grpc.RpcMethodHandler[Message, bytes]] = {
            "Follow": grpc.unary_stream_rpc_method_handler(
                self._follow, request_deserializer=pb.FollowCallersRequest.FromString, response_serializer=None
            )
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])

    def declare(self, callers: Mapping[SpiffeID, Sequence[SpiffeID] | None]) -> None:
        """Hold this list from now on, and tell every open stream."""
        with self._changed:
            self._callers = callers
            self._say(listed(callers))

    def say(self, *steps: pb.DeclaredCallers | Fail) -> None:
        """Tell every open stream, and hold nothing."""
        with self._changed:
            self._say(*steps)

    def wait_for_streams(self, count: int) -> None:
        """Return when that many were opened."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.streams) >= count, _SECONDS), self.streams

    def _say(self, *steps: pb.DeclaredCallers | Fail) -> None:
        self._said.extend(steps)
        self._changed.notify_all()

    def _follow(self, _request: Message, context: grpc.ServicerContext) -> Iterator[bytes]:
        for step in self._steps(context):
            if isinstance(step, Fail):
                context.set_code(step.code)
                context.set_details(step.detail)
                return
            yield step.SerializeToString()

    def _steps(self, context: grpc.ServicerContext) -> Iterator[pb.DeclaredCallers | Fail]:
        with self._changed:
            context.add_callback(self._wake)
            opening = [listed(self._callers)] if self.opening is None else list(self.opening)
            seen = len(self._said)
            self.streams.append(dict(context.invocation_metadata()))
            self._changed.notify_all()
        yield from opening
        for at in itertools.count(seen):
            with self._changed:
                self._changed.wait_for(partial(self._has_more, at, context))
                if not context.is_active():
                    return
                step = self._said[at]
            yield step

    def _has_more(self, at: int, context: grpc.ServicerContext) -> bool:
        return at < len(self._said) or not context.is_active()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
