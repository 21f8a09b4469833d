"""Verifies peers' certificate chains with the current bundles; a chain verified with the same bundle object is not verified again.

svid/tls/authorize decides who is allowed, and svid/x509svid what a chain must look like.
"""

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from svid.bundle import Bundle
from svid.denials import OPEN_FOR
from svid.encoding import certificates_from_der
from svid.errors import SVIDError, X509SVIDError
from svid.spiffeid import TrustDomain
from svid.tls.enforcement import Peer
from svid.tls.forked import renew_in_children
from svid.tls.refusals import ExpiredHandshakeError, HandshakeRefusedError
from svid.x509svid import check_leaf, check_profile, verify

__all__ = ["Chains"]

_REMEMBERED = 256  # peers reconnect many times with one SVID


class _Verified(NamedTuple):
    """A verified chain: the bundle that verified it, its peer, and a period in which no certificate begins or ends."""

    bundle: Bundle
    peer: Peer
    since: datetime
    until: datetime


class Chains:
    """A cache of the chains that one context's peers showed recently; usable from any thread."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Verified] = {}
        self.renew()
        renew_in_children(self)

    def __len__(self) -> int:
        """The number of chains in the cache."""
        return len(self._known)

    def renew(self) -> None:
        """In a forked child, replace the lock instead of waiting for it."""
        self._lock = threading.Lock()

    def peer(self, der: bytes, bundles: Mapping[TrustDomain, Bundle], at: datetime) -> Peer:
        """Verify a chain (DER, leaf first) with the bundle of its own trust domain, and return its peer.

        Raises:
            HandshakeRefusedError: that bundle does not vouch for it.
        """
        try:
            return self._verified(der, bundles, at)
        except SVIDError as e:
            refused, shown = _refused_leaf(der, at)
            raise refused(f"{e}{shown}", clause=e.clause) from e

    def _verified(self, der: bytes, bundles: Mapping[TrustDomain, Bundle], now: datetime) -> Peer:
        """Verify a chain; one verified with the same bundle object gives the same result again, until a certificate of it expires."""
        known = self._known.get(der)
        if (
            known is not None
            and known.bundle is bundles.get(known.peer.spiffe_id.trust_domain)
            and known.since <= now < known.until
        ):
            return known.peer
        certificates = certificates_from_der(der)
        if not certificates:
            raise X509SVIDError("peer: expected a certificate, found none")
        trust_domain = check_profile(certificates[0]).trust_domain  # `verify` looks at the key
        bundle = bundles.get(trust_domain)
        if bundle is None:
            raise X509SVIDError(f"peer: trust domain {trust_domain} is not trusted", clause="Workload API 4.6")
        spiffe_id = verify(certificates, bundle, at=now)
        peer = Peer(
            spiffe_id,
            tuple(one.serial_number for one in certificates),
            certificates[0].not_valid_after_utc,
            OPEN_FOR,
        )
        ends = [one.not_valid_after_utc for one in (*certificates, *bundle.x509_authorities)]
        with self._lock:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[der] = _Verified(bundle, peer, now, min((end for end in ends if end > now), default=now))
        return peer


def _refused_leaf(der: bytes, at: datetime) -> tuple[type[HandshakeRefusedError], str]:
    """The error class for a chain that nothing vouches for, and the SPIFFE ID that it claims, for people."""
    try:
        leaf = certificates_from_der(der)[0]
        says = f"; it claims to be {check_leaf(leaf)}"
    except (SVIDError, IndexError):
        return HandshakeRefusedError, ""
    return (ExpiredHandshakeError if leaf.not_valid_after_utc <= at else HandshakeRefusedError), says
