"""What updates of entries take away, on a store in memory or a file: replaced first, ended then, at once where nothing replaces it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.budget import Allowance
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential
from issuer.decisions.revocation import Reason, Revocation, RevocationKind
from issuer.flows.change_entries import Batch, Changed, ChangeEntries, How
from issuer.flows.issue_svids import Issued, IssueSVIDs, JWTRequest, X509Request
from issuer.flows.supersede import EndSuperseded
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry, jwt_authority, selectors, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import pass_until, until

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
N1, N2 = a_node("n1"), a_node("n2")
GROUP = an_entry("/group", entry_id="group", parent="/cognomen/issuer", of="join_token:label:team:travel")
OTHERS = an_entry("/others", entry_id="others", parent="/cognomen/issuer", of="join_token:label:team:db")
WEB = replace(an_entry("/web", entry_id="web", of="unix:uid:1 unix:gid:1"), dns_names=("a.example", "b.example"))
SHARED = an_entry("/shared", entry_id="shared", of="unix:uid:2", parent="/group")


def path(name: str) -> SpiffeID:
    return SpiffeID(trust_domain=TRUST_DOMAIN, path=name)


@dataclass(frozen=True, kw_only=True)
class House:
    """An issuer with two nodes of one group: /web on n1, /shared on both."""

    clock: FakeClock
    store: RefusingStore
    troubles: Troubles
    deferred: DeferredWrites
    svids: IssueSVIDs
    entries: ChangeEntries

    @property
    def end(self) -> EndSuperseded:
        """The task, as after a start: what it goes by is in the store."""
        return EndSuperseded(
            datastore=self.store,
            around=around(self.clock, troubles=self.troubles),
            watch=EnforcementWatch(around=around(self.clock)),
        )

    async def leaf(self, entry: RegistrationEntry, node: Node = N1) -> Credential:
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        (answer,) = await self.svids.x509(node, [X509Request(entry_id=entry.id, public_key=key)])
        assert isinstance(answer, Issued)
        await self.deferred.flush()
        return answer.credential

    async def token(self, entry: RegistrationEntry, node: Node = N1) -> Credential:
        (answer,) = await self.svids.jwt(node, [JWTRequest(entry_id=entry.id, audiences=("db",))])
        assert isinstance(answer, Issued)
        return answer.credential

    async def update(self, entry: RegistrationEntry, *, let_expire: bool = False) -> Changed:
        return await self.entries.update([replace(entry, revision=0)], how=How(let_expire=let_expire), actor="uid:7")

    async def ended(self) -> set[str]:
        where = LedgerFilter(is_revoked=True)
        rows, denials = await self.store.read(
            lambda tx: (tx.ledger.find(where, before=0, limit=1000), list(tx.denials.all()))
        )
        assert {f"{denial.number:x}" for denial in denials} == {row.serial for row in rows}
        return {row.serial for row in rows}

    async def said(self) -> list[Revocation]:
        return list(await self.store.read(lambda tx: tx.revocations.find(before=0, limit=100)))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    opened, clock, metrics = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db"), FakeClock(NOW), Metrics()
    store = RefusingStore(opened)
    x509, jwt = await x509_authority(), jwt_authority()
    for row in (x509.authority, jwt.authority):
        await store.write(lambda tx, row=row: tx.authorities.put(row))  # type: ignore[misc]  # bound at once
    for node in (N1, N2):
        await store.write(lambda tx, node=node: tx.nodes.put(node))  # type: ignore[misc]  # bound at once
    await store.write(lambda tx: tx.entries.insert((GROUP, OTHERS, WEB, SHARED)))
    troubles = Troubles(clock)
    deferred = DeferredWrites(datastore=store, around=around(clock, troubles=troubles, metrics=metrics))
    plenty = Allowance(burst=10_000, per_second=1000)
    yield House(
        clock=clock,
        store=store,
        troubles=troubles,
        deferred=deferred,
        svids=IssueSVIDs(
            datastore=store,
            issuance=issuance(store, clock, GivenKeys(x509.key, jwt.key), deferred=deferred, metrics=metrics),
            budgets=MintBudgets(entry=plenty, node=plenty, clock=clock),
            limits=issuance_limits(clock),
            refusals=RefusalRecord(datastore=store, around=around(clock, metrics=metrics)),
            around=around(clock, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            x509_ttl=HOUR,
            jwt_ttl=HOUR,
        ),
        entries=ChangeEntries(
            datastore=store,
            around=around(clock, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            node_attestors=["join_token"],
            watch=EnforcementWatch(around=around(clock, metrics=metrics)),
        ),
    )
    await opened.close()


TAKES_AWAY = {
    "another SPIFFE ID": replace(WEB, spiffe_id=path("/web2")),
    "a DNS name less": replace(WEB, dns_names=("b.example",)),
    "other selectors": replace(WEB, selectors=selectors("unix:uid:1", "unix:gid:2")),
}
TAKES_NOTHING = {
    "a DNS name more, in other letters": replace(WEB, dns_names=("c.example", "A.example", "B.EXAMPLE")),
    "fewer selectors": replace(WEB, selectors=selectors("unix:uid:1")),
    "words": replace(WEB, hint="x", owner="y", labels={"z": "z"}, x509_svid_ttl=MINUTE),
    "who may call it": replace(WEB, callers=(OTHERS.spiffe_id,)),
    "an end after theirs": replace(WEB, expires_at=NOW + HOUR),
    "a parent that the node has as well": replace(WEB, parent_id=GROUP.spiffe_id),
}


class TestReplacedFirst:
    @pytest.mark.parametrize("after", TAKES_AWAY.values(), ids=TAKES_AWAY)
    async def test_what_takes_something_away_ends_what_was_signed_once_it_is_replaced(
        self, house: House, after: RegistrationEntry
    ) -> None:
        old = {(await house.leaf(WEB)).serial, (await house.token(WEB)).serial}
        await house.leaf(SHARED)
        house.clock.advance(MINUTE)
        changed = await house.update(after)
        assert (changed.taken.at_once, changed.taken.later) == (0, 2)
        house.clock.advance(10 * SECOND)
        assert await house.end() == 1
        await house.token(WEB)  # replaces no SVID
        await house.leaf(WEB)
        house.clock.advance(1.9)
        await house.end()
        assert await house.ended() == set()
        house.clock.advance(0.1)
        assert await house.end() == 0
        assert await house.ended() == old

    @pytest.mark.parametrize("after", TAKES_NOTHING.values(), ids=TAKES_NOTHING)
    async def test_what_takes_nothing_away_ends_nothing(self, house: House, after: RegistrationEntry) -> None:
        await house.leaf(WEB)
        changed = await house.update(after)
        house.clock.advance(MINUTE)
        assert (changed.taken.at_once, changed.taken.later, await house.end()) == (0, 0, 0)
        assert await house.said() == []

    async def test_observing_ends_at_once_what_nothing_will_replace_and_enforcing_ends_nothing(
        self, house: House
    ) -> None:
        old = {(await house.leaf(WEB)).serial, (await house.token(WEB)).serial}
        changed = await house.update(replace(WEB, observe=True))
        assert (changed.taken.at_once, changed.taken.later) == (2, 0)
        assert await house.ended() == old
        since = await house.store.read(lambda tx: tx.observations.find(None, after="", limit=9))
        assert [(one.entry_id, one.since) for one in since] == [(WEB.id, house.clock.now())]
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        before = (await house.store.read(lambda tx: tx.audit.head()))[0]
        for _ in range(50):  # an attestor of an earlier release, which does not know that it observes
            (answer,) = await house.svids.x509(N1, [X509Request(entry_id=WEB.id, public_key=key)])
            assert isinstance(answer, Refused)
        assert (await house.store.read(lambda tx: tx.audit.head()))[0] <= before + 1
        changed = await house.update(WEB)
        assert (changed.taken.at_once, changed.taken.later) == (0, 0)
        assert await house.store.read(lambda tx: tx.observations.find(None, after="", limit=9)) == []
        await house.leaf(WEB)

    async def test_what_nobody_replaces_ends_after_thirty_seconds(self, house: House) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.clock.advance(29.9)
        await house.end()
        assert await house.ended() == set()
        house.clock.advance(0.1)
        await house.end()
        assert await house.ended() == {old.serial}

    async def test_each_node_is_replaced_for_itself(self, house: House) -> None:
        first, second = await house.leaf(SHARED, N1), await house.leaf(SHARED, N2)
        await house.update(replace(SHARED, spiffe_id=path("/shared2")))
        await house.leaf(SHARED, N2)
        house.clock.advance(2)
        assert await house.end() == 1
        assert await house.ended() == {second.serial}
        house.clock.advance(MINUTE)
        await house.end()
        assert await house.ended() == {first.serial, second.serial}

    async def test_a_mint_that_failed_replaces_nothing(self, house: House) -> None:
        await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.clock.advance(SECOND)
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        await house.svids.x509(N1, [X509Request(entry_id=WEB.id, public_key=key)])  # what became of it is not on record
        house.clock.advance(5)
        assert await house.end() == 1

    async def test_a_second_update_ends_what_replaced_the_first(self, house: House) -> None:
        first = await house.leaf(WEB)
        await house.update(replace(WEB, spiffe_id=path("/web2")))
        house.clock.advance(SECOND)
        second = await house.leaf(WEB)
        await house.update(replace(WEB, spiffe_id=path("/web3")))
        house.clock.advance(SECOND)
        await house.leaf(WEB)
        house.clock.advance(2)
        assert await house.end() == 0
        assert await house.ended() == {first.serial, second.serial}
        assert len(await house.said()) == 2

    async def test_it_says_whose_change_it_was_and_why_it_ended(self, house: House) -> None:
        await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.clock.advance(MINUTE)
        await house.end()
        (said,) = await house.said()
        assert (said.target.kind, said.target.entry_ids) == (RevocationKind.UPDATE, (WEB.id,))
        assert (said.reason, said.actor, said.denied) == (Reason.SUPERSEDED, "uid:7", 1)
        rows = await house.store.read(lambda tx: tx.audit.rows(after=0, limit=100))
        (row,) = [body for body in (json.loads(row.body) for row in rows) if body["action"] == "revoked"]
        assert (row["actor"], row["facts"]["reason"], row["facts"]["denied"]) == ("uid:7", "superseded", "1")

    async def test_let_expire_ends_nothing(self, house: House) -> None:
        await house.leaf(WEB)
        changed = await house.update(replace(WEB, spiffe_id=path("/web2"), parent_id=N2.spiffe_id), let_expire=True)
        house.clock.advance(MINUTE)
        assert (changed.taken.at_once, changed.taken.later, await house.end()) == (0, 0, 0)
        assert await house.ended() == set()

    async def test_a_deletion_meanwhile_ends_it_and_it_is_said_once(self, house: House) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        deleted = await house.entries.delete([WEB.id], actor="uid:8")
        assert deleted.taken.at_once == 1
        house.clock.advance(MINUTE)
        assert await house.end() == 0
        assert await house.ended() == {old.serial}
        assert [said.target.kind for said in await house.said()] == [RevocationKind.DELETION]


class TestAtOnce:
    async def test_a_node_that_does_not_have_the_entry_any_more_loses_it_at_once(self, house: House) -> None:
        old = {(await house.leaf(WEB)).serial, (await house.token(WEB)).serial}
        changed = await house.update(replace(WEB, parent_id=N2.spiffe_id))
        assert (changed.taken.at_once, changed.taken.later) == (2, 0)
        assert await house.ended() == old

    async def test_nodes_that_keep_the_entry_are_replaced_first(self, house: House) -> None:
        first, second = await house.leaf(SHARED, N1), await house.leaf(SHARED, N2)
        changed = await house.update(replace(SHARED, spiffe_id=path("/shared2"), parent_id=N2.spiffe_id))
        assert (changed.taken.at_once, changed.taken.later) == (1, 1)
        assert await house.ended() == {first.serial}
        house.clock.advance(30)
        await house.end()
        assert await house.ended() == {first.serial, second.serial}

    async def test_a_node_that_is_gone_has_nothing_to_wait_for(self, house: House) -> None:
        old = await house.leaf(SHARED, N2)
        await house.store.write(lambda tx: tx.nodes.delete(N2.id))
        await house.update(replace(SHARED, spiffe_id=path("/shared2")))
        assert await house.ended() == {old.serial}

    @pytest.mark.parametrize(
        "after",
        [replace(GROUP, selectors=OTHERS.selectors), replace(GROUP, spiffe_id=path("/elsewhere")), None],
        ids=["other members", "another name", "deleted"],
    )
    async def test_what_lies_below_a_group_ends_on_the_nodes_that_leave_it(
        self, house: House, after: RegistrationEntry | None
    ) -> None:
        await house.leaf(WEB)
        shared = await house.leaf(SHARED)
        changed = await (house.entries.delete([GROUP.id], actor="uid:7") if after is None else house.update(after))
        assert (changed.taken.at_once, changed.taken.later) == (1, 0)
        assert await house.ended() == {shared.serial}

    async def test_an_entry_that_moves_to_another_group_of_its_nodes_loses_nothing_when_its_group_goes_with_the_same_batch(
        self, house: House
    ) -> None:
        await house.leaf(SHARED)
        batch = Batch(
            create=[replace(GROUP, id=EntryID(""), spiffe_id=path("/again"))],
            update=[replace(SHARED, revision=0, parent_id=path("/again"))],
            delete=[(GROUP.id, 0)],
        )
        changed = await house.entries.apply(batch, actor="uid:7")
        assert changed.taken.at_once == 0
        assert await house.ended() == set()

    async def test_a_group_that_gets_more_members_ends_nothing(self, house: House) -> None:
        await house.leaf(SHARED)
        twin = replace(GROUP, id=OTHERS.id, spiffe_id=GROUP.spiffe_id, selectors=OTHERS.selectors)
        await house.update(twin)
        assert await house.ended() == set()


class TestEnds:
    async def test_an_earlier_end_ends_what_lives_longer_once_it_is_replaced(self, house: House) -> None:
        await house.update(replace(WEB, x509_svid_ttl=MINUTE))
        await house.leaf(WEB)
        await house.update(WEB)
        long = {(await house.leaf(WEB)).serial, (await house.token(WEB)).serial}
        changed = await house.update(replace(WEB, expires_at=NOW + 5 * MINUTE))
        assert (changed.taken.at_once, changed.taken.later) == (0, 2)
        replaced = await house.leaf(WEB)
        assert replaced.not_after == NOW + 5 * MINUTE
        house.clock.advance(2)
        await house.end()
        assert await house.ended() == long

    async def test_nothing_is_minted_beyond_the_end_of_the_entry(self, house: House) -> None:
        end = NOW + 5 * MINUTE
        await house.update(replace(WEB, expires_at=end))
        assert [(await mint(WEB)).not_after for mint in (house.leaf, house.token)] == [end, end]
        house.clock.advance(5 * MINUTE)
        answers = await house.svids.jwt(N1, [JWTRequest(entry_id=WEB.id, audiences=("db",))])
        assert [isinstance(one, Refused) and one.kind is Kind.DENIED for one in answers] == [True]

    async def test_nothing_is_minted_beyond_the_end_of_the_group_that_makes_it_the_nodes(self, house: House) -> None:
        end = NOW + 5 * MINUTE
        old = await house.leaf(SHARED)
        changed = await house.update(replace(GROUP, expires_at=end))
        assert (changed.taken.at_once, changed.taken.later) == (0, 1)
        assert [(await mint(SHARED)).not_after for mint in (house.leaf, house.token)] == [end, end]
        house.clock.advance(2)
        await house.end()
        assert await house.ended() == {old.serial}


class TestTask:
    async def test_what_is_due_outlives_the_issuer(self, house: House, tmp_path: Path) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        await house.store.close()
        again = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db")
        house.clock.advance(HOUR / 2)
        await EndSuperseded(
            datastore=again,
            around=around(house.clock, troubles=house.troubles),
            watch=EnforcementWatch(around=around(house.clock)),
        )()
        rows = await again.read(lambda tx: tx.ledger.find(LedgerFilter(is_revoked=True), before=0, limit=10))
        await again.close()
        assert [row.serial for row in rows] == [old.serial]

    async def test_a_clock_that_is_set_back_delays_nothing(self, house: House) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.clock.jump(-10 * MINUTE)
        await house.end()
        assert await house.ended() == {old.serial}

    async def test_the_task_looks_when_the_log_grows_and_every_second_while_something_waits(self, house: House) -> None:
        old = await house.leaf(WEB)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(house.end.run())
            await until(lambda: house.clock.sleepers == 1)
            house.clock.advance(1)
            await until(lambda: house.clock.sleepers == 1)  # for long: nothing waits
            await house.update(TAKES_AWAY["another SPIFFE ID"])
            for _ in range(32):
                house.clock.advance(1)
                await until(lambda: house.clock.sleepers == 1)
            async with asyncio.timeout(10):
                while await house.ended() != {old.serial}:  # noqa: ASYNC110 - the store tells nobody
                    await asyncio.sleep(0)
            running.cancel()

    async def test_a_store_that_takes_nothing_is_told_and_tried_again(self, house: House) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.clock.advance(MINUTE)
        house.store.refuses = True
        async with asyncio.TaskGroup() as group:
            running = group.create_task(house.end.run())
            await until(lambda: bool(house.troubles.all()))
            house.store.refuses = False
            await pass_until(house.clock, lambda: not house.troubles.all())
            running.cancel()
        assert await house.ended() == {old.serial}

    async def test_it_works_on_a_full_disk(self, house: House) -> None:
        old = await house.leaf(WEB)
        await house.update(TAKES_AWAY["another SPIFFE ID"])
        house.store.is_full = True
        house.clock.advance(MINUTE)
        await house.end()
        assert await house.ended() == {old.serial}
