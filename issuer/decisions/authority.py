"""Authorities: their states, how one becomes the next, and the bundle that they make.

Which step is due when: rotation. Who makes the key and signs the certificate: issuer/flows/rotate_authority.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from cognomen.daemon.errors import Kind, Refused
from svid.bundle import Bundle
from svid.keys import KeyID, public_key_from_der
from svid.spiffeid import TrustDomain

__all__ = [
    "BACKDATE",
    "Authority",
    "AuthorityKind",
    "AuthorityState",
    "activated",
    "active",
    "asked",
    "bundle_of",
    "has_tainted",
    "intended",
    "is_valid",
    "lifetime_of",
    "postponed",
    "prepared",
    "published",
    "replaced",
    "retired",
    "suspected",
    "tainted",
    "tainted_ids",
]

BACKDATE = timedelta(seconds=30)
"""How far everything that we sign begins in the past, for verifiers whose clocks lag."""

_REFRESH_HINT = timedelta(minutes=5)
_NEXT_FOR = 3 / 7  # of a lifetime: of 14 days, active from day 6


class AuthorityKind(StrEnum):
    """What an authority signs."""

    X509 = "x509"
    JWT = "jwt"


class AuthorityState(StrEnum):
    """Where an authority is in its life; all but `intended` and `retired` stand in the bundle."""

    INTENDED = "intended"  # the row names a key that may not exist yet
    NEXT = "next"  # published, not signing
    ACTIVE = "active"  # signs
    OLD = "old"  # signs no more, its SVIDs are still valid
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A signing authority of this issuer.

    Args:
        certificate: DER, for X.509; empty for JWT.
        public_key: SubjectPublicKeyInfo DER.
        published_at: when it went into the bundle; published_change is the change number of that.
        activate_at: when it is meant to sign, if nothing makes it wait or hurry.
        last_not_after: the end of the last credential that it signed; None: it signed none.
        is_suspect: it may have signed what is not on the books; its successor is meant to sign at once.
        tainted_at: when an operator said that what it signed is to be replaced; tainted_change is the change number of that.
        retired_at: when it left the bundle; None: it is there, or that is not known.
    """

    key_id: KeyID
    kind: AuthorityKind
    state: AuthorityState
    public_key: bytes = b""
    certificate: bytes = b""
    not_before: datetime
    not_after: datetime
    published_at: datetime | None = None
    activated_at: datetime | None = None
    published_change: int = 0
    activate_at: datetime | None = None
    last_not_after: datetime | None = None
    is_suspect: bool = False
    tainted_at: datetime | None = None
    tainted_change: int = 0
    retired_at: datetime | None = None

    @property
    def is_published(self) -> bool:
        """Whether the bundle holds it."""
        return self.state not in {AuthorityState.INTENDED, AuthorityState.RETIRED}


def intended(kind: AuthorityKind, key_id: KeyID, *, now: datetime, ttl: timedelta) -> Authority:
    """A row for an authority whose key may not exist yet.

    Units: whole seconds, back-dated as everything that we sign.
    """
    return Authority(
        key_id=key_id,
        kind=kind,
        state=AuthorityState.INTENDED,
        not_before=(now - BACKDATE).replace(microsecond=0),
        not_after=(now + ttl).replace(microsecond=0),
    )


def prepared(authority: Authority, *, public_key: bytes, certificate: bytes = b"") -> Authority:
    """The row once the key exists and, for X.509, is certified."""
    return replace(authority, public_key=public_key, certificate=certificate)


def lifetime_of(authority: Authority) -> timedelta:
    """How long it was made to last."""
    return authority.not_after - authority.not_before - BACKDATE


def is_valid(authority: Authority, *, now: datetime) -> bool:
    """Whether what it signs now can be verified now: a clock that was set may have put it into the past or the future."""
    return authority.not_before <= now < authority.not_after


def published(authority: Authority, *, change: int, now: datetime) -> Authority:
    """The row once it stands in the bundle.

    Args:
        change: the number of the change that told the attestors.
    """
    activate_at = now + lifetime_of(authority) * _NEXT_FOR
    return replace(
        authority, state=AuthorityState.NEXT, published_at=now, published_change=change, activate_at=activate_at
    )


def asked(authority: Authority, *, now: datetime) -> Authority:
    """The row once an operator wants it to sign as soon as everybody knows it."""
    return replace(authority, activate_at=min(now, authority.activate_at or now))


def postponed(authority: Authority, *, until: datetime) -> Authority:
    """The row once it is not meant to sign before then."""
    return replace(authority, activate_at=max(until, authority.activate_at or until))


def activated(authority: Authority, *, now: datetime) -> Authority:
    """The row once it signs."""
    return replace(authority, state=AuthorityState.ACTIVE, activated_at=now)


def replaced(authority: Authority) -> Authority:
    """The row once another one signs in its place."""
    return replace(authority, state=AuthorityState.OLD)


def suspected(authority: Authority) -> Authority:
    """The row once it may have signed what is not on the books: it is not let sign again."""
    return replace(authority, is_suspect=True)


def tainted(authority: Authority, *, change: int, now: datetime) -> Authority:
    """The row once it signs no more, and all that it signed is to be replaced.

    Args:
        change: the number of the change that tells the attestors.
    """
    return replace(authority, state=AuthorityState.OLD, tainted_at=now, tainted_change=change)


def retired(authority: Authority, *, now: datetime | None = None) -> Authority:
    """The row once it stands in the bundle no more; its key may be destroyed."""
    return replace(authority, state=AuthorityState.RETIRED, retired_at=now)


def active(authorities: Iterable[Authority], kind: AuthorityKind, *, now: datetime) -> Authority:
    """The authority that signs this kind.

    Raises:
        Refused: UNAVAILABLE while there is none that is valid.
    """
    for authority in authorities:
        if authority.kind is kind and authority.state is AuthorityState.ACTIVE and is_valid(authority, now=now):
            return authority
    raise Refused(
        Kind.UNAVAILABLE,
        f"{kind} authority: none is active and valid",
        hint="it is made within seconds of a start or a step of the clock; where not: cognomen status",
    )


def tainted_ids(authorities: Iterable[Authority]) -> tuple[str, ...]:
    """The tainted ones that the bundle still holds, by what their SVIDs name them.

    Shape: of X.509 the subject key identifier, as hexadecimal; of JWT the key id.
    """
    return tuple(_id_in_svids(a) for a in authorities if a.is_published and a.tainted_at is not None)


def has_tainted(authorities: Iterable[Authority], kind: AuthorityKind) -> bool:
    """Whether the bundle holds a tainted one of that kind."""
    return any(a.kind is kind and a.is_published and a.tainted_at is not None for a in authorities)


def _id_in_svids(authority: Authority) -> str:
    if authority.kind is AuthorityKind.JWT:
        return authority.key_id
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()


def bundle_of(trust_domain: TrustDomain, authorities: Iterable[Authority], *, sequence: int) -> Bundle:
    """Our own bundle: every authority that is published and not retired."""
    listed = [a for a in authorities if a.is_published]
    return Bundle(
        trust_domain=trust_domain,
        x509_authorities=tuple(
            x509.load_der_x509_certificate(a.certificate) for a in listed if a.kind is AuthorityKind.X509
        ),
        jwt_authorities={a.key_id: public_key_from_der(a.public_key) for a in listed if a.kind is AuthorityKind.JWT},
        sequence=sequence,
        refresh_hint=_REFRESH_HINT,
    )
