"""Values that are right, for tests of the issuer to bend: entries, nodes, tokens, authorities."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.names import NodeID, node_spiffe_id
from cognomen.protocol.selector import Selector
from issuer.decisions import authority as authorities
from issuer.decisions.admission import Node, Token
from issuer.decisions.authority import Authority, AuthorityKind
from issuer.decisions.profile import build_ca
from issuer.upstream.port import UpstreamAuthority
from issuer.upstream.self_signed import SelfSigned
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "NOW",
    "TRUST_DOMAIN",
    "Signing",
    "a_node",
    "a_token",
    "an_entry",
    "jwt_authority",
    "selectors",
    "x509_authority",
]

TRUST_DOMAIN = TrustDomain("example.org")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, texts))


def an_entry(
    path: str = "/web", *, entry_id: str = "", parent: str = "/cognomen/node/join_token/n1", of: str = "unix:uid:1000"
) -> RegistrationEntry:
    """An entry; `of` holds its selectors, separated by blanks."""
    return RegistrationEntry(
        id=EntryID(entry_id),
        spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path=path),
        parent_id=SpiffeID(trust_domain=TRUST_DOMAIN, path=parent),
        selectors=selectors(*of.split()),
    )


def a_node(name: str = "n1", *, of: str = "join_token:label:team:travel") -> Node:
    return Node(
        id=NodeID(name),
        spiffe_id=node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID(name)),
        attestor="join_token",
        selectors=selectors(*of.split()),
        attested_at=NOW,
        svid_not_after=NOW + timedelta(hours=1),
        current_serial="aa",
    )


def a_token(*, labels: Mapping[str, str] | None = None, key_hash: str = "") -> Token:
    return Token(
        hash="11" * 32,
        node_id=NodeID("n1"),
        labels=labels or {},
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
        key_hash=key_hash,
        used_at=NOW if key_hash else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """An active authority and its key."""

    authority: Authority
    key: LocalSigningKey

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.authority.certificate)


async def x509_authority(
    *,
    kind: KeyKind = KeyKind.EC_P256,
    key_id: str = "x509-1",
    now: datetime = NOW,
    upstream: UpstreamAuthority | None = None,
) -> Signing:
    key = LocalSigningKey(KeyID(key_id), generate_private_key(kind))
    row = authorities.intended(AuthorityKind.X509, key.id, now=now, ttl=timedelta(days=14))
    signed = await (upstream or SelfSigned()).sign_ca(build_ca(row, trust_domain=TRUST_DOMAIN, serial=2**127), key)
    chain, roots = ([one.public_bytes(Encoding.DER) for one in some] for some in (signed.chain, signed.roots))
    row = authorities.prepared(row, public_key=public_key_to_der(key.public_key), chain=chain, roots=roots)
    return Signing(authority=_active(row, now), key=key)


def jwt_authority(*, kind: KeyKind = KeyKind.EC_P256, key_id: str = "jwt-1", now: datetime = NOW) -> Signing:
    key = LocalSigningKey(KeyID(key_id), generate_private_key(kind))
    row = authorities.intended(AuthorityKind.JWT, key.id, now=now, ttl=timedelta(days=14))
    row = authorities.prepared(row, public_key=public_key_to_der(key.public_key))
    return Signing(authority=_active(row, now), key=key)


def _active(row: Authority, now: datetime) -> Authority:
    return authorities.activated(authorities.published(row, change=1, now=now), now=now)
