"""The one way to a signature: what is on record is signed once, by its own authority, and the ledger says what became of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions import profile
from issuer.decisions.ledger import CredentialKind, CredentialState
from issuer.decisions.profile import CADraft, Draft, Intent, JWTDraft, X509Draft
from issuer.issuance import Issuance
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keymanager.memory import MemoryKeyManager
from issuer.recording import Recorded, record, record_again
from issuer.signing import X509Signer
from issuer.upstream.port import SignedCA
from issuer.upstream.self_signed import SelfSigned
from svid.keys import KeyKind, LocalSigningKey, SigningKey, generate_private_key, public_key_to_der
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, Signing, an_entry, jwt_authority, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.upstream import WithIntermediate

DraftT = TypeVar("DraftT", bound=Draft)
KEY = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())


@dataclass(frozen=True, kw_only=True)
class House:
    """A store with two authorities, and the way to their signatures."""

    store: SQLiteDatastore
    deferred: DeferredWrites
    x509: Signing
    jwt: Signing
    issuance: Issuance
    keyless: Issuance

    async def record(self, kind: CredentialKind, by: Signing, *drafts: DraftT) -> list[Recorded[DraftT]]:
        intents = [Intent(kind=kind, draft=draft) for draft in drafts]
        return await self.store.write(
            lambda tx: record(tx, intents, by.authority, trust_domain=TRUST_DOMAIN, now=NOW, actor="test")
        )

    async def state(self, recorded: Recorded[DraftT]) -> CredentialState:
        """What the ledger says once everything is written."""
        await self.deferred.flush()
        row = await self.store.read(lambda tx: tx.ledger.get(recorded.credential.serial))
        assert row is not None
        return row.state


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, x509, jwt = await SQLiteDatastore.open(None), FakeClock(NOW), await x509_authority(), jwt_authority()
    deferred = DeferredWrites(datastore=store, around=around(clock))
    yield House(
        store=store,
        deferred=deferred,
        x509=x509,
        jwt=jwt,
        issuance=issuance(store, clock, GivenKeys(x509.key, jwt.key), deferred=deferred),
        keyless=issuance(store, clock, MemoryKeyManager(), deferred=deferred),
    )
    await store.close()


def x509_draft(by: Signing, number: int = 1) -> X509Draft:
    validity = profile.validity(NOW, timedelta(hours=1), by.authority)
    return profile.build_x509(an_entry(), KEY, serial=2**127 + number, validity=validity)


def jwt_draft(by: Signing) -> JWTDraft:
    validity = profile.validity(NOW, timedelta(minutes=5), by.authority)
    return profile.build_jwt(an_entry(), ("db",), jti="j", validity=validity)


def ca_draft(by: Signing) -> CADraft:
    return profile.build_ca(by.authority, trust_domain=TRUST_DOMAIN, serial=2**127)


async def test_what_was_released_is_issued(house: House) -> None:
    leaves = await house.record(CredentialKind.X509, house.x509, x509_draft(house.x509, 1), x509_draft(house.x509, 2))
    (token,) = await house.record(CredentialKind.JWT, house.jwt, jwt_draft(house.jwt))
    (ca,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    assert len(await house.issuance.release_x509(leaves)) == 2
    assert len(await house.issuance.release_jwt([token])) == 1
    assert (await house.issuance.release_ca(ca, house.x509.key)).chain
    assert [await house.state(one) for one in leaves] == [CredentialState.ISSUED] * 2
    assert await house.state(token) is CredentialState.ISSUED
    assert await house.state(ca) is CredentialState.ISSUED


async def test_a_leaf_leaves_with_the_chain_of_its_authority(house: House) -> None:
    below = await x509_authority(key_id="x509-2", upstream=WithIntermediate())
    way = issuance(house.store, FakeClock(NOW), GivenKeys(below.key), deferred=house.deferred)
    for by, release in ((house.x509, house.issuance), (below, way)):
        (recorded,) = await house.record(CredentialKind.X509, by, x509_draft(by, len(by.authority.chain)))
        ((_, *chain),) = await release.release_x509([recorded])
        assert tuple(chain) == by.authority.chain


@pytest.mark.parametrize("kind", [CredentialKind.X509, CredentialKind.NODE, CredentialKind.ISSUER])
async def test_what_lint_refuses_is_failed_whatever_it_is(house: House, kind: CredentialKind) -> None:
    draft = x509_draft(house.x509)
    (recorded,) = await house.record(kind, house.x509, draft)
    object.__setattr__(draft, "not_after", NOW + timedelta(minutes=30, microseconds=1))
    with pytest.raises(Refused, match="lint: "):
        await house.issuance.release_x509([recorded])
    assert await house.state(recorded) is CredentialState.FAILED


async def test_an_authority_that_nobody_certifies_is_failed(house: House) -> None:
    (recorded,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    with pytest.raises(Refused, match="expected a draft that jwt-1 has not signed yet, found one of x509-1"):
        await house.issuance.release_ca(recorded, house.jwt.key)
    assert await house.state(recorded) is CredentialState.FAILED


class Erring(SelfSigned):
    """Certifies a key of its own choosing."""

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        other = LocalSigningKey(key.id, generate_private_key(KeyKind.EC_P256))
        return await super().sign_ca(draft, other)


async def test_what_an_upstream_authority_did_not_sign_as_drafted_is_failed(house: House) -> None:
    (recorded,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    with pytest.raises(Refused, match="lint: public key: not the authority's"):
        await replace(house.issuance, upstream=Erring()).release_ca(recorded, house.x509.key)
    assert await house.state(recorded) is CredentialState.FAILED


class Failing(SelfSigned):
    """Raises what its code did not expect, or answers nonsense."""

    def __init__(self, raises: BaseException | None) -> None:
        self.raises = raises

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        del draft, key
        if self.raises is not None:
            raise self.raises
        return None  # type: ignore[return-value]  # as a plugin without types may


@pytest.mark.parametrize(
    ("raises", "detail"),
    [
        (ConnectionError("secret"), "upstream authority Failing failed: ConnectionError"),
        (SystemExit(1), "upstream authority Failing failed: SystemExit"),
        (TimeoutError(), "upstream authority Failing failed: TimeoutError"),
        (None, "upstream authority Failing: expected a SignedCA, found NoneType"),
    ],
)
async def test_an_upstream_authority_that_fails_is_named_and_may_be_asked_again(
    house: House, raises: BaseException | None, detail: str
) -> None:
    (recorded,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    with pytest.raises(Refused) as refused:
        await replace(house.issuance, upstream=Failing(raises)).release_ca(recorded, house.x509.key)
    assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, detail)
    assert await house.state(recorded) is CredentialState.FAILED


async def test_what_failed_is_taken_up_again_on_the_same_record(house: House) -> None:
    (recorded,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    with pytest.raises(Refused):
        await replace(house.issuance, upstream=Failing(OSError())).release_ca(recorded, house.x509.key)
    assert await house.state(recorded) is CredentialState.FAILED
    intent = Intent(kind=CredentialKind.AUTHORITY, draft=ca_draft(house.x509))
    before = await house.store.read(lambda tx: tx.audit.head())
    again = await house.store.write(
        lambda tx: record_again(tx, intent, house.x509.authority, trust_domain=TRUST_DOMAIN, now=NOW)
    )
    assert again is not None
    assert await house.state(again) is CredentialState.INTENDED
    assert (await house.issuance.release_ca(again, house.x509.key)).chain
    assert await house.state(again) is CredentialState.ISSUED
    assert await house.store.read(lambda tx: tx.audit.head()) == before


async def test_only_the_same_draft_is_taken_up_again(house: House) -> None:
    other = await x509_authority(key_id="x509-2")

    def take_up(by: Signing) -> Callable[[Transaction], object]:
        intent = Intent(kind=CredentialKind.AUTHORITY, draft=ca_draft(by))
        return lambda tx: record_again(tx, intent, by.authority, trust_domain=TRUST_DOMAIN, now=NOW)

    assert await house.store.write(take_up(house.x509)) is None
    await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    with pytest.raises(Refused, match="expected the draft that is on record, found another"):
        await house.store.write(take_up(other))


class Silent(SelfSigned):
    """Never answers."""

    async def sign_ca(self, draft: CADraft, key: SigningKey) -> SignedCA:
        await asyncio.Event().wait()
        return await super().sign_ca(draft, key)


async def test_an_upstream_authority_that_does_not_answer_is_waited_for_no_longer_than_that(house: House) -> None:
    (recorded,) = await house.record(CredentialKind.AUTHORITY, house.x509, ca_draft(house.x509))
    waiting = replace(house.issuance, upstream=Silent(), upstream_seconds=0.01)
    with pytest.raises(Refused, match=r"upstream authority Silent: no answer within 0\.01 s") as refused:
        await waiting.release_ca(recorded, house.x509.key)
    assert refused.value.kind is Kind.UNAVAILABLE
    assert await house.state(recorded) is CredentialState.FAILED


async def test_a_missing_key_is_unavailable_says_what_to_do_and_fails_what_it_was_to_sign(house: House) -> None:
    (leaf,) = await house.record(CredentialKind.X509, house.x509, x509_draft(house.x509))
    (token,) = await house.record(CredentialKind.JWT, house.jwt, jwt_draft(house.jwt))
    for releasing in (house.keyless.release_x509([leaf]), house.keyless.release_jwt([token])):
        with pytest.raises(Refused) as refused:
            await releasing
        assert refused.value.kind is Kind.UNAVAILABLE
        assert refused.value.hint
    assert await house.state(leaf) is CredentialState.FAILED
    assert await house.state(token) is CredentialState.FAILED


async def test_nothing_recorded_needs_no_key(house: House) -> None:
    assert not await house.keyless.release_x509([])
    assert not await house.keyless.release_jwt([])


async def test_a_draft_is_signed_once_and_by_its_own_authority_alone(house: House) -> None:
    other = await x509_authority(key_id="x509-2")
    (recorded,) = await house.record(CredentialKind.X509, house.x509, x509_draft(house.x509))
    with pytest.raises(Refused, match="expected a draft that x509-2 has not signed yet, found one of x509-1"):
        X509Signer(other.key, other.certificate).sign(recorded)
    signer = X509Signer(house.x509.key, house.x509.certificate)
    assert signer.sign(recorded)
    with pytest.raises(Refused, match="expected a draft that x509-1 has not signed yet, found one that was"):
        signer.sign(recorded)


async def test_what_is_not_recorded_cannot_be_signed(house: House) -> None:
    (recorded,) = await house.record(CredentialKind.X509, house.x509, x509_draft(house.x509))
    with pytest.raises(TypeError, match=r"only record\(\) may make one"):
        Recorded(object(), x509_draft(house.x509), house.x509.authority, "1", credential=recorded.credential)


async def test_a_draft_that_must_not_be_is_not_recorded_and_neither_is_its_batch(house: House) -> None:
    bad = replace(x509_draft(house.x509, 2), dns_names=(profile.ISSUER_DNS_NAME,))
    with pytest.raises(Refused, match="lint: dns_names"):
        await house.record(CredentialKind.X509, house.x509, x509_draft(house.x509, 1), bad)
    assert await house.store.read(lambda tx: tx.ledger.get(profile.serial_to_text(2**127 + 1))) is None
    assert await house.store.read(lambda tx: tx.audit.head()) == (0, bytes(32))
