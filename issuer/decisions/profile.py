"""The one profile of everything we sign: what our certificates and tokens look like, as drafts that are not yet signed.

lint decides what a draft must satisfy before it is recorded; issuer/signing signs it.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID, issuer_id
from cognomen.protocol.validity import BACKDATE
from issuer.decisions.authority import Authority
from issuer.decisions.ledger import CredentialKind
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "ISSUER_DNS_NAME",
    "SERIAL_BYTES",
    "CADraft",
    "Draft",
    "Intent",
    "JWTDraft",
    "Validity",
    "X509Draft",
    "build_ca",
    "build_issuer_x509",
    "build_jwt",
    "build_node_x509",
    "build_x509",
    "claims_of",
    "common_name",
    "entry_validity",
    "serial_of",
    "serial_to_text",
    "serials",
    "validity",
]

_TOP_BIT = 1 << 127
_MAX_COMMON_NAME = 64

SERIAL_BYTES = 10
"""How many random bytes a serial number takes."""

ISSUER_DNS_NAME = "issuer.cognomen.internal"
"""The name in the issuer's own SVID for attestors' TLS to check (gRPC checks host names, not SPIFFE IDs); nobody else gets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CADraft:
    """A signing certificate to be made.

    Args:
        public_key: SubjectPublicKeyInfo DER.
    """

    trust_domain: TrustDomain
    serial: int
    common_name: str
    public_key: bytes
    not_before: datetime
    not_after: datetime

    @property
    def spiffe_id(self) -> SpiffeID:
        """The SPIFFE ID of an authority, which has no path."""
        return self.trust_domain.id


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Draft:
    """An X509-SVID to be signed.

    Args:
        public_key: SubjectPublicKeyInfo, in its one DER form.
    """

    spiffe_id: SpiffeID
    serial: int
    public_key: bytes
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTDraft:
    """A JWT-SVID to be signed.

    Args:
        issuer: the URL that OpenID Connect's relying parties know us by; empty: none.
    """

    spiffe_id: SpiffeID
    audiences: tuple[str, ...]
    jti: str
    issued_at: datetime
    not_after: datetime
    issuer: str = ""


Draft: TypeAlias = X509Draft | JWTDraft | CADraft
"""What can be recorded and signed."""

DraftT = TypeVar("DraftT", bound=Draft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Generic[DraftT]):
    """A draft that may be signed, and what else the ledger needs to know about it.

    Args:
        entry: the entry whose identity it is; None: not an entry's.
        node_id: the node that it is on, or that it belongs to; None: the issuer's.
    """

    kind: CredentialKind
    draft: DraftT
    entry: RegistrationEntry | None = None
    node_id: NodeID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when a credential is valid.

    Units: not_before and not_after are whole seconds, UTC, as certificates and tokens write them; half-lives count from issued_at.
    """

    issued_at: datetime
    not_before: datetime
    not_after: datetime


def serials(random: bytes, *, at: datetime) -> list[int]:
    """Make a serial number from every SERIAL_BYTES random bytes: positive, of constant length, 80 bits of it random.

    The time in milliseconds comes first. So what is issued later sorts later, and the ledger's index grows at its end, whereas random
    numbers would each touch a different page of it.

    Source: RFC 5280 4.1.2.2, and the CA/Browser Forum's 64 bits
    """
    if len(random) % SERIAL_BYTES:
        raise ValueError(f"random: expected a multiple of {SERIAL_BYTES} bytes, found {len(random)}")
    begin = _TOP_BIT | (int(at.timestamp() * 1000) << 8 * SERIAL_BYTES)
    parts = (random[start : start + SERIAL_BYTES] for start in range(0, len(random), SERIAL_BYTES))
    return [begin | int.from_bytes(part) for part in parts]


def serial_of(public_key: bytes, *, at: datetime) -> int:
    """The one serial number of an authority's certificate for this key: whoever asks again for the certificate asks for the same one.

    It is as random as the key.

    Args:
        public_key: SubjectPublicKeyInfo, DER.
        at: when the authority was intended.
    """
    (serial,) = serials(hashlib.sha256(public_key).digest()[:SERIAL_BYTES], at=at)
    return serial


def serial_to_text(serial: int) -> str:
    """Write a serial number as the ledger does: lower-case hexadecimal."""
    return f"{serial:x}"


def validity(now: datetime, ttl: timedelta, authority: Authority) -> Validity:
    """Back-date the start; end after the TTL, or with the authority if that is sooner.

    Raises:
        Refused: UNAVAILABLE when the authority has expired.
    """
    not_after = min(now + ttl, authority.not_after).replace(microsecond=0)
    if not_after <= now:
        raise Refused(
            Kind.UNAVAILABLE,
            f"validity: expected an end in the future, found {moment_in_words(not_after)}",
            hint="has the authority expired, or is the clock wrong?",
            authority=authority.key_id,
        )
    return Validity(issued_at=now, not_before=(now - BACKDATE).replace(microsecond=0), not_after=not_after)


def entry_validity(
    entry: RegistrationEntry, *, ttl: timedelta, ends_at: datetime | None, now: datetime, authority: Authority
) -> Validity:
    """The validity of an SVID of this entry, which ends no later than the identity.

    Args:
        ttl: the entry's own TTL for this kind of SVID, or the default.
        ends_at: when the entry ends, or what makes it the node's; None: at no known time.

    Raises:
        Refused: DENIED when that is within this second; UNAVAILABLE as for validity.
    """
    if ends_at is not None:
        ttl = min(ttl, ends_at - now)
        if (now + ttl).replace(microsecond=0) <= now:
            raise Refused(Kind.DENIED, "entry: expired", entry=entry.id)
    return validity(now, ttl, authority)


def common_name(draft: X509Draft) -> str:
    """The only name in a leaf's subject, or empty: the first DNS name, for programs that know a peer by that alone (PostgreSQL).

    Source: ADR-0009; RFC 5280 A.1, ub-common-name
    """
    first = draft.dns_names[0] if draft.dns_names else ""
    return first if len(first) <= _MAX_COMMON_NAME else ""


def build_x509(entry: RegistrationEntry, key: bytes, *, serial: int, validity: Validity) -> X509Draft:
    """An entry's X509-SVID: its ID and DNS names, for this key."""
    return X509Draft(
        spiffe_id=entry.spiffe_id,
        serial=serial,
        public_key=key,
        not_before=validity.not_before,
        not_after=validity.not_after,
        dns_names=entry.dns_names,
    )


def build_node_x509(spiffe_id: SpiffeID, key: bytes, *, serial: int, validity: Validity) -> X509Draft:
    """A node's own X509-SVID."""
    return X509Draft(
        spiffe_id=spiffe_id,
        serial=serial,
        public_key=key,
        not_before=validity.not_before,
        not_after=validity.not_after,
    )


def build_issuer_x509(trust_domain: TrustDomain, key: bytes, *, serial: int, validity: Validity) -> X509Draft:
    """The issuer's own X509-SVID, the only one with ISSUER_DNS_NAME."""
    return X509Draft(
        spiffe_id=issuer_id(trust_domain),
        serial=serial,
        public_key=key,
        not_before=validity.not_before,
        not_after=validity.not_after,
        dns_names=(ISSUER_DNS_NAME,),
    )


def build_jwt(
    entry: RegistrationEntry, audiences: tuple[str, ...], *, jti: str, validity: Validity, issuer: str = ""
) -> JWTDraft:
    """An entry's JWT-SVID for these audiences; not back-dated, because it carries no nbf."""
    return JWTDraft(
        spiffe_id=entry.spiffe_id,
        audiences=audiences,
        jti=jti,
        issued_at=validity.issued_at.replace(microsecond=0),
        not_after=validity.not_after,
        issuer=issuer,
    )


def claims_of(draft: JWTDraft) -> dict[str, str | int | list[str]]:
    """The claims of a JWT-SVID, all that it carries.

    Units: seconds since 1970, whole

    Source: JWT-SVID 3; OpenID Connect Core 2 for `iss`, which no SPIFFE validator reads
    """
    claims: dict[str, str | int | list[str]] = {
        "sub": str(draft.spiffe_id),
        "aud": list(draft.audiences),
        "exp": int(draft.not_after.timestamp()),
        "iat": int(draft.issued_at.timestamp()),
        "jti": draft.jti,
    }
    if draft.issuer:
        claims["iss"] = draft.issuer
    return claims


def build_ca(authority: Authority, *, trust_domain: TrustDomain, serial: int) -> CADraft:
    """The signing certificate of an authority whose key exists; its name contains the serial, so that no two are alike.

    If two CA certificates have the same subject, OpenSSL rejects the leaves of the second.
    """
    return CADraft(
        trust_domain=trust_domain,
        serial=serial,
        common_name=f"Cognomen {serial_to_text(serial)}",
        public_key=authority.public_key,
        not_before=authority.not_before,
        not_after=authority.not_after,
    )
