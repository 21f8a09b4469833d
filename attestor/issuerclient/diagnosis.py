"""Find out why TLS with the issuer failed when clocks are the cause: gRPC says neither which certificate nor when it is valid.

If the issuer refuses this node's SVID, gRPC does not even say that: in TLS 1.3 the alert comes after the handshake, and gRPC says
`Unwrap failed` or `Socket closed`. So the door is tried once more, without gRPC.

Decided here: what to look at, and the wording. Nothing is sent over the connection, and nothing seen on it is trusted.
"""

import asyncio
import os
import ssl
from datetime import datetime

from attestor.decisions.node import RETURNS, SET_CLOCKS
from cognomen.protocol.errors import Kind, Refused
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.encoding import certificate_from_der
from svid.errors import SVIDError
from svid.x509svid import X509SVID

__all__ = ["is_about_time", "is_cut_off", "is_not_trusted", "tell_clocks", "tell_own_clocks"]

_SECONDS = 2.0
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\0" + bytes(4)  # preface, empty SETTINGS
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_ABOUT_TIME = ("certificate has expired", "certificate is not yet valid")
_CUT_OFF = ("Unwrap failed", "Socket closed", "Connection reset", "Broken pipe")
_OVER, _NOT_YET = (
    "alert certificate expired",
    "alert bad certificate",
)  # RFC 8446 6.2; OpenSSL's for X509_V_ERR_CERT_NOT_YET_VALID


def is_about_time(detail: str) -> bool:
    """Whether gRPC's words mean that a certificate is not valid by this machine's clock."""
    return any(words in detail for words in _ABOUT_TIME)


def is_not_trusted(detail: str) -> bool:
    """Whether gRPC's words mean that no authority of ours vouches for the peer.

    OpenSSL has several wordings for this: they depend on whether the peer also sends the authority's own certificate, and on its name.
    """
    return "CERTIFICATE_VERIFY_FAILED" in detail and not is_about_time(detail)


def is_cut_off(detail: str) -> bool:
    """Whether gRPC's words mean that a listener ended the connection, giving no reason that gRPC passes on."""
    return any(words in detail for words in _CUT_OFF)


async def tell_clocks(address: str, bundle: Bundle, host_name: str) -> Refused | None:
    """Report when the issuer's SVID is valid and what this node's clock says; None if that does not explain the failure.

    Args:
        address: host:port of a door.
        host_name: the host name in the issuer's SVID.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await _connect(address, _context(bundle), host_name)
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.transport.abort()
        leaf = certificate_from_der(shown)
    except (OSError, ValueError, SVIDError):  # TimeoutError and SSLError are OSErrors
        return None
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    now = SystemClock().now()  # TLS uses no other clock
    if begin <= now < end:
        return None
    detail = f"issuer: its SVID is {_valid(begin, end)}, {_says(now)}"
    return Refused(Kind.UNAVAILABLE, detail, hint=SET_CLOCKS)


async def tell_own_clocks(address: str, bundle: Bundle, host_name: str, svid: X509SVID) -> Refused | None:
    """Report that this node's SVID is expired, or not valid yet by the issuer's clock; None if the issuer's door does not say so.

    Args:
        address: host:port of the node door.
        svid: the node's.
    """
    said = await _alert(address, bundle, host_name, svid)
    now = SystemClock().now()
    if _NOT_YET in said:
        which = "not valid yet by the issuer's clock"
    elif _OVER in said and now >= svid.not_after:  # the clocks agree on that
        expired = f"issuer: this node's SVID expired at {svid.not_after:{_FORMAT}}"
        return Refused(Kind.UNAVAILABLE, expired, hint=RETURNS)
    elif _OVER in said:
        which = "expired by the issuer's clock"
    else:
        return None
    detail = f"issuer: this node's SVID is {which}: it is {_valid(svid.not_before, svid.not_after)}, {_says(now)}"
    return Refused(Kind.UNAVAILABLE, detail, hint=SET_CLOCKS)


async def _alert(address: str, bundle: Bundle, host_name: str, svid: X509SVID) -> str:
    """What the door says about this SVID after the handshake, in OpenSSL's words; empty: nothing."""
    try:
        context = _context(bundle)
        with os.fdopen(os.memfd_create("node", os.MFD_CLOEXEC), "wb") as file:  # Python loads keys only from files
            file.write(svid.key_pem() + svid.chain_pem())
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        async with asyncio.timeout(_SECONDS):
            reader, writer = await _connect(address, context, host_name)
            try:
                writer.write(_GREETING)  # a door that accepts us answers this at once
                await reader.read(1)
            finally:
                writer.transport.abort()
    except ssl.SSLError as e:
        return str(e).lower().replace("_", " ")
    except (OSError, ValueError):
        pass
    return ""


def _context(bundle: Bundle) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=bundle.to_pem().decode())
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    context.set_alpn_protocols(["h2"])
    return context


async def _connect(
    address: str, context: ssl.SSLContext, host_name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=host_name)


def _valid(begin: datetime, end: datetime) -> str:
    return f"valid from {begin:{_FORMAT}} to {end:{_FORMAT}}"


def _says(now: datetime) -> str:
    return f"this node's clock says {now:{_FORMAT}}"
