"""Network addresses as people write them: host:port."""

import ipaddress
import re

__all__ = ["host_and_port"]

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_NAME = 253
_MAX_PORT = 2**16 - 1
_EXAMPLES = "issuer.example.org:8443, 192.0.2.7:8443 or [2001:db8::7]:8443"


def host_and_port(text: str) -> tuple[str, int]:
    """Parse host:port; an IPv6 address is in brackets, which the result lacks.

    Raises:
        ValueError: it is not such an address.
    """
    host, colon, port = text.rpartition(":")
    if colon and _is_host(host) and port.isascii() and port.isdigit() and len(port) <= len(str(_MAX_PORT)):
        number = int(port)
        if number <= _MAX_PORT:
            return host.strip("[]"), number
    raise ValueError(f"expected host:port such as {_EXAMPLES}, found {text[:_MAX_NAME]!r}")


def _is_host(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        address, _, zone = text[1:-1].partition("%")
        return _is_ip(address, 6) and (not zone or bool(_LABEL.fullmatch(zone)))
    labels = text.removesuffix(".").split(".")
    if labels[-1].isdigit():  # no name ends in a number (RFC 3696 2)
        return _is_ip(text, 4)
    return len(text) <= _MAX_NAME and all(map(_LABEL.fullmatch, labels))


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
