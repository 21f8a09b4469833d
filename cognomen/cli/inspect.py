"""The command's side of what an attestor tells about itself, over its workload socket."""

from typing import TypeVar

import grpc
from google.protobuf.message import Message

from cognomen.cli.admin import refused
from cognomen.cli.options import workload_address
from cognomen.cli.reach import check_workload_api
from cognomen.wire.admin import document_from_message
from svid.encoding import JSON
from svid.workloadapi.address import endpoint_target

__all__ = ["inspect"]

_SECONDS = 10.0

_Answer = TypeVar("_Answer", bound=Message)


def inspect(method: str, request: Message, answer: type[_Answer], socket: str) -> dict[str, JSON]:
    """Call one method of cognomen.attestor.v1.Inspect; its answer as a document.

    Raises:
        Refused: as the attestor refuses; UNAVAILABLE when nobody is there.
    """
    target = endpoint_target(check_workload_api(workload_address(socket)))
    options = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.default_authority", "localhost"))
    with grpc.insecure_channel(target, options=options) as channel:
        ask: grpc.UnaryUnaryMultiCallable[Message, _Answer] = channel.unary_unary(
            f"/cognomen.attestor.v1.Inspect/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return document_from_message(ask(request, timeout=_SECONDS))
        except grpc.RpcError as e:
            raise refused(e, "attestor") from e
