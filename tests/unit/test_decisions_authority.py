from datetime import timedelta

import pytest

from cognomen.daemon.errors import Kind, Refused
from issuer.decisions.authority import (
    Authority,
    AuthorityKind,
    AuthorityState,
    StepKind,
    activated,
    active,
    bundle_of,
    intended,
    next_step,
    prepared,
    published,
)
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, jwt_authority, x509_authority

DAYS_14 = timedelta(days=14)


def test_a_new_issuer_comes_to_one_active_and_one_next_of_each_kind() -> None:
    rows: dict[KeyID, Authority] = {}
    steps: list[StepKind] = []
    while (step := next_step(tuple(rows.values()))) is not None:
        steps.append(step.kind)
        assert len(steps) < 20
        if step.authority is None:
            row = intended(step.authority_kind, KeyID(f"k{len(rows)}"), now=NOW, ttl=DAYS_14)
        elif step.kind is StepKind.PREPARE:
            row = prepared(step.authority, public_key=b"key", certificate=b"certificate")
        else:
            row = {StepKind.PUBLISH: published, StepKind.ACTIVATE: activated}[step.kind](step.authority, now=NOW)
        rows[row.key_id] = row
    assert steps == 2 * [
        StepKind.INTEND, StepKind.PREPARE, StepKind.PUBLISH, StepKind.ACTIVATE,
        StepKind.INTEND, StepKind.PREPARE, StepKind.PUBLISH,
    ]  # fmt: skip
    assert sorted((row.kind, row.state) for row in rows.values()) == [
        (AuthorityKind.JWT, AuthorityState.ACTIVE),
        (AuthorityKind.JWT, AuthorityState.NEXT),
        (AuthorityKind.X509, AuthorityState.ACTIVE),
        (AuthorityKind.X509, AuthorityState.NEXT),
    ]


def test_an_authority_begins_a_little_earlier_and_lasts_14_days() -> None:
    row = intended(AuthorityKind.JWT, KeyID("k"), now=NOW + timedelta(microseconds=5), ttl=DAYS_14)
    assert (row.not_before, row.not_after) == (NOW - timedelta(seconds=30), NOW + DAYS_14)


def test_what_happens_to_an_authority_is_dated() -> None:
    row = activated(
        published(intended(AuthorityKind.JWT, KeyID("k"), now=NOW, ttl=DAYS_14), now=NOW),
        now=NOW + timedelta(minutes=1),
    )
    assert (row.state, row.published_at, row.activated_at) == (AuthorityState.ACTIVE, NOW, NOW + timedelta(minutes=1))


async def test_the_active_authority_of_a_kind_signs() -> None:
    x509, jwt = (await x509_authority()).authority, jwt_authority().authority
    assert active([x509, jwt], AuthorityKind.JWT) == jwt
    with pytest.raises(Refused, match="x509 authority: none is active yet") as refused:
        active([jwt], AuthorityKind.X509)
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_the_bundle_holds_what_is_published_and_not_retired() -> None:
    x509, jwt = await x509_authority(), jwt_authority()
    waiting = intended(AuthorityKind.JWT, KeyID("waiting"), now=NOW, ttl=DAYS_14)
    bundle = bundle_of(TRUST_DOMAIN, [x509.authority, jwt.authority, waiting], sequence=3)
    assert bundle.x509_authorities == (x509.certificate,)
    assert dict(bundle.jwt_authorities) == {"jwt-1": jwt.key.public_key}
    assert bundle.sequence == 3
