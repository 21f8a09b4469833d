"""Denials from revocation lists, for a source whose Workload API has no other way to report them: a plain SPIFFE agent's `crl` field.

While the attestor reports denials, the source uses those instead (svid/workloadapi/denials): they come sooner, and cover tokens as well. A
credential that an authority's list names stays denied, whichever clock is wrong: the list's dates never exclude an entry.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from svid.bundle import Bundle
from svid.crl import CRL
from svid.errors import CRLError
from svid.spiffeid import TrustDomain
from svid.wire.workload import X509Context

__all__ = ["Listed"]

_log = logging.getLogger(__name__)

_Key: TypeAlias = tuple[TrustDomain, bytes]
"""A trust domain, and the key ID of an authority in its bundle."""


class _List(NamedTuple):
    """The newest list of an authority, and the serials that it denies."""

    crl: CRL
    numbers: frozenset[int]


class Listed:
    """The newest list of each authority in the bundles; usable from any thread."""

    def __init__(self) -> None:
        self._seen: X509Context | None = None
        self._lists: Mapping[_Key, _List] = MappingProxyType({})

    def is_denied(self, trust_domain: TrustDomain, number: int, context: X509Context) -> bool:
        """Whether a list of that trust domain, in this answer or an earlier one, names this serial."""
        if context is not self._seen:
            self._lists, self._seen = (
                self._with(context),
                context,
            )  # in this order: another thread that asks in between computes the lists itself
        return any(of == trust_domain and number in one.numbers for (of, _), one in self._lists.items())

    def _with(self, context: X509Context) -> Mapping[_Key, _List]:
        """The lists that are valid from this answer on; an older list of an authority does not replace a newer one."""
        lists = {
            (trust_domain, key_id): one
            for (trust_domain, key_id), one in self._lists.items()
            if trust_domain in context.bundles
            and any(map(one.crl.is_of, context.bundles[trust_domain].x509_authorities))
        }
        for crl in context.crls:
            numbers = frozenset(crl.numbers())
            for trust_domain in _vouching(crl, context.bundles):
                key = trust_domain, crl.authority_key_id
                known = lists.get(key)
                if known is None or crl.is_newer_than(known.crl):
                    lists[key] = _List(crl, numbers)
        return MappingProxyType(lists)


def _vouching(crl: CRL, bundles: Mapping[TrustDomain, Bundle]) -> list[TrustDomain]:
    """Every trust domain whose bundle vouches for a list: any other bundle may contain our names, key IDs and certificates."""
    vouching, refusals = [], []
    for trust_domain, bundle in bundles.items():
        try:
            crl.check_signature(bundle)
        except CRLError as e:
            refusals.append(f"{trust_domain}: {e}")
        else:
            vouching.append(trust_domain)
    if not vouching:
        _log.warning("revocation list left out", extra={"reason": "; ".join(refusals)})
    return vouching
