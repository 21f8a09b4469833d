"""Authorities: their states, and which step is due next.

Who makes the key and signs the certificate: issuer/flows/rotate_authority.
"""

from collections.abc import Iterable, Sequence
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
    "Step",
    "StepKind",
    "activated",
    "active",
    "bundle_of",
    "intended",
    "next_step",
    "prepared",
    "published",
]

BACKDATE = timedelta(seconds=30)
"""How far everything that we sign begins in the past, for verifiers whose clocks lag."""

_REFRESH_HINT = timedelta(minutes=5)


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
        published_at: when it went into the bundle.
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


class StepKind(StrEnum):
    """What to do with an authority."""

    INTEND = "intend"  # write a row with a new key id
    PREPARE = "prepare"  # make the key if it is not there, have it certified, complete the row
    PUBLISH = "publish"  # into the bundle
    ACTIVATE = "activate"  # let it sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is due; each may be repeated without harm.

    Args:
        authority: the row it is about; None: INTEND makes it.
    """

    kind: StepKind
    authority_kind: AuthorityKind
    authority: Authority | None = None


def next_step(authorities: Sequence[Authority]) -> Step | None:
    """The one step that is due, if any: each kind has one active authority, and one next that is published.

    The very first authority signs at once. Rotation by age, and the end of authorities, will be further steps here.
    """
    for kind in AuthorityKind:
        step = _next_step_of(kind, {a.state: a for a in authorities if a.kind is kind})
        if step is not None:
            return step
    return None


def _next_step_of(kind: AuthorityKind, by_state: dict[AuthorityState, Authority]) -> Step | None:
    coming = by_state.get(AuthorityState.INTENDED)
    if coming is not None:
        step = StepKind.PUBLISH if coming.public_key else StepKind.PREPARE
        return Step(kind=step, authority_kind=kind, authority=coming)
    following = by_state.get(AuthorityState.NEXT)
    if following is None:
        return Step(kind=StepKind.INTEND, authority_kind=kind)
    if AuthorityState.ACTIVE not in by_state:
        return Step(kind=StepKind.ACTIVATE, authority_kind=kind, authority=following)
    return None


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


def published(authority: Authority, *, now: datetime) -> Authority:
    """The row once it stands in the bundle."""
    return replace(authority, state=AuthorityState.NEXT, published_at=now)


def activated(authority: Authority, *, now: datetime) -> Authority:
    """The row once it signs."""
    return replace(authority, state=AuthorityState.ACTIVE, activated_at=now)


def active(authorities: Iterable[Authority], kind: AuthorityKind) -> Authority:
    """The authority that signs this kind.

    Raises:
        Refused: UNAVAILABLE while there is none.
    """
    for authority in authorities:
        if authority.kind is kind and authority.state is AuthorityState.ACTIVE:
            return authority
    raise Refused(Kind.UNAVAILABLE, f"{kind} authority: none is active yet", hint="does the issuer still start?")


def bundle_of(trust_domain: TrustDomain, authorities: Iterable[Authority], *, sequence: int) -> Bundle:
    """Our own bundle: every authority that is published and not retired."""
    listed = [a for a in authorities if a.state not in {AuthorityState.INTENDED, AuthorityState.RETIRED}]
    return Bundle(
        trust_domain=trust_domain,
        x509_authorities=tuple(
            x509.load_der_x509_certificate(a.certificate) for a in listed if a.kind is AuthorityKind.X509
        ),
        jwt_authorities={a.key_id: public_key_from_der(a.public_key) for a in listed if a.kind is AuthorityKind.JWT},
        sequence=sequence,
        refresh_hint=_REFRESH_HINT,
    )
