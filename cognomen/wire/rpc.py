"""The two seams of a generated service (`cognomen/wire/generate.py`): one binds its methods to a socket, the other carries a call.

Not decided here: connections, deadlines and errors. The sockets use `cognomen/gate/call.unary`, the command uses `cognomen/cli/asking`.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message

__all__ = ["Ask", "BindUnary", "BoundT"]

BoundT = TypeVar("BoundT")
_Bound_co = TypeVar("_Bound_co", covariant=True)
_RequestT = TypeVar("_RequestT", bound=Message)
_ReplyT = TypeVar("_ReplyT", bound=Message)


class BindUnary(Protocol[_Bound_co]):
    """Makes a server's handler for a method."""

    def __call__(
        self, answer: Callable[[_RequestT], Awaitable[_ReplyT]], request: type[_RequestT], reply: type[_ReplyT], /
    ) -> _Bound_co:
        """Bind a method that answers one request with one reply."""


class Ask(Protocol):
    """Carries a call to a daemon and returns the reply."""

    def __call__(self, path: str, request: Message, reply: type[_ReplyT], /) -> _ReplyT:
        """Call the method at that path."""
