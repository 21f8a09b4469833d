"""Calls of a gRPC server under a check: a call is admitted first, is checked again at each message, and ends when its caller is denied.

svid/integrations/grpc_checks decides whom to admit. Denials come from svid/tls/enforcement, and end a call at once. A change of bundles
also ends the calls that it affects at once, if the source announces changes.
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
from svid.tls.refusals import (
    EndedPeerError,
    HandshakeRefusedError,
    NoIdentityError,
    OrphanedPeerError,
    OutdatedError,
    OutlivedPeerError,
    RevokedPeerError,
    UndeclaredPeerError,
)
from svid.tls.reports import Reports, shown_address

if TYPE_CHECKING:
    from _typeshed import SupportsNext

__all__ = ["Admission", "Behaviour", "Call", "Kind", "guarded", "guarded_aio", "look_again_on_change"]

Behaviour: TypeAlias = Callable[[object, object], object]
Refusal: TypeAlias = tuple[grpc.StatusCode, str]
_UNAUTHENTICATED: Refusal = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
_FORBIDDEN: Refusal = (grpc.StatusCode.PERMISSION_DENIED, "forbidden")
_UNAVAILABLE: Refusal = (grpc.StatusCode.UNAVAILABLE, "unavailable")
_Stream: TypeAlias = "SupportsNext[object]"
_AioContext: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class Call(Protocol):
    """What a check needs of a call's context; both kinds of gRPC server provide it."""

    def auth_context(self) -> Mapping[str, object]:
        """Return the properties that TLS established: for each name, some bytes."""

    def peer(self) -> str:
        """Return the caller's address in gRPC's notation."""

    def invocation_metadata(self) -> object:
        """Return what the caller sent before its message: pairs of a name and a value."""


class Kind(Protocol):
    """Which sides of a method are streams; gRPC's handlers have these properties."""

    @property
    def request_streaming(self) -> bool:
        """Whether the caller sends a stream of messages."""

    @property
    def response_streaming(self) -> bool:
        """Whether the method sends a stream of messages."""


class Admission(NamedTuple):
    """The caller of a call, and a function that raises once the caller is no longer allowed."""

    peer: Peer
    recheck: Callable[[], object]


Admit: TypeAlias = Callable[[Call], Admission]


class _OpenCall:
    """A call that was admitted."""

    def __init__(self, admission: Admission, end: Callable[[Refusal], None], address: str, reports: Reports) -> None:
        self.peer = admission.peer
        self.address = address
        self._reports = reports
        self._is_told = False
        self._why: EndedPeerError | None = None
        self._recheck = admission.recheck
        self._end = end
        self._revoked = False
        self._as = _UNAUTHENTICATED

    def refusal(self) -> Refusal | None:
        """Why the call may not go on; None if it may."""
        if self._revoked:
            return self._as
        refusal, error = _refusal(self._recheck)
        if error is not None and not self._is_told:
            self._is_told = True
            self._reports.tell(error, peer=self.peer.spiffe_id, address=self.address)
        return refusal

    def look_again(self) -> None:
        refusal = self.refusal()
        if refusal is not None:
            self._end(refusal)

    def revoke(self) -> None:
        self._end_because(RevokedPeerError(f"peer: {self.peer.shown} was revoked"))

    def outlive(self) -> None:
        self._end_because(OutlivedPeerError(f"peer: the credential of {self.peer.spiffe_id} expired too long ago"))

    def dismiss(self) -> None:
        self._end_because(UndeclaredPeerError(f"peer: {self.peer.spiffe_id} is no longer a declared caller"))
        self._as = _FORBIDDEN

    def orphan(self) -> None:
        self._end_because(
            OrphanedPeerError(f"call: this process was forked after the call of {self.peer.spiffe_id} began")
        )

    def why_ended(self) -> EndedPeerError | None:
        return None if self._is_told else self._why

    def _end_because(self, why: EndedPeerError) -> None:
        self._why = why
        self._revoked = True

    def hang_up(self) -> None:
        self._end(self._as)


def look_again_on_change(source: object, enforcement: Enforcement) -> None:
    """Check every open call again when the source changes, if the source announces changes."""
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
    """Wrap a method of a blocking server; `kind` tells which sides are streams."""

    def under_guard(request: object, context: object) -> object:
        servicer = cast("grpc.ServicerContext", context)
        call = _admitted(servicer, admit, lambda refusal: _end(servicer, refusal), enforcement)
        if not isinstance(call, _OpenCall):
            servicer.abort(*call)
        enforcement.hold(call)
        if not servicer.add_callback(lambda: enforcement.release(call)):
            enforcement.release(call)  # it is over already

        def demand() -> None:
            refusal = call.refusal()
            if refusal is not None:
                servicer.abort(*refusal)

        demand()  # a denial may have come before `hold`

        def passing(messages: _Stream) -> Iterator[object]:
            with contextlib.suppress(StopIteration):
                while True:
                    message = next(messages)  # gRPC requires only `next` of a stream
                    demand()
                    yield message

        reply = behaviour(passing(cast("_Stream", request)) if kind.request_streaming else request, context)
        if kind.response_streaming:
            return passing(cast("_Stream", reply))
        demand()
        return reply

    return under_guard


def guarded_aio(behaviour: Behaviour, admit: Admit, enforcement: Enforcement) -> Behaviour:
    """Wrap a method of a grpc.aio server: a coroutine, or an asynchronous generator."""

    async def replies(request: object, context: object) -> None:
        async with _guarding(context, admit, enforcement) as guard:
            async for reply in cast("AsyncIterable[object]", behaviour(guard.request(request), guard)):
                # If this yielded, and were cancelled while gRPC sends the message, the call would end without a status.
                await guard.write(reply)

    async def reply(request: object, context: object) -> object:
        async with _guarding(context, admit, enforcement) as guard:
            message = await cast("Awaitable[object]", behaviour(guard.request(request), guard))
            await guard.demand()
            return message

    return replies if inspect.isasyncgenfunction(behaviour) else reply


class _Guard:
    """The context of a grpc.aio call as its method sees it; it also checks the messages of `read` and `write`."""

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
        """Send apart from the first message, which may wait for the caller to read: if this is cancelled, no status can follow."""
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
    """Admit a call, and let it be ended from outside: the method is cancelled, and the cancellation becomes a status here."""
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
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are its calls
            loop.call_soon_threadsafe(cancel, refusal)

    call = _admitted(servicer, admit, end, enforcement)
    if not isinstance(call, _OpenCall):
        await servicer.abort(*call)
    enforcement.hold(call)
    guards.append(_Guard(servicer, call))
    try:
        await guards[0].demand()  # a denial may have come before `hold`
        yield guards[0]
    except asyncio.CancelledError:
        if not ended or method is None:
            raise
        method.uncancel()
        await servicer.abort(*ended[0])
    finally:
        guards.clear()
        enforcement.release(call)


def _admitted(
    context: Call, admit: Admit, end: Callable[[Refusal], None], enforcement: Enforcement
) -> _OpenCall | Refusal:
    admissions: list[Admission] = []
    refusal, _ = _refusal(lambda: admissions.append(admit(context)))
    return refusal or _OpenCall(admissions[0], end, shown_address(context.peer()), enforcement.reports)


def _end(context: grpc.ServicerContext, refusal: Refusal) -> None:
    """End a call from another thread, whatever its method is waiting for."""
    code, detail = refusal
    try:
        # gRPC has no public way to do this with a status: only the method may call `abort`, and `cancel` sends CANCELLED.
        context._rpc_event.call.cancel(code.value[0], detail)  # type: ignore[attr-defined]  # noqa: SLF001
    except (AttributeError, TypeError, ValueError):
        context.cancel()


def _refusal(ask: Callable[[], object]) -> tuple[Refusal, SVIDError] | tuple[None, None]:
    """Call `ask`, and return how the call is refused, and why; the peer does not learn the reason."""
    try:
        ask()
    except AuthorizationError as e:
        return _FORBIDDEN, e
    except (OutdatedError, NoIdentityError) as e:
        return _UNAVAILABLE, e
    except (HandshakeRefusedError, RevokedError, X509SVIDError, JWTSVIDError) as e:
        return _UNAUTHENTICATED, e
    except SVIDError as e:
        return _UNAVAILABLE, e
    return None, None
