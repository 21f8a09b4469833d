"""Who may return: each refusal by itself, on a certificate that a real authority signed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.readmission import readmission_bytes
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.authority import replaced, tainted
from issuer.decisions.certificate import LeafForm
from issuer.decisions.profile import X509Draft, serial_to_text
from issuer.decisions.readmission import Claim, check_certified, check_claim, check_return, parse_claim, returns_until
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der, thumbprint
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, a_node, x509_authority

SERIAL = 0xAA
END = NOW + timedelta(hours=1)
WINDOW = timedelta(days=5)
NONCE = b"n" * 56
OLD = LocalSigningKey(KeyID("old"), generate_private_key(KeyKind.EC_P256))
NEXT = generate_private_key(KeyKind.EC_P256).public_key()
WEB = SpiffeID(trust_domain=TRUST_DOMAIN, path="/web")
STRANGERS = TrustDomain("other.org")


def certified(draft: X509Draft, by: Signing) -> bytes:
    """Sign what we would never put on record."""
    identifier = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    form = LeafForm(by.key.kind, issuer=by.certificate.subject, authority_ski=identifier.digest)
    to_be_signed = form.to_be_signed(draft)
    return form.signed(to_be_signed, by.key.sign(to_be_signed))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a node shows, for tests to bend."""

    by: Signing
    key: LocalSigningKey = OLD
    signed_by: LocalSigningKey = OLD
    spiffe_id: SpiffeID = a_node().spiffe_id
    signs: bytes = readmission_bytes(TRUST_DOMAIN, NONCE, public_key_to_der(NEXT))

    def claim(self) -> Claim:
        draft = X509Draft(
            spiffe_id=self.spiffe_id,
            serial=SERIAL,
            public_key=public_key_to_der(self.key.public_key),
            not_before=NOW,
            not_after=END,
        )
        der = certified(draft, self.by)
        return parse_claim(der, nonce=NONCE, public_key=NEXT, signature=self.signed_by.sign(self.signs))


@pytest.fixture
async def ours() -> Signing:
    return await x509_authority()


async def test_a_leaf_that_names_us_and_an_algorithm_of_nobody_is_refused(ours: Signing) -> None:
    der = Shown(by=ours).claim().leaf.public_bytes(Encoding.DER)
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    assert der.count(ecdsa_with_sha256) == 2
    bent = der.replace(ecdsa_with_sha256, bytes.fromhex("06082a8648ce3d04037f"))
    claim = parse_claim(bent, nonce=NONCE, public_key=NEXT, signature=b"s")
    with pytest.raises(Refused, match="none of our authorities signed it") as refused:
        check_claim(claim, [ours.authority], TRUST_DOMAIN)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_a_certificate_of_a_version_that_nobody_knows_is_refused_as_what_it_is(ours: Signing) -> None:
    der = Shown(by=ours).claim().leaf.public_bytes(Encoding.DER)
    bent = der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020158"), 1)
    with pytest.raises(Refused, match="certificate: expected the leaf of a node SVID") as refused:
        parse_claim(bent, nonce=NONCE, public_key=NEXT, signature=b"s")
    assert refused.value.kind is Kind.INVALID


async def test_the_key_of_an_svid_of_ours_proves_the_claim(ours: Signing) -> None:
    another = await x509_authority(key_id="x509-2")
    check_claim(Shown(by=ours).claim(), [another.authority, ours.authority], TRUST_DOMAIN)


async def test_a_node_with_a_key_on_the_longer_curve_proves_it_too(ours: Signing) -> None:
    key = LocalSigningKey(KeyID("p384"), generate_private_key(KeyKind.EC_P384))
    check_claim(Shown(by=ours, key=key, signed_by=key).claim(), [ours.authority], TRUST_DOMAIN)


async def test_a_certificate_by_a_thief_of_an_authoritys_key_is_refused(ours: Signing) -> None:
    claim = Shown(by=ours).claim()
    signer = check_claim(claim, [ours.authority], TRUST_DOMAIN)
    check_certified(claim, signer, key_hash=thumbprint(public_key_to_der(OLD.public_key)))
    with pytest.raises(Refused, match="not recorded in the ledger for its key") as refused:
        check_certified(claim, signer, key_hash=thumbprint(public_key_to_der(NEXT)))
    assert refused.value.kind is Kind.DENIED


async def test_what_the_ledger_does_not_know_is_refused_where_its_authority_is_tainted(ours: Signing) -> None:
    claim = Shown(by=ours).claim()
    check_certified(claim, ours.authority, key_hash=None)
    with pytest.raises(Refused, match="not recorded in the ledger for its key"):
        check_certified(claim, tainted(replaced(ours.authority), change=1, now=NOW), key_hash=None)


Bend = Callable[[Shown], Shown]


def by_another_key(shown: Shown) -> Shown:
    return replace(shown, signed_by=LocalSigningKey(KeyID("thief"), generate_private_key(KeyKind.EC_P256)))


def by_a_key_of_another_kind(shown: Shown) -> Shown:
    return replace(shown, signed_by=LocalSigningKey(KeyID("thief"), generate_private_key(KeyKind.RSA_2048)))


def over_another_nonce(shown: Shown) -> Shown:
    return replace(shown, signs=readmission_bytes(TRUST_DOMAIN, b"m" * 56, public_key_to_der(NEXT)))


def over_another_next_key(shown: Shown) -> Shown:
    return replace(shown, signs=readmission_bytes(TRUST_DOMAIN, NONCE, public_key_to_der(OLD.public_key)))


def over_another_trust_domain(shown: Shown) -> Shown:
    return replace(shown, signs=readmission_bytes(STRANGERS, NONCE, public_key_to_der(NEXT)))


@pytest.mark.parametrize(
    "bend",
    [
        by_another_key,
        by_a_key_of_another_kind,
        over_another_nonce,
        over_another_next_key,
        over_another_trust_domain,
    ],
)
async def test_a_signature_that_is_not_this_keys_over_this_return_is_refused(ours: Signing, bend: Bend) -> None:
    with pytest.raises(Refused, match="signature: invalid, expected one by the key of the certificate") as refused:
        check_claim(bend(Shown(by=ours)).claim(), [ours.authority], TRUST_DOMAIN)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_a_certificate_that_names_our_authority_and_is_anothers_is_refused(ours: Signing) -> None:
    lookalike = await x509_authority()  # of the same name, by another key
    claim = Shown(by=lookalike).claim()
    assert claim.leaf.issuer == ours.certificate.subject
    with pytest.raises(Refused, match="none of our authorities signed it") as refused:
        check_claim(claim, [ours.authority, replace(ours.authority, certificate=b"")], TRUST_DOMAIN)
    assert refused.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("spiffe_id", [WEB, replace(a_node().spiffe_id, trust_domain=STRANGERS)], ids=str)
async def test_a_certificate_that_is_no_nodes_of_ours_is_refused(ours: Signing, spiffe_id: SpiffeID) -> None:
    with pytest.raises(Refused, match=r"not that of a node of example\.org") as refused:
        check_claim(Shown(by=ours, spiffe_id=spiffe_id).claim(), [ours.authority], TRUST_DOMAIN)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_a_certificate_for_a_key_that_we_do_not_certify_is_refused(ours: Signing) -> None:
    key = LocalSigningKey(KeyID("rsa"), generate_private_key(KeyKind.RSA_2048))
    with pytest.raises(Refused, match="expected an EC key") as refused:
        check_claim(Shown(by=ours, key=key, signed_by=key).claim(), [ours.authority], TRUST_DOMAIN)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_an_authoritys_own_certificate_is_no_claim(ours: Signing) -> None:
    with pytest.raises(Refused, match="expected the leaf of a node SVID") as refused:
        parse_claim(ours.authority.certificate, nonce=NONCE, public_key=NEXT, signature=b"s")
    assert refused.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("certificate", "signature", "reason"),
    [
        (b"", b"s", "certificate: expected 1 to 8192 bytes, found 0"),
        (bytes(8193), b"s", "certificate: expected 1 to 8192 bytes, found 8193"),
        (b"c", b"", "signature: expected 1 to 256 bytes, found 0"),
        (b"c", bytes(257), "signature: expected 1 to 256 bytes, found 257"),
        (b"c", b"s", "certificate: expected the leaf of a node SVID"),
    ],
)
def test_what_is_no_claim_by_its_form_is_refused(certificate: bytes, signature: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        parse_claim(certificate, nonce=NONCE, public_key=NEXT, signature=signature)
    assert refused.value.kind is Kind.INVALID


CURRENT = replace(a_node(), current_serial=serial_to_text(SERIAL), pending_serial="bb")
PENDING = replace(a_node(), current_serial="bb", pending_serial=serial_to_text(SERIAL))
OLDER = replace(a_node(), current_serial="bb", pending_serial="cc")


@pytest.mark.parametrize(
    "late", [timedelta(), timedelta(hours=1), timedelta(hours=1) + WINDOW - timedelta(microseconds=1)]
)
async def test_a_node_returns_by_its_current_svid_to_the_last_moment_of_the_window(
    ours: Signing, late: timedelta
) -> None:
    claim = Shown(by=ours).claim()
    assert check_return(claim, CURRENT, is_recorded=True, window=WINDOW, now=NOW + late) == CURRENT


async def test_an_svid_of_a_slow_clock_does_not_shorten_the_window(ours: Signing) -> None:
    node = replace(CURRENT, svid_not_after=END + timedelta(days=8))
    claim = Shown(by=ours).claim()
    assert check_return(claim, node, is_recorded=True, window=WINDOW, now=NOW + timedelta(days=8)) == node


async def test_a_node_returns_by_its_pending_svid_which_is_current_by_that(ours: Signing) -> None:
    node = check_return(Shown(by=ours).claim(), PENDING, is_recorded=True, window=WINDOW, now=NOW)
    assert (node.current_serial, node.pending_serial) == (serial_to_text(SERIAL), "")


async def test_after_a_restore_an_svid_that_the_ledger_does_not_know_is_taken_once(ours: Signing) -> None:
    claim = Shown(by=ours).claim()
    node = check_return(claim, replace(OLDER, is_unconfirmed=True), is_recorded=False, window=WINDOW, now=NOW)
    assert (node.current_serial, node.pending_serial, node.is_unconfirmed) == (serial_to_text(SERIAL), "", False)


@dataclass(frozen=True, kw_only=True)
class Denied:
    """A return that is proved and denied all the same."""

    reason: str
    node: Node | None = CURRENT
    is_recorded: bool = True
    window: timedelta = WINDOW
    late: timedelta = timedelta()


@pytest.mark.parametrize(
    "row",
    [
        Denied(node=None, reason="this issuer does not know"),
        Denied(node=a_node("n2"), reason="this issuer does not know"),
        Denied(node=replace(CURRENT, state=NodeState.BANNED), reason="banned"),
        Denied(node=OLDER, reason="suspected clone"),
        Denied(node=OLDER, is_recorded=False, reason="suspected clone"),
        Denied(node=replace(OLDER, is_unconfirmed=True), reason="suspected clone"),
        Denied(window=timedelta(), reason="return: disabled"),
        Denied(late=timedelta(hours=1) + WINDOW, reason="return: too late, it was possible until"),
    ],
)
async def test_every_other_return_is_denied_for_its_own_reason(ours: Signing, row: Denied) -> None:
    claim = Shown(by=ours).claim()
    with pytest.raises(Refused, match=row.reason) as refused:
        check_return(claim, row.node, is_recorded=row.is_recorded, window=row.window, now=NOW + row.late)
    assert refused.value.kind is Kind.DENIED


def test_how_long_a_node_can_be_expected_back() -> None:
    assert returns_until(a_node(), window=WINDOW) == a_node().svid_not_after + WINDOW
    assert returns_until(a_node(), window=timedelta()) is None
    assert returns_until(replace(a_node(), state=NodeState.BANNED), window=WINDOW) is None


async def test_a_certificate_of_an_authority_that_is_over_still_proves_the_claim(ours: Signing) -> None:
    over = replace(ours.authority, not_after=NOW - timedelta(days=1))
    check_claim(Shown(by=ours).claim(), [over], TRUST_DOMAIN)


NAMES = st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True).map(TrustDomain)
REQUESTS = st.tuples(NAMES, st.binary(max_size=64), st.binary(max_size=64))


@given(REQUESTS, REQUESTS)
def test_two_returns_sign_the_same_bytes_only_when_they_are_the_same(
    one: tuple[TrustDomain, bytes, bytes], other: tuple[TrustDomain, bytes, bytes]
) -> None:
    assert (readmission_bytes(*one) == readmission_bytes(*other)) == (one == other)


@given(REQUESTS)
def test_what_is_signed_can_be_cut_into_its_parts_in_one_way(wanted: tuple[TrustDomain, bytes, bytes]) -> None:
    rest, parts = readmission_bytes(*wanted), []
    while rest:
        size = int.from_bytes(rest[:4])
        parts.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    assert parts[:3] == [b"cognomen readmission 1", wanted[0].name.encode(), wanted[1]]
    assert len(parts) == 4
    assert len(parts[3]) == 32
