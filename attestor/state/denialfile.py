"""Keep the denials in one private file, which grows by a line per batch, and is replaced as a whole when most of it is past its use.

Shape: a line `cognomen-denials 1`, then lines `<SHA-256 of the payload> <payload>`, the payload in base64: numbers in a row, 16 bytes each,
then the end of each in seconds since 1970, 8 bytes, big-endian. An empty line says nothing.
"""

import base64
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from attestor.deniallog import Piece
from cognomen.process.privatefile import append_private, private_directory, read_private, write_private
from cognomen.protocol.errors import Kind, Refused
from svid.denials import SERIAL_BYTES, Denial, unpack
from svid.errors import SVIDError

__all__ = ["DenialFile"]

log = structlog.get_logger(__name__)

_FILE, _MAGIC = "denials.log", b"cognomen-denials 1"
_END_BYTES = 8
_LINE_DENIALS = 4096  # a flipped bit costs at most one line
_MOST_BYTES = 256 * 1024 * 1024  # some six million
_HINT = "remove the file: the issuer sends all denials again, and until then this node knows of none"


class DenialFile:
    """Keeps denials in `denials.log` in a directory of mode 0700, which is created if it is missing."""

    def __init__(self, directory: Path) -> None:
        self.path = private_directory(directory) / _FILE
        self._alone = threading.Lock()  # a write that nobody waits for any longer must not undo the next one

    def load(self) -> Sequence[Denial]:
        """Read them; skip damaged lines, such as the last one after a crash."""
        try:
            data = read_private(self.path, max_bytes=_MOST_BYTES)
        except Refused as e:
            if e.kind is Kind.NOT_FOUND:
                return ()
            raise
        magic, *lines = data.split(b"\n")
        if magic != _MAGIC:
            raise Refused(Kind.INVALID, f"file {self.path}: this is not a file of denials", hint=_HINT)
        read = [_denials(line) for line in lines if line]
        if damaged := read.count(None):
            log.warning("damaged denials on disk left out", file=str(self.path), lines=damaged, of=len(read))
        return [denial for denials in read if denials is not None for denial in denials]

    def append(self, piece: Piece) -> None:
        """Add them at the end."""
        with self._alone:
            # The empty line ends any line that an interrupted write left behind.
            append_private(self.path, b"\n" + b"".join(_lines(piece)))

    def replace(self, piece: Piece) -> None:
        """Rewrite the file."""
        with self._alone:
            write_private(self.path, b"".join([_MAGIC, b"\n", *_lines(piece)]))


def _lines(piece: Piece) -> Iterator[bytes]:
    for start in range(0, len(piece.ends), _LINE_DENIALS):
        stop = start + _LINE_DENIALS
        ends = b"".join(end.to_bytes(_END_BYTES, signed=True) for end in piece.ends[start:stop])
        payload = piece.numbers[SERIAL_BYTES * start : SERIAL_BYTES * stop] + ends
        yield b"%s %s\n" % (hashlib.sha256(payload).hexdigest().encode(), base64.b64encode(payload))


def _denials(line: bytes) -> Sequence[Denial] | None:
    """Read a line; None: it is damaged."""
    checksum, _, text = line.partition(b" ")
    try:
        payload = base64.b64decode(text, validate=True)
        if hashlib.sha256(payload).hexdigest().encode() != checksum:
            return None
        count = len(payload) // (SERIAL_BYTES + _END_BYTES)
        packed = payload[SERIAL_BYTES * count :]
        ends = [int.from_bytes(packed[at : at + _END_BYTES], signed=True) for at in range(0, len(packed), _END_BYTES)]
        return unpack(payload[: SERIAL_BYTES * count], ends)
    except (ValueError, SVIDError):
        return None
