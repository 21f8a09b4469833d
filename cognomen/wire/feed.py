"""The feed between protobuf and values: the only code for it."""

from cognomen.protocol.feed import Cursor
from cognomen.wire.pb import node_pb2 as pb

__all__ = ["cursor_from_pb", "cursor_to_pb"]


def cursor_to_pb(cursor: Cursor) -> pb.Cursor:
    """Write a cursor."""
    return pb.Cursor(incarnation=cursor.incarnation, number=cursor.number)


def cursor_from_pb(message: pb.Cursor) -> Cursor:
    """Read a cursor."""
    return Cursor(incarnation=message.incarnation, number=message.number)
