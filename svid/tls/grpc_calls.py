"""Calls of a gRPC server under a check: each is admitted first and looked at again at each message, and ends when its caller is denied.

Who is admitted is decided by the checks of svid/tls/grpc_server. Denials come from svid/tls/enforcement, and end a call at once. So does a
change of bundles, where the source says that there is one.
"""

import asyncio
import contextlib
import inspect
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

import grpc

from svid.errors import AuthorizationError, JWTSVIDError, RevokedError, SVIDError, X509SVIDError
from svid.tls.enforcement import Enforcement, Open, Peer
from svid.tls.refusals import HandshakeRefusedError, OutdatedError

if TYPE_CHECKING:
    from _typeshed import SupportsNext

__all__ = ["Admission", "Behaviour", "Call", "Kind", "guarded", "guarded_aio", "look_again_on_change"]

Behaviour: TypeAlias = Callable[[object, object], object]
Refusal: TypeAlias = tuple[grpc.StatusCode, str]
_UNAUTHENTICATED: Refusal = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
_Stream: TypeAlias = "SupportsNext[object]"
_AioContext: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class Call(Protocol):
    """What a check looks at: the context of a call, of either of gRPC's servers."""

    def auth_context(self) -> Mapping[str, object]:
        """Tell what TLS proved: by name, some bytes each."""

    def invocation_metadata(self) -> object:
        """Tell what the caller sent before its message: pairs of a name and a value."""


class Kind(Protocol):
    """Which sides of a method are streams; gRPC's handler says so."""

    @property
    def request_streaming(self) -> bool:
        """Whether the caller sends any number of messages."""

    @property
    def response_streaming(self) -> bool:
        """Whether the method does."""


class Admission(NamedTuple):
    """Whose a call is, and what raises once that is not wanted any more."""

    peer: Peer
    recheck: Callable[[], object]


Admit: TypeAlias = Callable[[Call], Admission]


class _OpenCall:
    """A call that was admitted."""

    def __init__(self, admission: Admission, end: Callable[[Refusal], None]) -> None:
        self.peer = admission.peer
        self._recheck = admission.recheck
        self._end = end
        self._revoked = False

    def refusal(self) -> Refusal | None:
        """Why nothing of it may pass any more, if that is so."""
        return _UNAUTHENTICATED if self._revoked else _refusal(self._recheck)

    def look_again(self) -> None:
        refusal = self.refusal()
        if refusal is not None:
            self._end(refusal)

    def revoke(self) -> None:
        self._revoked = True

    def outlive(self) -> None:
        self.revoke()

    def orphan(self) -> None:
        self.revoke()

    def hang_up(self) -> None:
        self._end(_UNAUTHENTICATED)


def look_again_on_change(source: object, enforcement: Enforcement) -> None:
    """Have every open call asked about again when there is something new in the source, if it says so."""
    subscribe: object = getattr(source, "subscribe", None)
    if not callable(subscribe):
        return
    calls: Open = enforcement.open

    def look_again() -> None:
        for call in calls.all():
            if isinstance(call, _OpenCall):
                call.look_again()

    weakref.finalize(enforcement, subscribe(look_again)).atexit = False


def guarded(behaviour: Behaviour, admit: Admit, enforcement: Enforcement, kind: Kind) -> Behaviour:
    """Wrap a method of that kind of a blocking server."""

    def under_guard(request: object, context: object) -> object:
        servicer = cast("grpc.ServicerContext", context)
        call = _admitted(servicer, admit, lambda refusal: _end(servicer, refusal))
        if not isinstance(call, _OpenCall):
            servicer.abort(*call)
        enforcement.hold(call)

        def demand() -> None:
            refusal = call.refusal()
            if refusal is not None:
                servicer.abort(*refusal)

        demand()  # a denial may have come before it was held

        def passing(messages: _Stream) -> Iterator[object]:
            with contextlib.suppress(StopIteration):
                while True:
                    message = next(messages)  # gRPC asks no more than this of a stream
                    demand()
                    yield message

        reply = behaviour(passing(cast("_Stream", request)) if kind.request_streaming else request, context)
        if kind.response_streaming:
            return passing(cast("_Stream", reply))
        demand()
        return reply

    return under_guard


def guarded_aio(behaviour: Behaviour, admit: Admit, enforcement: Enforcement) -> Behaviour:
    """Wrap a method of a server of grpc.aio: a coroutine, or an asynchronous generator."""

    async def replies(request: object, context: object) -> None:
        async with _guarding(context, admit, enforcement) as guard:
            async for reply in cast("AsyncIterable[object]", behaviour(guard.request(request), guard)):
                # A `yield` that is cancelled while gRPC sends for it would end the call without a status.
                await guard.write(reply)

    async def reply(request: object, context: object) -> object:
        async with _guarding(context, admit, enforcement) as guard:
            message = await cast("Awaitable[object]", behaviour(guard.request(request), guard))
            await guard.demand()
            return message

    return replies if inspect.isasyncgenfunction(behaviour) else reply


class _Guard:
    """The context of a call of grpc.aio as its method sees it: by `read` and `write`, too, messages pass."""

    def __init__(self, context: _AioContext, call: _OpenCall) -> None:
        self._context = context
        self._call = call
        self._has_begun = False
        self.is_beginning = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._context, name)

    async def read(self) -> object:
        message = await self._context.read()
        await self.demand()
        return message

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Apart from the first message, which may wait for the caller to read: a status cannot follow what is cancelled in here."""
        self._has_begun = self.is_beginning = True
        try:
            await self._context.send_initial_metadata(cast("tuple[tuple[str, str | bytes], ...]", metadata))
        finally:
            self.is_beginning = False
        await self.demand()

    async def write(self, message: object) -> None:
        if not self._has_begun:
            await self.send_initial_metadata(())
        await self.demand()
        await self._context.write(message)

    def request(self, request: object) -> object:
        return self.passing(request) if isinstance(request, AsyncIterable) else request

    async def passing(self, messages: AsyncIterable[object]) -> AsyncIterator[object]:
        async for message in messages:
            await self.demand()
            yield message

    async def demand(self) -> None:
        refusal = self._call.refusal()
        if refusal is not None:
            await self._context.abort(*refusal)


@contextlib.asynccontextmanager
async def _guarding(context: object, admit: Admit, enforcement: Enforcement) -> AsyncIterator[_Guard]:
    """Admit a call, and end it from outside: its method is cancelled, and that becomes a status here."""
    servicer = cast("_AioContext", context)
    method, loop = asyncio.current_task(), asyncio.get_running_loop()
    ended: list[Refusal] = []
    guards: list[_Guard] = []

    def cancel(refusal: Refusal) -> None:
        if method is not None and guards and not ended:
            ended.append(refusal)
            if not guards[0].is_beginning:
                method.cancel()

    def end(refusal: Refusal) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its calls with it
            loop.call_soon_threadsafe(cancel, refusal)

    call = _admitted(servicer, admit, end)
    if not isinstance(call, _OpenCall):
        await servicer.abort(*call)
    enforcement.hold(call)
    guards.append(_Guard(servicer, call))
    try:
        await guards[0].demand()  # a denial may have come before it was held
        yield guards[0]
    except asyncio.CancelledError:
        if not ended or method is None:
            raise
        method.uncancel()
        await servicer.abort(*ended[0])
    finally:
        guards.clear()


def _admitted(context: Call, admit: Admit, end: Callable[[Refusal], None]) -> _OpenCall | Refusal:
    admissions: list[Admission] = []
    refusal = _refusal(lambda: admissions.append(admit(context)))
    return refusal or _OpenCall(admissions[0], end)


def _end(context: grpc.ServicerContext, refusal: Refusal) -> None:
    """End a call whose method may be waiting for anything, from another thread."""
    code, detail = refusal
    try:
        # gRPC has no public way to do this with a status: `abort` must be called by the method, `cancel` says CANCELLED.
        context._rpc_event.call.cancel(code.value[0], detail)  # type: ignore[attr-defined]  # noqa: SLF001
    except (AttributeError, TypeError, ValueError):
        context.cancel()


def _refusal(ask: Callable[[], object]) -> Refusal | None:
    """Ask, and say how the call is refused; the reason is not the peer's business."""
    try:
        ask()
    except AuthorizationError:
        return grpc.StatusCode.PERMISSION_DENIED, "forbidden"
    except OutdatedError:
        return grpc.StatusCode.UNAVAILABLE, "unavailable"
    except (HandshakeRefusedError, RevokedError, X509SVIDError, JWTSVIDError):
        return _UNAUTHENTICATED
    except SVIDError:
        return grpc.StatusCode.UNAVAILABLE, "unavailable"
    return None
