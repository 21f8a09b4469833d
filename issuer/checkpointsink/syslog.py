"""Checkpoints in the system's log, which most machines send on to another."""

import asyncio
import socket
from pathlib import Path

from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Kind, Refused

__all__ = ["SyslogSink"]

_AUTH_NOTICE = 4 * 8 + 5  # facility auth, severity notice


class SyslogSink:
    """Sends a datagram to the local log.

    Source: syslog(3), RFC 3164 4.1.1
    """

    def __init__(self, path: Path = Path("/dev/log")) -> None:
        self._path = path

    async def write(self, checkpoint: Checkpoint) -> None:
        """Send it, if the log takes it at once."""
        await asyncio.to_thread(self._send, b"<%d>cognomen-issuer: " % _AUTH_NOTICE + checkpoint.to_json())

    def _send(self, datagram: bytes) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(datagram, str(self._path))
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"syslog {self._path}: {(e.strerror or str(e)).lower()}",
                hint="does a log daemon run?",
            ) from e
