from datetime import timedelta

import pytest
from cryptography.x509 import SubjectKeyIdentifier

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.authority import (
    AuthorityKind,
    AuthorityState,
    activated,
    active,
    bundle_of,
    intended,
    lifetime_of,
    published,
    retired,
    tainted,
    tainted_ids,
)
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, jwt_authority, x509_authority

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
    bad = [tainted(row, change=7, now=NOW) for row in rows]
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
