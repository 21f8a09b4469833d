"""The header that every call of a workload must carry; it is checked before anything else.

Source: SPIFFE Workload Endpoint 6
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from cognomen.protocol.errors import Kind, Refused

__all__ = ["method"]

_HEADER, _HEADER_VALUE = "workload.spiffe.io", "true"

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


def method(
    answer: Callable[[Stream[_Request, _Response]], Awaitable[None]],
    cardinality: Cardinality,
    request: type[_Request],
    response: type[_Response],
) -> Handler:
    """Make a method check the header first: it distinguishes a workload from a web page that was tricked into calling."""

    async def check_and_answer(stream: Stream[_Request, _Response]) -> None:
        found = stream.metadata.getall(_HEADER, []) if stream.metadata else []
        if found != [_HEADER_VALUE]:
            raise Refused(Kind.INVALID, f"metadata: expected {_HEADER} exactly once, and exactly {_HEADER_VALUE}")
        await answer(stream)

    return Handler(check_and_answer, cardinality, request, response)
