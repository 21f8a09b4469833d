"""Is anybody at a socket? Tried once by hand before gRPC gets it, which would keep trying and tells in its own words why it failed."""

import errno
import os
import socket
from pathlib import Path
from urllib.parse import unquote

from cognomen.daemon.errors import Kind, Refused
from svid.workloadapi.address import endpoint_target

__all__ = ["check_reachable", "check_workload_api"]

_NO_ATTESTOR = "is an attestor running there, and joined? a working one now: cognomen dev"


def check_reachable(path: Path, what: str, *, expected: str, hint: str, denied_hint: str) -> None:
    """Connect to a Unix socket and leave again.

    Args:
        what: which socket it is, in an error.
        expected: who should listen there.

    Raises:
        Refused: UNAVAILABLE when nobody listens there, DENIED when we may not connect.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except PermissionError as e:
            raise Refused(
                Kind.DENIED,
                f"{what} {path}: expected one that uid {os.geteuid()} may use, found no permission",
                hint=denied_hint,
            ) from e
        except OSError as e:
            raise Refused(Kind.UNAVAILABLE, f"{what} {path}: expected {expected}, found {_found(e)}", hint=hint) from e


def check_workload_api(address: str | None) -> str | None:
    """Try the Workload API's socket, and return its address as it came; one that is no Unix socket is left to gRPC.

    Raises:
        Refused: as check_reachable.
        AddressError: no address, or none that can be used.
    """
    scheme, _, path = endpoint_target(address).partition(":")
    if scheme == "unix":
        check_reachable(
            Path(unquote(path)),
            "workload socket",
            expected="an attestor that listens",
            hint=_NO_ATTESTOR,
            denied_hint="the directories above it must let this user enter",
        )
    return address


def _found(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "none"
    return "a path too long for a socket" if error.errno is None else (error.strerror or str(error)).lower()
