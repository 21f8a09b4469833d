"""What revocation lists deny, for a source whose Workload API has no other word for it: a plain SPIFFE agent's `crl` field.

Where the attestor tells of denials, they are asked instead (svid/workloadapi/denials): sooner, and of tokens as well.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from svid.clock import Clock
from svid.crl import CRL
from svid.errors import CRLError
from svid.spiffeid import TrustDomain
from svid.wire.workload import X509Context

__all__ = ["Listed"]

_log = logging.getLogger(__name__)


class _List(NamedTuple):
    """The newest list of an authority, and what it denies."""

    trust_domain: TrustDomain
    crl: CRL
    numbers: frozenset[int]


class Listed:
    """The newest list of each authority of the bundles; any thread may ask."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: X509Context | None = None
        self._lists: Mapping[bytes, _List] = MappingProxyType({})

    def is_denied(self, trust_domain: TrustDomain, number: int, context: X509Context) -> bool:
        """Whether a list of that trust domain names this serial, by the lists of this answer and those before it."""
        if context is not self._seen:
            self._lists, self._seen = (
                self._with(context),
                context,
            )  # in this order: whoever asks meanwhile looks for itself
        return any(one.trust_domain == trust_domain and number in one.numbers for one in self._lists.values())

    def _with(self, context: X509Context) -> Mapping[bytes, _List]:
        """What holds from this answer on; an older list of an authority does not replace a newer one."""
        lists = {
            key: one
            for key, one in self._lists.items()
            if one.trust_domain in context.bundles
            and any(map(one.crl.is_of, context.bundles[one.trust_domain].x509_authorities))
        }
        for crl in context.crls:
            try:
                trust_domain = self._trust_domain_of(crl, context)
            except CRLError as e:
                _log.warning("revocation list left out", extra={"reason": str(e)})
                continue
            known = lists.get(crl.authority_key_id)
            if known is None or crl.is_newer_than(known.crl):
                lists[crl.authority_key_id] = _List(trust_domain, crl, frozenset(crl.numbers()))
        return MappingProxyType(lists)

    def _trust_domain_of(self, crl: CRL, context: X509Context) -> TrustDomain:
        for trust_domain, bundle in context.bundles.items():
            if any(map(crl.is_of, bundle.x509_authorities)):
                crl.check(bundle, at=self._clock.now())
                return trust_domain
        raise CRLError(f"issuer: expected an authority that is trusted, found {crl.issuer.rfc4514_string()!r}")
