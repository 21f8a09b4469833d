"""The authorities of every trusted trust domain in one list, as TLS needs them, without those that TLS cannot read.

OpenSSL and gRPC load all authorities or none, so one unreadable authority of another trust domain would stop all connections.
svid/tls/context decides which authority vouches for a peer: only one in the bundle of the peer's own trust domain can.
"""

import logging
import ssl
from collections.abc import Mapping
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from svid.bundle import Bundle
from svid.spiffeid import TrustDomain

__all__ = ["readable_authorities"]

_log = logging.getLogger(__name__)


def readable_authorities(bundles: Mapping[TrustDomain, Bundle], *, own: TrustDomain) -> tuple[x509.Certificate, ...]:
    """List the authorities that OpenSSL can read, those of our own trust domain first; logs a warning for each one left out."""
    found: list[x509.Certificate] = []
    for trust_domain, bundle in sorted(bundles.items(), key=lambda item: item[0] != own):
        for authority in bundle.x509_authorities:
            if _is_readable(authority.public_bytes(Encoding.DER)):
                found.append(authority)
            else:
                _log.warning(
                    "authority of %s left out: TLS cannot read it; no peer that it signed can connect", trust_domain
                )
    return tuple(found)


@lru_cache(maxsize=1024)
def _is_readable(der: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except ssl.SSLError:
        return False
    return True
