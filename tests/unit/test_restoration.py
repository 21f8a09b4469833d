"""What a store begins with that came from a backup: nothing that may have happened since is taken for granted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.daemon.auditlog import RESTORED
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import NodeState
from issuer.decisions.authority import Authority, AuthorityState, published, replaced
from issuer.decisions.restoration import SEQUENCE_LEAP, restored_authority
from issuer.decisions.rotation import Circumstances, StepKind, next_step
from issuer.flows.restore_store import RestoreStore
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, a_node, a_token, jwt_authority, x509_authority

DAY = timedelta(days=1)
LATER = NOW + 3 * DAY


async def authority(state: AuthorityState) -> Authority:
    row = (await x509_authority()).authority
    if state is AuthorityState.NEXT:
        return replace(published(row, change=1, now=NOW), activated_at=None)
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
