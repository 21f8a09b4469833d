"""Authorities: their states, how one becomes the next, and the bundle that they make.

authoritylife lists the steps from state to state, and rotation decides when a step is due. issuer/flows/rotate_authority makes the key and
has the certificate signed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.validity import BACKDATE
from issuer.decisions.authoritylife import AUTHORITY_LIFE, AuthorityState
from svid.bundle import Bundle
from svid.keys import KeyID, public_key_from_der
from svid.spiffeid import TrustDomain

__all__ = [
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

_REFRESH_HINT = timedelta(minutes=5)
_NEXT_FOR = 3 / 7  # of a lifetime: of 14 days, active from day 6


class AuthorityKind(StrEnum):
    """What an authority signs."""

    X509 = "x509"
    JWT = "jwt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A signing authority of this issuer.

    Args:
        certificate: DER, for X.509; empty for JWT.
        above: DER of the certificates between it and its root; they are sent with each SVID.
        roots: DER of the certificates that the bundle holds for it; empty: it is a root itself.
        public_key: SubjectPublicKeyInfo DER.
        published_at: when it was added to the bundle; published_change is the number of that change.
        activate_at: when it is planned to sign, if nothing delays or hastens that.
        last_not_after: when the last credential that it signed expires; None: it has signed nothing.
        is_suspect: it may have signed something that is not on record; its successor is to sign at once.
        tainted_at: when an operator ordered that everything it signed be replaced; tainted_change is the number of that change.
        retired_at: when it left the bundle; None: it is still in the bundle, or the time is not known.
    """

    key_id: KeyID
    kind: AuthorityKind
    state: AuthorityState
    public_key: bytes = b""
    certificate: bytes = b""
    above: tuple[bytes, ...] = ()
    roots: tuple[bytes, ...] = ()
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

    @property
    def is_root(self) -> bool:
        """Whether the bundle holds this authority itself."""
        return not self.roots

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What is sent after each leaf that it signs: the certificates below the root; DER."""
        return () if self.is_root else (self.certificate, *self.above)

    @property
    def anchors(self) -> tuple[bytes, ...]:
        """What the bundle holds for it; DER."""
        return self.roots or (self.certificate,)


def intended(kind: AuthorityKind, key_id: KeyID, *, now: datetime, ttl: timedelta) -> Authority:
    """A row for an authority whose key may not exist yet.

    Units: whole seconds, back-dated as everything that we sign.
    """
    return Authority(
        key_id=key_id,
        kind=kind,
        state=AUTHORITY_LIFE.after(None, "intended"),
        not_before=(now - BACKDATE).replace(microsecond=0),
        not_after=(now + ttl).replace(microsecond=0),
    )


def prepared(
    authority: Authority, *, public_key: bytes, chain: Sequence[bytes] = (), roots: Sequence[bytes] = ()
) -> Authority:
    """The row once the key exists and, for X.509, is certified.

    Args:
        chain: DER, its own certificate first.
        roots: DER.
    """
    own, *above = chain or (b"",)
    return replace(
        authority,
        state=_after("prepared", authority),
        public_key=public_key,
        certificate=own,
        above=tuple(one for one in above if one not in roots),
        roots=() if own in roots else tuple(roots),
    )


def lifetime_of(authority: Authority) -> timedelta:
    """How long it was made to last."""
    return authority.not_after - authority.not_before - BACKDATE


def is_valid(authority: Authority, *, now: datetime) -> bool:
    """Whether what it signs now can be verified now; after the clock was set, its lifetime may be in the past or the future."""
    return authority.not_before <= now < authority.not_after


def published(authority: Authority, *, change: int, now: datetime) -> Authority:
    """The row once it is in the bundle.

    Args:
        change: the number of the change that told the attestors.
    """
    activate_at = now + lifetime_of(authority) * _NEXT_FOR
    return replace(
        authority,
        state=_after("published", authority),
        published_at=now,
        published_change=change,
        activate_at=activate_at,
    )


def asked(authority: Authority, *, now: datetime) -> Authority:
    """The row once an operator has ordered that it sign as soon as everybody knows it."""
    state = _after("asked", authority)
    return replace(authority, state=state, activate_at=min(now, authority.activate_at or now))


def postponed(authority: Authority, *, until: datetime) -> Authority:
    """The row once it must not sign before then."""
    state = _after("postponed", authority)
    return replace(authority, state=state, activate_at=max(until, authority.activate_at or until))


def activated(authority: Authority, *, now: datetime) -> Authority:
    """The row once it signs."""
    return replace(authority, state=_after("activated", authority), activated_at=now)


def replaced(authority: Authority) -> Authority:
    """The row once another authority signs in its place."""
    return replace(authority, state=_after("replaced", authority))


def suspected(authority: Authority) -> Authority:
    """The row once it may have signed something that is not on record: it does not sign again."""
    return replace(authority, state=_after("suspected", authority), is_suspect=True)


def tainted(authority: Authority, *, change: int, now: datetime) -> Authority:
    """The row once it no longer signs, and everything that it signed is to be replaced.

    Args:
        change: the number of the change that tells the attestors.
    """
    state = _after("tainted", authority)
    return replace(authority, state=state, tainted_at=now, tainted_change=change)


def retired(authority: Authority, *, now: datetime | None = None) -> Authority:
    """The row once it is no longer in the bundle; its key may be destroyed."""
    return replace(authority, state=_after("retired", authority), retired_at=now)


def _after(step: str, authority: Authority) -> AuthorityState:
    return AUTHORITY_LIFE.after(authority.state, step, name=authority.key_id)


def active(authorities: Iterable[Authority], kind: AuthorityKind, *, now: datetime) -> Authority:
    """The authority that signs this kind.

    Raises:
        Refused: UNAVAILABLE while no such authority is active and valid.
    """
    for authority in authorities:
        if authority.kind is kind and authority.state is AuthorityState.ACTIVE and is_valid(authority, now=now):
            return authority
    raise Refused(
        Kind.UNAVAILABLE,
        f"{kind} authority: none is active and valid",
        hint="the issuer makes one within seconds of its start, or after the clock was set; if it does not: cognomen status",
    )


def tainted_ids(authorities: Iterable[Authority]) -> tuple[str, ...]:
    """The tainted ones that the bundle still holds, by the name that their SVIDs give them.

    Shape: for X.509 the subject key identifier, as hexadecimal; for JWT the key id.
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
    """Our own bundle: every authority that is published and not retired; if it is not a root itself, its roots instead."""
    listed = [a for a in authorities if a.is_published]
    anchors = dict.fromkeys(der for a in listed if a.kind is AuthorityKind.X509 for der in a.anchors)
    return Bundle(
        trust_domain=trust_domain,
        x509_authorities=tuple(map(x509.load_der_x509_certificate, anchors)),
        jwt_authorities={a.key_id: public_key_from_der(a.public_key) for a in listed if a.kind is AuthorityKind.JWT},
        sequence=sequence,
        refresh_hint=_REFRESH_HINT,
    )
