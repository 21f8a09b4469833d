"""How the command calls a daemon: one call at a time, each with a deadline; a failure becomes a refusal."""

import contextlib
import re
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from cognomen.cli.changes import changes_of_command
from cognomen.cli.signals import signals_kept
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.status import kind_of_status

__all__ = ["Asking", "is_change", "is_unknown", "refused"]

ReplyT = TypeVar("ReplyT", bound=Message)

_LOOK_SECONDS = 0.1  # between two looks whether a signal came

_READS = ("Ask", "Await", "Explain", "Get", "List", "Note", "Plan", "Resolve")
# gRPC writes these here; no daemon sent them.
_UNREACHED = "failed to connect to all addresses"
_NO_ANSWER = re.compile(r"(Stream removed \()?Deadline Exceeded\)?")
_CUT_OFF = re.compile(
    r"Stream removed|Socket closed|(recv|send)msg:|Connection reset|Broken pipe|GOAWAY|.*RST_STREAM", re.DOTALL
)
_OWN_STATUSES = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


class Asking:
    """Carries the calls of a generated client.

    Args:
        daemon: its name, for error messages.
        seconds: how long a call with that request may take.
    """

    def __init__(self, channel: grpc.Channel, daemon: str, seconds: Callable[[Message], float]) -> None:
        self._channel = channel
        self._daemon = daemon
        self._seconds = seconds

    def __call__(self, path: str, request: Message, reply: type[ReplyT], /) -> ReplyT:
        """Call the method of that path.

        Raises:
            Refused: as the daemon refuses; UNAVAILABLE when it does not answer.
        """
        call: grpc.UnaryUnaryMultiCallable[Message, ReplyT] = self._channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString
        )
        if not is_change(path, request):
            return self._ask(call, request)
        changes = changes_of_command()
        changes.sent()
        try:
            answer = self._ask(call, request)
        except Refused as e:
            if _is_lost(e.__cause__):
                hint = f"the change may have been carried out; {changes.hint}; {e.hint}"
                raise Refused(e.kind, e.detail, hint=hint) from e.__cause__
            changes.not_done()
            raise
        changes.done()
        return answer

    def _ask(self, call: "grpc.UnaryUnaryMultiCallable[Message, ReplyT]", request: Message) -> ReplyT:
        try:
            with signals_kept() as kept:
                answer = call.future(request, timeout=self._seconds(request))
                while not kept:
                    with contextlib.suppress(grpc.FutureTimeoutError):
                        return answer.result(_LOOK_SECONDS)
                answer.cancel()
        except grpc.RpcError as e:
            raise refused(e, self._daemon) from e
        raise KeyboardInterrupt


def refused(error: grpc.RpcError, daemon: str) -> Refused:
    """Turn a daemon's error into a refusal, also if it accepts the connection and never answers, or ends before it answers."""
    call: object = error  # what grpcio raises here is also a Call; its types do not say so
    if not isinstance(call, grpc.Call):
        raise error
    said = call.details() or ""
    if said.startswith(_UNREACHED) or _NO_ANSWER.fullmatch(said):
        return Refused(
            Kind.UNAVAILABLE,
            f"{daemon}: expected an answer, found none",
            hint=f"the {daemon} accepts connections but does not answer; is it stopped? check its process and its log",
        )
    if _is_lost(call):
        return Refused(
            Kind.UNAVAILABLE,
            f"{daemon}: expected an answer, found the end of the connection",
            hint=f"did the {daemon} end or restart? check its process and its log",
        )
    detail, _, hint = said.partition("\n")  # as issuer/api/status writes it
    return Refused(kind_of_status(call.code().name), detail or call.code().name.lower(), hint=hint)


def _is_lost(call: object) -> bool:
    """Whether gRPC gave up a call that it had sent, so that nobody knows what the daemon made of it."""
    if not isinstance(call, grpc.Call):
        return False
    said = call.details() or ""
    return not said.startswith(_UNREACHED) and (call.code() in _OWN_STATUSES or bool(_CUT_OFF.match(said)))


def is_unknown(error: Refused) -> bool:
    """Whether a call failed because the daemon does not know the method, as when it was started before this release."""
    call: object = error.__cause__
    return isinstance(call, grpc.Call) and call.code() is grpc.StatusCode.UNIMPLEMENTED


def is_change(path: str, request: Message) -> bool:
    """Whether this call, by the path of its method, changes something at the daemon; a dry run does not."""
    method = path.rpartition("/")[2]
    is_dry = "dry_run" in request.DESCRIPTOR.fields_by_name and bool(getattr(request, "dry_run"))  # noqa: B009 - few messages have it
    return not (is_dry or method.startswith(_READS))
