"""Checkpoints in the system's log, which most machines forward to another machine."""

import socket
from pathlib import Path

from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused

__all__ = ["SyslogSink"]

_AUTH_NOTICE = 4 * 8 + 5  # facility auth, severity notice


class SyslogSink:
    """Sends a datagram to the local log.

    Source: syslog(3), RFC 3164 4.1.1
    """

    def __init__(self, path: Path = Path("/dev/log")) -> None:
        self._path = path

    async def write(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint, if the log accepts it at once."""
        await in_own_thread(self._send, b"<%d>cognomen-issuer: " % _AUTH_NOTICE + checkpoint.to_json())

    def _send(self, datagram: bytes) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(datagram, str(self._path))
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"syslog {self._path}: {(e.strerror or str(e)).lower()}",
                hint="is a log daemon running?",
            ) from e
