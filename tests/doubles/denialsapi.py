"""The attestor's Denials service, on the socket of a WorkloadAPIDouble, that says what a test tells it to and keeps the receipts."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import grpc
from google.protobuf.message import Message

from svid.clock import SystemClock
from svid.denials import Denial
from svid.spiffeid import TrustDomain
from svid.wire.denials import DenialsMessage, Enforced, Epoch, read_enforced, write_denied
from svid.wire.pb import denials_pb2 as pb
from tests.doubles.fail import Fail

__all__ = ["DenialsDouble"]

_SERVICE = "cognomen.workload.v1.Denials"
_SECONDS = 10
_HOUR = timedelta(hours=1)


class DenialsDouble:
    """Each stream begins with all that is denied, in one message; then comes what the test says while it is open.

    Put in front of another WorkloadAPIDouble, it is the same attestor started again.

    Attributes:
        opening: what a stream begins with instead of the snapshot; None: the snapshot.
        age: how long ago the issuer was heard, as messages say; None: they do not.
        refuses_receipts: the status of each receipt; None: they are kept.
        holds_receipts: whether receipts get no answer until their caller goes away.
        streams: the metadata of each Follow so far.
        receipts: each that was kept so far, in order.
        receipt_calls: the metadata of each Enforced so far.
    """

    def __init__(self, trust_domain: str = "example.org") -> None:
        self.epoch = Epoch(incarnation="1", number=1)
        self.opening: list[pb.Denied | bytes | Fail] | None = None
        self.age: timedelta | None = timedelta()
        self.refuses_receipts: Fail | None = None
        self.holds_receipts = False
        self.streams: list[dict[str, str | bytes]] = []
        self.receipt_calls: list[dict[str, str | bytes]] = []
        self.receipts: list[Enforced] = []
        self._trust_domain = TrustDomain(trust_domain)
        self._held: list[Denial] = []
        self._said: list[pb.Denied | bytes | Fail] = []
        self._changed = threading.Condition()

    def serve(self, server: grpc.Server) -> None:
        """Add this service to a server that was not started yet."""
        handlers: dict[str, grpc.RpcMethodHandler[Message, bytes]] = {
            "Follow": grpc.unary_stream_rpc_method_handler(
                self._follow, request_deserializer=pb.FollowRequest.FromString, response_serializer=None
            ),
            "Enforced": grpc.unary_unary_rpc_method_handler(
                self._enforced, request_deserializer=pb.EnforcedRequest.FromString, response_serializer=None
            ),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])

    def message(self, *numbers: int, ends_at: datetime | None = None) -> DenialsMessage:
        """What says that these are denied, at the epoch that is reached; change it with `dataclasses.replace`."""
        end = ends_at or SystemClock().now() + _HOUR
        return DenialsMessage(
            trust_domain=self._trust_domain,
            epoch=self.epoch,
            snapshot=False,
            denials=tuple(Denial(number, end) for number in numbers),
            age=self.age,
        )

    def deny(self, *numbers: int, ends_at: datetime | None = None) -> Epoch:
        """Hold these from now on, and tell every open stream; with which epoch."""
        with self._changed:
            self.epoch = replace(self.epoch, number=self.epoch.number + 1)
            message = self.message(*numbers, ends_at=ends_at)
            self._held.extend(message.denials)
            self._say(write_denied(message))
        return self.epoch

    def say(self, *steps: pb.Denied | bytes | Fail) -> None:
        """Tell every open stream, and hold nothing; bytes go out as they are."""
        with self._changed:
            self._say(*steps)

    def wait_for_streams(self, count: int) -> None:
        """Return when that many were opened."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.streams) >= count, _SECONDS), self.streams

    def wait_for_receipt_calls(self, count: int) -> None:
        """Return when that many receipts were begun, kept or not."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.receipt_calls) >= count, _SECONDS), self.receipt_calls

    def wait_for_receipts(self, *receipts: Enforced) -> None:
        """Return when these have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(receipts) <= set(self.receipts), _SECONDS), self.receipts

    def _say(self, *steps: pb.Denied | bytes | Fail) -> None:
        self._said.extend(steps)
        self._changed.notify_all()

    def _follow(self, _request: Message, context: grpc.ServicerContext) -> Iterator[bytes]:
        for step in self._steps(context):
            if isinstance(step, Fail):
                context.set_code(step.code)
                context.set_details(step.detail)
                return
            yield step.SerializeToString() if isinstance(step, pb.Denied) else step

    def _steps(self, context: grpc.ServicerContext) -> Iterator[pb.Denied | bytes | Fail]:
        with self._changed:
            context.add_callback(self._wake)
            snapshot = replace(self.message(), snapshot=True, denials=tuple(self._held))
            opening = [write_denied(snapshot)] if self.opening is None else list(self.opening)
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

    def _enforced(self, request: Message, context: grpc.ServicerContext) -> bytes:
        assert isinstance(request, pb.EnforcedRequest)
        if self.refuses_receipts is not None:
            context.abort(self.refuses_receipts.code, self.refuses_receipts.detail)
        with self._changed:
            context.add_callback(self._wake)
            self.receipt_calls.append(dict(context.invocation_metadata()))
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self.holds_receipts and context.is_active()))
            self.receipts.append(read_enforced(request))
            self._changed.notify_all()
        return pb.EnforcedResponse().SerializeToString()
