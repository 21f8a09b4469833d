"""Certificate revocation lists: when an authority must sign one, what it says, and how that is written.

The library's builder takes 11 s for 100,000 entries and 130 ms for 10,000; that these are its bytes is a test (ADR-0008). Which
certificates ended is decided in revocation; whether what was signed is what was drafted, in lint; who signs: flows/publish_crl.
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
    "reason_flag",
]

_SECOND = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(seconds=5)
_EXTENSIONS = 0xA0
_ENTRY_BYTES = 52  # of the longest
_LEAK = der.extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
_FRAME_BYTES = 1024  # of what is around the entries: less than that

LARGE_BYTES = 1 << 20
"""Long before a list is too large for us, it is too large for somebody: over that, another authority takes its authority's place."""

MOST_LISTED = (MAX_CRL_BYTES - _FRAME_BYTES) // _ENTRY_BYTES
"""How many certificates a list may have: nobody of ours reads a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedCertificate:
    """What a list says of a certificate.

    Args:
        ends_at: when it would have ended by itself.
    """

    serial: int
    denied_at: datetime
    ends_at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCRL:
    """The newest list of an authority.

    Args:
        number: the last number that was given away, also to a list that was never finished.
        this_update: of the list; None: none was finished yet.
        der: the list; empty: none was finished yet.
    """

    authority_id: KeyID
    number: int
    this_update: datetime | None = None
    der: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLDraft:
    """A list that is meant to be signed.

    Args:
        denied: by their serials.

    Units: whole seconds
    """

    number: int
    this_update: datetime
    next_update: datetime
    denied: tuple[DeniedCertificate, ...]


def listed_authorities(authorities: Iterable[Authority], *, now: datetime) -> list[Authority]:
    """The authorities that need a list: those in the bundle that sign certificates, the prepared ones included.

    A verifier that asks for lists refuses every certificate of an authority that has none.
    """
    return [
        one
        for one in authorities
        if one.kind is AuthorityKind.X509
        and one.state not in {AuthorityState.INTENDED, AuthorityState.RETIRED}
        and now < one.not_after
    ]


def is_due(last: SignedCRL | None, denied: Iterable[DeniedCertificate], *, now: datetime) -> bool:
    """Whether an authority must sign a list: it has none, its list does not say what it should, or an entry is about to leave.

    An entry leaves no earlier than on the list after one that was signed beyond its certificate's end.

    Source: RFC 5280 3.3
    """
    if last is None or last.this_update is None:
        return True
    denied = list(denied)
    try:
        listed = set(CRL.from_der(last.der).numbers())
    except CRLError:  # the store's file was bent
        return True
    # Of what is listed only this may change: that a key leaked is often learned later.
    leaks = sum(one.reason is Reason.KEY_COMPROMISE for one in denied)
    says_so = listed == {one.serial for one in denied} and last.der.count(_LEAK) == leaks
    leaving = now - KEPT_FOR
    return not says_so or any(last.this_update <= one.ends_at < leaving for one in denied)


def is_full(denied: int) -> bool:
    """Whether a list of so many certificates is, or soon would be, larger than it should."""
    return denied * _ENTRY_BYTES > LARGE_BYTES


def due_at(last: SignedCRL | None, *, now: datetime) -> datetime:
    """The moment from which on the next list may begin: a second after the one before, for verifiers that choose by that.

    One that begins in a future that is further away was signed while the clock was wrong, and no verifier takes it: nobody waits for that.
    """
    if last is None or last.this_update is None or last.this_update > now + _LONGEST_WAIT:
        return now
    return max(now, last.this_update + _SECOND)


def next_draft(
    authority: Authority, last: SignedCRL | None, denied: Iterable[DeniedCertificate], *, now: datetime
) -> CRLDraft:
    """What an authority's next list says, at the moment that `due_at` says or later.

    It holds as long as the authority: how old what it says may be is the feed's business, and a list that is over fails everybody.
    """
    return CRLDraft(
        number=max(0 if last is None else last.number + 1, int(now.timestamp() * 1000)),
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
    """The reason as an entry gives it; None: it gives none.

    Source: RFC 5280 5.3.1
    """
    return _REASONS.get(reason)


class ListForm:
    """Lists by one authority.

    Args:
        kind: of the authority's key, which names the signature's algorithm.
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


@lru_cache(maxsize=256)  # what one command ends, ends at one moment
def _when_and_why(at: datetime, reason: Reason) -> bytes:
    flag = reason_flag(reason)
    said = b"" if flag is None else der.tlv(der.SEQUENCE, der.extension(x509.CRLReason(flag), critical=False))
    return der.time(at.astimezone(UTC).replace(microsecond=0)) + said
