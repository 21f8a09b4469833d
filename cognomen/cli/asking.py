"""How the command calls a daemon: one call at a time, each with a deadline; a failure becomes a refusal."""

from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.status import kind_of_status

__all__ = ["Asking", "is_unknown", "refused"]

ReplyT = TypeVar("ReplyT", bound=Message)

_NO_ANSWER = ("failed to connect to all addresses", "Deadline Exceeded")  # gRPC writes these here; no daemon sent them


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
        try:
            return call(request, timeout=self._seconds(request))
        except grpc.RpcError as e:
            raise refused(e, self._daemon) from e


def refused(error: grpc.RpcError, daemon: str) -> Refused:
    """Turn a daemon's error into a refusal, also if it accepts the connection and never answers."""
    call: object = error  # what grpcio raises here is also a Call; its types do not say so
    if not isinstance(call, grpc.Call):
        raise error
    said = call.details()
    if said.startswith(_NO_ANSWER):
        return Refused(
            Kind.UNAVAILABLE,
            f"{daemon}: expected an answer, found none",
            hint=f"the {daemon} accepts connections but does not answer; is it stopped? check its process and its log",
        )
    detail, _, hint = said.partition("\n")  # as issuer/api/status writes it
    return Refused(kind_of_status(call.code().name), detail or call.code().name.lower(), hint=hint)


def is_unknown(error: Refused) -> bool:
    """Whether a call failed because the daemon does not know the method, as when it was started before this release."""
    call: object = error.__cause__
    return isinstance(call, grpc.Call) and call.code() is grpc.StatusCode.UNIMPLEMENTED
