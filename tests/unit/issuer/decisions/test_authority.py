from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import SubjectKeyIdentifier, load_der_x509_certificate

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.authority import (
    AuthorityKind,
    AuthorityState,
    activated,
    active,
    bundle_of,
    intended,
    lifetime_of,
    prepared,
    published,
    replaced,
    retired,
    tainted,
    tainted_ids,
)
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, jwt_authority, x509_authority
from tests.doubles.upstream import WithIntermediate

DAYS_14 = timedelta(days=14)


def test_an_authority_begins_a_little_earlier_and_lasts_14_days() -> None:
    row = intended(AuthorityKind.JWT, KeyID("k"), now=NOW + timedelta(microseconds=5), ttl=DAYS_14)
    assert (row.not_before, row.not_after) == (NOW - timedelta(seconds=30), NOW + DAYS_14)


def test_what_happens_to_an_authority_is_dated() -> None:
    row = activated(
        published(intended(AuthorityKind.JWT, KeyID("k"), now=NOW, ttl=DAYS_14), change=7, now=NOW),
        now=NOW + timedelta(minutes=1),
    )
    assert (row.state, row.published_at, row.activated_at) == (AuthorityState.ACTIVE, NOW, NOW + timedelta(minutes=1))
    assert (row.published_change, row.activate_at) == (7, NOW + timedelta(days=6))
    assert lifetime_of(row) == DAYS_14


async def test_the_active_authority_of_a_kind_signs() -> None:
    x509, jwt = (await x509_authority()).authority, jwt_authority().authority
    assert active([x509, jwt], AuthorityKind.JWT, now=NOW) == jwt
    with pytest.raises(Refused, match="x509 authority: none is active and valid") as refused:
        active([jwt], AuthorityKind.X509, now=NOW)
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_the_tainted_ones_in_the_bundle_are_named_as_their_svids_name_them() -> None:
    x509, jwt = await x509_authority(), jwt_authority()
    rows = [x509.authority, jwt.authority]
    assert tainted_ids(rows) == ()
    bad = [tainted(replaced(row), change=7, now=NOW) for row in rows]
    identifier = SubjectKeyIdentifier.from_public_key(x509.certificate.public_key()).digest.hex()
    assert tainted_ids(bad) == (identifier, "jwt-1")
    assert tainted_ids(map(retired, bad)) == ()


async def test_the_bundle_holds_what_is_published_and_not_retired() -> None:
    x509, jwt = await x509_authority(), jwt_authority()
    waiting = intended(AuthorityKind.JWT, KeyID("waiting"), now=NOW, ttl=DAYS_14)
    bundle = bundle_of(TRUST_DOMAIN, [x509.authority, jwt.authority, waiting], sequence=3)
    assert bundle.x509_authorities == (x509.certificate,)
    assert dict(bundle.jwt_authorities) == {"jwt-1": jwt.key.public_key}
    assert bundle.sequence == 3


async def test_the_bundle_holds_the_root_of_an_authority_below_one_and_each_root_once() -> None:
    upstream = WithIntermediate()
    one, two = [(await x509_authority(key_id=key_id, upstream=upstream)).authority for key_id in ("x509-1", "x509-2")]
    own = (await x509_authority(key_id="x509-3")).authority
    bundle = bundle_of(TRUST_DOMAIN, [one, own, two], sequence=3)
    assert bundle.x509_authorities == (upstream.root, load_der_x509_certificate(own.certificate))
    assert bundle_of(TRUST_DOMAIN, [retired(one), two], sequence=4).x509_authorities == (upstream.root,)
    assert bundle_of(TRUST_DOMAIN, [retired(one), retired(two)], sequence=5).x509_authorities == ()


async def test_what_leads_from_an_authority_to_below_its_root_leaves_with_each_leaf() -> None:
    upstream = WithIntermediate()
    below, own = (await x509_authority(upstream=upstream)).authority, (await x509_authority()).authority
    first, second = map(load_der_x509_certificate, below.chain)
    assert below.chain[0] == below.certificate
    first.verify_directly_issued_by(second)
    assert upstream.root is not None
    second.verify_directly_issued_by(upstream.root)
    assert (below.is_root, own.is_root, own.chain) == (False, True, ())


async def test_a_root_that_comes_along_in_the_chain_leaves_with_no_leaf() -> None:
    upstream = WithIntermediate()
    row = (await x509_authority(upstream=upstream)).authority
    assert upstream.root is not None
    root = upstream.root.public_bytes(Encoding.DER)
    before = replace(row, state=AuthorityState.INTENDED)
    again = prepared(before, public_key=row.public_key, chain=[row.certificate, *row.above, root], roots=[root])
    assert again == before
