"""Certificate revocation lists: when an authority must sign one, what it says, and how it is encoded.

The library's builder takes 11 s for 100,000 entries and 130 ms for 10,000; a test checks that our bytes are the same (ADR-0008).
revocation decides which certificates ended; lint checks that what was signed is what was drafted; flows/publish_crl signs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509

from issuer.decisions import der
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.revocation import Reason
from svid.crl import CRL, MAX_CRL_BYTES
from svid.denials import KEPT_FOR
from svid.errors import CRLError
from svid.keys import KeyID, KeyKind

__all__ = [
    "LARGE_BYTES",
    "MOST_LISTED",
    "CRLDraft",
    "DeniedCertificate",
    "ListForm",
    "SignedCRL",
    "due_at",
    "is_due",
    "is_full",
    "listed_authorities",
    "next_draft",
    "number_at",
    "reason_flag",
]

_SECOND = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(seconds=5)
_EXTENSIONS = 0xA0
_ENTRY_BYTES = 52  # the longest entry
_LEAK = der.extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
_FRAME_BYTES = 1024  # everything around the entries is smaller than that

LARGE_BYTES = 1 << 20
"""The size from which another authority takes over: long before a list is too large for us, it is too large for some verifier."""

MOST_LISTED = (MAX_CRL_BYTES - _FRAME_BYTES) // _ENTRY_BYTES
"""How many certificates a list may have: none of our verifiers reads a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedCertificate:
    """What a list says about a certificate.

    Args:
        ends_at: when it expires.
    """

    serial: int
    denied_at: datetime
    ends_at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCRL:
    """The newest list of an authority.

    Args:
        number: the last number that was used, even if that list was never finished. After a restore: a number beyond all that may have
            been used.
        this_update: the time in the list; None: no list was finished yet.
        der: the list; empty: no list was finished yet.
    """

    authority_id: KeyID
    number: int
    this_update: datetime | None = None
    der: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLDraft:
    """A list to be signed.

    Args:
        denied: in the order of their serials.

    Units: whole seconds
    """

    number: int
    this_update: datetime
    next_update: datetime
    denied: tuple[DeniedCertificate, ...]


def listed_authorities(authorities: Iterable[Authority], *, now: datetime) -> list[Authority]:
    """The authorities that need a list: those whose own certificate is in the bundle, including the prepared ones.

    A verifier that requires lists refuses every certificate of an authority without one. An authority below a root that is not ours signs
    no list: a verifier that requires lists would also need the root's, which we do not have.
    """
    return [
        one
        for one in authorities
        if one.kind is AuthorityKind.X509
        and one.state not in {AuthorityState.INTENDED, AuthorityState.RETIRED}
        and one.is_root
        and now < one.not_after
    ]


def is_due(last: SignedCRL | None, denied: Iterable[DeniedCertificate], *, now: datetime) -> bool:
    """Whether an authority must sign a list: it has none, its list is from a future that the clock was set back from, or outdated.

    A list is also outdated while an entry is about to leave, and when a later number was used: somebody may hold the list with that number.

    An entry leaves no earlier than on the list after one that was signed after its certificate expired.

    Source: RFC 5280 3.3
    """
    if last is None or last.this_update is None:
        return True
    if last.this_update > now + _LONGEST_WAIT:
        return True  # no verifier accepts it until then
    denied = list(denied)
    try:
        newest = CRL.from_der(last.der)
    except CRLError:  # the store's file was damaged
        return True
    if newest.number != last.number:
        return True
    # Only this can change about a listed certificate: people often learn later that a key leaked.
    leaks = sum(one.reason is Reason.KEY_COMPROMISE for one in denied)
    says_so = set(newest.numbers()) == {one.serial for one in denied} and last.der.count(_LEAK) == leaks
    leaving = now - KEPT_FOR
    return not says_so or any(last.this_update <= one.ends_at < leaving for one in denied)


def number_at(now: datetime) -> int:
    """The smallest number of a list that is signed now.

    Units: milliseconds since 1970
    """
    return int(now.timestamp() * 1000)


def is_full(denied: int) -> bool:
    """Whether a list of that many certificates is, or soon would be, larger than it should be."""
    return denied * _ENTRY_BYTES > LARGE_BYTES


def due_at(last: SignedCRL | None, *, now: datetime) -> datetime:
    """When the next list may begin: a second after the last one, for verifiers that choose by that time.

    A list that begins further in the future was signed while the clock was wrong. No verifier accepts it, so we do not wait for that time.
    """
    if last is None or last.this_update is None or last.this_update > now + _LONGEST_WAIT:
        return now
    return max(now, last.this_update + _SECOND)


def next_draft(
    authority: Authority, last: SignedCRL | None, denied: Iterable[DeniedCertificate], *, now: datetime
) -> CRLDraft:
    """What an authority's next list says, at the time that `due_at` returns or later.

    It is valid as long as the authority: the feed decides how old its content may be, and an expired list would fail everybody.
    """
    return CRLDraft(
        number=max(0 if last is None else last.number + 1, number_at(now)),
        this_update=now.replace(microsecond=0),
        next_update=authority.not_after,
        denied=tuple(sorted(denied, key=lambda one: one.serial)),
    )


_REASONS: Final = {
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    Reason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}


def reason_flag(reason: Reason) -> x509.ReasonFlags | None:
    """The reason as an entry states it; None: it states none.

    Source: RFC 5280 5.3.1
    """
    return _REASONS.get(reason)


class ListForm:
    """The form of lists by one authority.

    Args:
        kind: the kind of the authority's key, which determines the signature algorithm.
        authority_ski: the subject key identifier of the authority's certificate.
    """

    def __init__(self, kind: KeyKind, *, issuer: x509.Name, authority_ski: bytes) -> None:
        self._kind = kind
        self._signed_by = der.ALGORITHMS[kind] + issuer.public_bytes()
        self._authority = der.extension(x509.AuthorityKeyIdentifier(authority_ski, None, None), critical=False)

    def to_be_signed(self, draft: CRLDraft) -> bytes:
        """Write the TBSCertList.

        No issuingDistributionPoint: some verifiers refuse every list that has one.

        Source: RFC 5280 5.1, 5.2
        """
        entries = b"".join(map(_entry, draft.denied))
        return der.tlv(
            der.SEQUENCE,
            der.integer(1),
            self._signed_by,
            der.time(draft.this_update),
            der.time(draft.next_update),
            der.tlv(der.SEQUENCE, entries) if entries else b"",
            der.tlv(
                _EXTENSIONS,
                der.tlv(der.SEQUENCE, self._authority, der.extension(x509.CRLNumber(draft.number), critical=False)),
            ),
        )

    def signed(self, to_be_signed: bytes, signature: bytes) -> bytes:
        """Write the list."""
        return der.signed(to_be_signed, self._kind, signature)


def _entry(denied: DeniedCertificate) -> bytes:
    return der.tlv(der.SEQUENCE, der.integer(denied.serial), _when_and_why(denied.denied_at, denied.reason))


@lru_cache(maxsize=256)  # one command ends everything at the same time
def _when_and_why(at: datetime, reason: Reason) -> bytes:
    flag = reason_flag(reason)
    said = b"" if flag is None else der.tlv(der.SEQUENCE, der.extension(x509.CRLReason(flag), critical=False))
    return der.time(at.astimezone(UTC).replace(microsecond=0)) + said
