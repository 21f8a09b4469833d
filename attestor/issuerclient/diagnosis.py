"""Why TLS did not trust the issuer, where it is a matter of clocks: gRPC says that a certificate expired, but neither which nor when.

Decided here: what to look at, and the words. Nothing is sent over the connection, and nothing that is seen on it is trusted.
"""

import asyncio
import ssl

from attestor.decisions.node import SET_CLOCKS
from cognomen.daemon.errors import Kind, Refused
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.encoding import certificate_from_der
from svid.errors import SVIDError

__all__ = ["is_about_time", "tell_clocks"]

_SECONDS = 2.0
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_ABOUT_TIME = ("certificate has expired", "certificate is not yet valid")


def is_about_time(detail: str) -> bool:
    """Whether gRPC's words mean that a certificate is not valid by this machine's clock."""
    return any(words in detail for words in _ABOUT_TIME)


async def tell_clocks(address: str, bundle: Bundle, host_name: str) -> Refused | None:
    """Say from when to when the issuer's SVID is valid, and what this node's clock says; None where that explains nothing.

    Args:
        address: host:port of a door.
        host_name: the one that the issuer's SVID carries.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=bundle.to_pem().decode())
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=host_name
            )
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.transport.abort()
        leaf = certificate_from_der(shown)
    except (OSError, ValueError, SVIDError):  # TimeoutError and SSLError are OSErrors
        return None
    begin, end, now = (
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        SystemClock().now(),
    )  # TLS asks no other clock
    if begin <= now < end:
        return None
    detail = (
        f"issuer: its SVID is valid from {begin:{_FORMAT}} to {end:{_FORMAT}}, this node's clock says {now:{_FORMAT}}"
    )
    return Refused(Kind.UNAVAILABLE, detail, hint=SET_CLOCKS)
