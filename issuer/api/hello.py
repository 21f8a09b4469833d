"""Limit the unencrypted messages of a handshake, because OpenSSL allocates as much as their first bytes declare.

A hello may declare 131,396 bytes, send none of them, and occupy that much for as long as a handshake may take. Only OpenSSL can read
encrypted messages.
"""

__all__ = ["Hello", "LongHelloError"]

_MOST_BYTES = 16 * 1024  # the longest hello of the clients that we know is gRPC's: 2 KiB with a post-quantum key
_RECORD_HEADER_BYTES, _MESSAGE_HEADER_BYTES = 5, 4
_HANDSHAKE = 22
_IN_THE_CLEAR = frozenset({20, 21, _HANDSHAKE})


class LongHelloError(OSError):
    """A message declares more than is allowed."""


class Hello:
    """Follows what one client sends unencrypted, however it is cut into pieces and records.

    Source: RFC 8446 4, 5.1
    """

    __slots__ = ("_header", "_kind", "_left_of_message", "_left_of_record", "_message", "is_over")

    def __init__(self) -> None:
        self._header, self._message = b"", b""  # as far as they have come
        self._kind = self._left_of_record = self._left_of_message = 0
        self.is_over = False

    def check(self, data: memoryview) -> None:
        """Check incoming data before OpenSSL sees it.

        Raises:
            LongHelloError: a message declares more than 16 KiB.
        """
        while data and not self.is_over:
            if self._left_of_record:
                piece, data = data[: self._left_of_record], data[self._left_of_record :]
                self._left_of_record -= len(piece)
                if self._kind == _HANDSHAKE:
                    self._check_messages(piece)
                continue
            more = _RECORD_HEADER_BYTES - len(self._header)
            self._header, data = self._header + bytes(data[:more]), data[more:]
            if len(self._header) == _RECORD_HEADER_BYTES:
                self._kind, self._left_of_record = self._header[0], int.from_bytes(self._header[3:], "big")
                self._header = b""
                self.is_over = self._kind not in _IN_THE_CLEAR  # OpenSSL refuses what is not TLS at all

    def _check_messages(self, data: memoryview) -> None:
        while data:
            if self._left_of_message:
                passed = min(len(data), self._left_of_message)
                self._left_of_message -= passed
                data = data[passed:]
                continue
            more = _MESSAGE_HEADER_BYTES - len(self._message)
            self._message, data = self._message + bytes(data[:more]), data[more:]
            if len(self._message) == _MESSAGE_HEADER_BYTES:
                self._left_of_message = int.from_bytes(self._message[1:], "big")
                self._message = b""
                if self._left_of_message > _MOST_BYTES:
                    found = self._left_of_message
                    raise LongHelloError(f"hello: expected at most {_MOST_BYTES} bytes, found {found} declared")
