"""Check whether somebody listens at a socket and lets us in, before gRPC gets the socket.

gRPC would keep trying, and would report a failure in its own words. A gate of ours that turns a caller away says why in an HTTP/2 GOAWAY.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from svid.workloadapi.address import endpoint_target
from svid.workloadapi.reach import NO_ATTESTOR, Trouble, socket_trouble, workload_trouble

__all__ = ["check_reachable", "check_workload_api"]

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\0" + bytes(4)  # the preface, and no settings
_HEADER_BYTES, _GOAWAY, _GOAWAY_BYTES = 9, 7, 8
_ANSWER_BYTES, _ANSWER_SECONDS = 64 * 1024, 1.0


def check_reachable(path: Path, what: str, *, expected: str, hint: str, denied_hint: str) -> None:
    """Connect to a Unix socket, see whether it lets us in, and disconnect.

    Args:
        what: the name of the socket, for error messages.
        expected: who should listen there.

    Raises:
        Refused: UNAVAILABLE when nobody listens there, DENIED when we may not connect, DENIED or EXHAUSTED when the gate turns us away.
    """
    _refuse(socket_trouble(path, what, expected=expected, hint=hint, denied_hint=denied_hint))
    _check_let_in(path, what)


def _check_let_in(path: Path, what: str) -> None:
    if reason := _why_turned_away(path):
        kind = Kind.DENIED if reason.startswith("caller:") else Kind.EXHAUSTED
        raise Refused(kind, f"{what} {path}: {reason}", hint="the log of the daemon that listens there says what to do")


def _why_turned_away(path: Path) -> str:
    """The reason if the other side sends GOAWAY at once; an empty text if it does not, or is slow to answer.

    Source: RFC 9113 3.4, 6.8.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(os.fspath(path))
            with suppress(OSError):  # it has already sent GOAWAY and closed
                probe.sendall(_GREETING)
            answer = probe.recv(_ANSWER_BYTES)  # a gate sends all of it at once
        except OSError:
            return ""
    while len(answer) >= _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(answer[:3], "big")
        if answer[3] == _GOAWAY:
            return printable(answer[_HEADER_BYTES + _GOAWAY_BYTES : end].decode(errors="replace"))
        answer = answer[end:]
    return ""


def check_workload_api(address: str | None) -> str | None:
    """Check the Workload API's socket, and return its address unchanged; an address that is not a Unix socket is left to gRPC.

    Raises:
        Refused: as check_reachable.
        AddressError: there is no address, or it cannot be used.
    """
    target = endpoint_target(address)
    _refuse(workload_trouble(target))
    scheme, _, path = target.partition(":")
    if scheme == "unix":
        _check_let_in(Path(unquote(path)), "workload socket")
    return address


def _refuse(trouble: Trouble | None) -> None:
    if trouble is not None:
        kind = Kind.DENIED if trouble.is_denied else Kind.UNAVAILABLE
        hint = f"{NO_ATTESTOR}, or add --socket unix:///PATH" if trouble.hint == NO_ATTESTOR else trouble.hint
        raise Refused(kind, trouble.detail, hint=hint)
