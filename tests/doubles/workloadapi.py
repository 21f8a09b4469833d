"""A real Workload API server on a Unix socket that says what a test's script says, and remembers how it was called."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import grpc
from google.protobuf.message import Message

from svid.wire.pb import workload_pb2 as pb
from tests.doubles.callersapi import CallersDouble
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.fail import Fail

__all__ = ["Fail", "WorkloadAPIDouble"]

_SECONDS = 10
_STREAMS: dict[str, type[Message]] = {
    "FetchX509SVID": pb.X509SVIDRequest,
    "FetchX509Bundles": pb.X509BundlesRequest,
    "FetchJWTBundles": pb.JWTBundlesRequest,
}
_UNARY: dict[str, type[Message]] = {"FetchJWTSVID": pb.JWTSVIDRequest, "ValidateJWTSVID": pb.ValidateJWTSVIDRequest}


@dataclass(frozen=True)
class Call:
    method: str
    metadata: tuple[tuple[str, str | bytes], ...]
    request: Message


class WorkloadAPIDouble:
    """Each call of a method takes the next steps of that method's script; a stream waits where the script ends.

    Args:
        denials, callers: what serves the Denials and Callers services on the same socket; None: nothing does, as in another attestor
            than ours.
    """

    def __init__(
        self, directory: Path, *, denials: DenialsDouble | None = None, callers: CallersDouble | None = None
    ) -> None:
        self._more = [one for one in (denials, callers) if one is not None]
        self._path = directory / "api.sock"
        self.socket = f"unix://{self._path}"
        self.calls: list[Call] = []
        self._scripts: dict[str, list[Message | bytes | Fail]] = {method: [] for method in (*_STREAMS, *_UNARY)}
        self._open: Counter[str] = Counter()
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(self._pool)
        handlers: dict[str, grpc.RpcMethodHandler[Message, bytes]] = {}
        for method, request in _STREAMS.items():
            handlers[method] = grpc.unary_stream_rpc_method_handler(
                self._stream(method), request_deserializer=request.FromString, response_serializer=None
            )
        for method, request in _UNARY.items():
            handlers[method] = grpc.unary_unary_rpc_method_handler(
                self._answer(method), request_deserializer=request.FromString, response_serializer=None
            )
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", handlers)])
        for one in self._more:
            one.serve(self._server)
        self._server.add_insecure_port(f"unix:{self._path}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()
        self._pool.shutdown()

    def say(self, method: str, *steps: Message | bytes | Fail) -> None:
        """Write more of a method's script; bytes go out as they are."""
        with self._changed:
            self._scripts[method].extend(steps)
            self._changed.notify_all()

    def wait_for_calls(self, method: str, count: int) -> None:
        """Return when the method has been called that often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._count(method) >= count, _SECONDS), f"{method}: {self.calls}"

    def wait_until_left(self, method: str) -> None:
        """Return when nobody calls the method: whoever went away may else take the next step with them."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open[method], _SECONDS), f"{method}: {self.calls}"

    def _count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)

    def _note(self, method: str, request: Message, context: grpc.ServicerContext) -> None:
        with self._changed:
            if context.add_callback(partial(self._leave, method)):
                self._open[method] += 1
            self.calls.append(Call(method, tuple(context.invocation_metadata()), request))
            self._changed.notify_all()

    def _stream(self, method: str) -> Callable[[Message, grpc.ServicerContext], Iterator[bytes]]:
        def serve(request: Message, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._note(method, request, context)
            while (step := self._next(method, context)) is not None:
                if isinstance(step, Fail):
                    context.set_code(step.code)
                    context.set_details(step.detail)
                    return
                yield step

        return serve

    def _answer(self, method: str) -> Callable[[Message, grpc.ServicerContext], bytes]:
        def serve(request: Message, context: grpc.ServicerContext) -> bytes:
            self._note(method, request, context)
            step = self._next(method, context)
            if isinstance(step, Fail):
                context.abort(step.code, step.detail)
            return step or b""

        return serve

    def _leave(self, method: str) -> None:
        with self._changed:
            self._open[method] -= 1
            self._changed.notify_all()

    def _next(self, method: str, context: grpc.ServicerContext) -> bytes | Fail | None:
        """The script's next step; None when the caller went away."""
        script = self._scripts[method]
        with self._changed:
            self._changed.wait_for(lambda: script or not context.is_active())
            if not context.is_active():
                return None
            step = script.pop(0)
        return step.SerializeToString() if isinstance(step, Message) else step
