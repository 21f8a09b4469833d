"""What a store begins with that came from a backup: nothing that may have happened since is taken for granted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.auditlog import RESTORED
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import NodeState
from issuer.decisions.authority import Authority, AuthorityState, published, replaced, retired, tainted
from issuer.decisions.crl import SignedCRL, number_at
from issuer.decisions.restoration import SEQUENCE_LEAP, Restored, forgotten, restored_authority, restored_crl
from issuer.decisions.rotation import Circumstances, StepKind, next_step
from issuer.flows.restore_store import RestoreStore
from svid.keys import KeyID
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, a_node, a_token, jwt_authority, x509_authority

DAY = timedelta(days=1)
LATER = NOW + 3 * DAY


async def authority(state: AuthorityState) -> Authority:
    row = (await x509_authority()).authority
    if state is AuthorityState.NEXT:
        return published(replace(row, state=AuthorityState.INTENDED, activated_at=None), change=1, now=NOW)
    return replace(row, state=state)


@pytest.mark.parametrize("state", [AuthorityState.ACTIVE, AuthorityState.OLD, AuthorityState.NEXT])
async def test_whatever_may_have_signed_since_stays_in_the_bundle_until_that_is_over(state: AuthorityState) -> None:
    found = restored_authority(await authority(state), now=LATER)
    assert found.last_not_after == LATER + DAY
    assert found.state is (AuthorityState.OLD if state is AuthorityState.NEXT else state)


async def test_no_authority_signs_for_longer_than_it_lasts() -> None:
    row = await authority(AuthorityState.ACTIVE)
    assert restored_authority(row, now=row.not_after).last_not_after == row.not_after


async def test_what_is_known_to_have_been_signed_for_longer_counts() -> None:
    row = replace(await authority(AuthorityState.OLD), last_not_after=LATER + 2 * DAY)
    assert restored_authority(row, now=LATER).last_not_after == LATER + 2 * DAY


@pytest.mark.parametrize("state", [AuthorityState.INTENDED, AuthorityState.RETIRED])
async def test_what_never_signed_and_what_is_over_is_retired(state: AuthorityState) -> None:
    assert restored_authority(await authority(state), now=LATER).state is AuthorityState.RETIRED


async def test_the_next_step_after_a_restore_is_another_authority() -> None:
    rows = [
        restored_authority(await authority(state), now=LATER) for state in (AuthorityState.ACTIVE, AuthorityState.NEXT)
    ]
    step = next_step(
        [*rows, replaced(jwt_authority().authority)], Circumstances(now=LATER, spread=timedelta(minutes=10))
    )
    assert step is not None
    assert step.kind is StepKind.INTEND


@pytest.mark.parametrize("before", [7, number_at(LATER) + 5])
def test_the_number_of_a_list_leaps_beyond_the_backup_and_beyond_the_clock(before: int) -> None:
    crl = SignedCRL(authority_id=KeyID("x509-1"), number=before, this_update=NOW, der=b"list")
    assert restored_crl(crl, now=LATER) == replace(crl, number=max(before, number_at(LATER)) + SEQUENCE_LEAP)


@pytest.fixture
async def store() -> AsyncIterator[SQLiteDatastore]:
    opened = await SQLiteDatastore.open(None)

    def work(tx: Transaction) -> None:
        tx.nodes.put(a_node("n1"))
        tx.nodes.put(replace(a_node("n2"), state=NodeState.BANNED))
        tx.tokens.put(a_token())
        tx.bundles.advance()

    await opened.write(work)
    yield opened
    await opened.close()


async def test_a_restored_store_is_another_with_no_token_and_no_node_that_is_taken_at_its_word(
    store: SQLiteDatastore,
) -> None:
    before = await store.read(lambda tx: tx.changes.head())
    await RestoreStore(datastore=store, clock=FakeClock(LATER))(actor="uid:0", made_at=NOW)
    head = await store.read(lambda tx: tx.changes.head())
    assert head.incarnation != before.incarnation
    assert await store.read(lambda tx: tx.tokens.get(a_token().hash)) is None
    nodes = await store.read(lambda tx: tx.nodes.find(after="", limit=9))
    assert [(node.state, node.is_unconfirmed) for node in nodes] == [(NodeState.ACTIVE, True), (NodeState.BANNED, True)]
    assert await store.read(lambda tx: tx.bundles.sequence()) == 1 + SEQUENCE_LEAP
    (row,) = await store.read(lambda tx: tx.audit.rows(after=0, limit=9))
    assert f'"action":"{RESTORED}"'.encode() in row.body
    assert f'"incarnation":"{before.incarnation}"'.encode() in row.body
    assert await store.read(lambda tx: tx.changes.restored()) == Restored(at=LATER, backup_of=NOW)


class TestForgotten:
    RESTORED = Restored(at=LATER, backup_of=NOW)

    async def test_what_was_signed_before_a_restore_is_ended_by_serial_and_by_its_authorities(self) -> None:
        one = replace(await authority(AuthorityState.ACTIVE), published_at=NOW)
        two = tainted(replaced(replace(one, key_id=KeyID("x509-2"))), change=1, now=NOW)
        found = forgotten(self.RESTORED, [one, two])
        assert found is not None
        assert found.reason.startswith(f"revocations since the backup of {NOW:%Y-%m-%dT%H:%M:%SZ} are forgotten")
        assert found.remedy == (
            f"cognomen authority taint {one.key_id}",
            f"cognomen revoke issued-before {NOW:%Y-%m-%dT%H:%M:%SZ} --wait",
            f"cognomen authority revoke {one.key_id}",
            "cognomen authority revoke x509-2",
        )

    async def test_its_commands_name_the_backup_to_the_microsecond(self) -> None:
        one = replace(await authority(AuthorityState.ACTIVE), published_at=NOW)
        exact = replace(self.RESTORED, backup_of=NOW + timedelta(microseconds=123_456))
        found = forgotten(exact, [one])
        assert found is not None
        assert f"cognomen revoke issued-before {NOW:%Y-%m-%dT%H:%M:%S}.123456Z --wait" in found.remedy

    async def test_it_is_over_once_no_authority_of_before_is_in_the_bundle(self) -> None:
        one = replace(await authority(AuthorityState.ACTIVE), published_at=NOW)
        new = replace(one, published_at=LATER + timedelta(microseconds=1))
        assert forgotten(self.RESTORED, [one, new]) is not None
        assert forgotten(self.RESTORED, [retired(one), new, replace(new, published_at=None)]) is None

    async def test_a_store_that_came_from_no_backup_has_forgotten_nothing(self, store: SQLiteDatastore) -> None:
        one = replace(await authority(AuthorityState.ACTIVE), published_at=NOW)
        assert forgotten(await store.read(lambda tx: tx.changes.restored()), [one]) is None


async def test_uses_are_recorded_without_a_gap_only_since_the_restore(store: SQLiteDatastore) -> None:
    clock = FakeClock(LATER)
    await RestoreStore(datastore=store, clock=clock)(actor="uid:0", made_at=NOW)
    assert await store.read(lambda tx: tx.uses.since()) == LATER
