"""The address of the Workload API: converts the caller's address, or SPIFFE_ENDPOINT_SOCKET, to a gRPC target.

Nothing is opened or guessed here: there is no default address.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from svid.errors import AddressError

__all__ = ["endpoint_target"]

_ENDPOINT_SOCKET = "SPIFFE_ENDPOINT_SOCKET"
_MAX_UNIX_PATH_BYTES = 107

_CLAUSE = "Workload Endpoint 4"
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})")
_MAX_PORT = 65535


def endpoint_target(socket: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the gRPC target of the Workload API, from `socket` or else from the environment.

    Shape: `unix:///absolute/path`, `unix:/absolute/path` or `tcp://<IP address>:<port>`, and nothing else in the URI.

    Raises:
        AddressError: there is no address, or it has a different shape.

    Source: SPIFFE Workload Endpoint 4
    """
    if socket is None:
        name, address = _ENDPOINT_SOCKET, environment.get(_ENDPOINT_SOCKET)
        if address is None:
            raise AddressError(f"socket: no address was given, and {_ENDPOINT_SOCKET} is not set", clause=_CLAUSE)
    else:
        name, address = "socket", socket
    scheme, colon, rest = address.partition(":")
    match scheme.lower() if colon else "":
        case "unix":
            return _unix_target(name, rest)
        case "tcp":
            return _tcp_target(name, rest)
        case _:
            raise AddressError(f"{name}: expected unix:///PATH or tcp://IP:PORT, found {address!r}", clause=_CLAUSE)


def _unix_target(name: str, rest: str) -> str:
    path = rest.removeprefix("//")
    if not _PATH.fullmatch(path):
        raise AddressError(
            f"{name}: expected unix: and only the absolute path of a socket, found {'unix:' + rest!r}",
            clause=_CLAUSE,
        )
    decoded = unquote_to_bytes(path)
    if b"\0" in decoded:
        raise AddressError(f"{name}: expected a path without NUL, found {path!r}", clause=_CLAUSE)
    if len(decoded) > _MAX_UNIX_PATH_BYTES:
        raise AddressError(f"{name}: expected a path of at most {_MAX_UNIX_PATH_BYTES} bytes, found {len(decoded)}")
    return f"unix:{path}"  # gRPC decodes the percent signs itself


def _tcp_target(name: str, rest: str) -> str:
    found = _HOST_AND_PORT.fullmatch(rest.removeprefix("//")) if rest.startswith("//") else None
    if found is None or not 1 <= int(found[3]) <= _MAX_PORT:
        raise AddressError(
            f"{name}: expected tcp:// and only an IP address and a port, found {'tcp:' + rest!r}", clause=_CLAUSE
        )
    try:
        host = ipaddress.ip_address(found[1] or found[2])
    except ValueError as e:
        raise AddressError(f"{name}: expected an IP address, found {found[1] or found[2]!r}", clause=_CLAUSE) from e
    if (host.version == 6) != (found[1] is not None):  # noqa: PLR2004 - the version of IP
        raise AddressError(
            f"{name}: expected brackets around an IPv6 address, and none around an IPv4 address", clause=_CLAUSE
        )
    return f"ipv6:[{host}]:{found[3]}" if found[1] else f"ipv4:{host}:{found[3]}"
