"""Large batches of entries: slices that let other writes have their turns, and dry runs that write nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.entrydifference import compare
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.flows.change_entries import Batch, ChangeEntries, How
from issuer.keepers.enforcement_watch import EnforcementWatch
from svid.keys import KeyID
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore

T = TypeVar("T")
ACTOR, ISSUER = "uid:7", "/cognomen/issuer"
TEAM, DB = "join_token:label:team:travel", "join_token:label:team:db"


class WatchedStore(RefusingStore):
    """Counts the writes of another store, and calls `before` at the beginning of each, in the thread that writes."""

    def __init__(self, store: SQLiteDatastore) -> None:
        super().__init__(store)
        self.before: Callable[[int], None] = lambda _: None
        self.written = 0

    def begins(self, more: int) -> asyncio.Event:
        """Set once the write that is so many after those of now begins."""
        loop, begun, number = asyncio.get_running_loop(), asyncio.Event(), self.written + more

        def before(now: int) -> None:
            if now == number:
                loop.call_soon_threadsafe(begun.set)

        self.before = before
        return begun

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        self.written += 1
        number = self.written

        def watched(tx: Transaction) -> T:
            self.before(number)
            return work(tx)

        return await super().write(watched, expendable=expendable)


@dataclass(frozen=True)
class House:
    store: WatchedStore
    entries: ChangeEntries

    async def stored(self) -> dict[EntryID, RegistrationEntry]:
        found = await self.store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=10_000))
        return {entry.id: entry for entry in found}

    async def paths(self) -> set[str]:
        return {entry.spiffe_id.path for entry in (await self.stored()).values()}

    async def compared(self, wanted: Iterable[RegistrationEntry]) -> Batch:
        """What `entry apply --prune --all` asks for."""
        found = compare(list(wanted), (await self.stored()).values(), prune=lambda _: True)
        return Batch(
            create=found.create,
            update=[after for _, after in found.update],
            delete=[(entry.id, entry.revision) for entry in found.delete],
            by_path=True,
        )


def over(store: WatchedStore, *, most: int) -> House:
    surroundings = around(FakeClock(NOW))
    entries = ChangeEntries(
        datastore=store,
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=EnforcementWatch(around=surroundings),
        most=most,
    )
    return House(store, entries)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    opened = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db")
    yield over(WatchedStore(opened), most=3)
    await opened.close()


def apps(count: int, *, owner: str = "") -> list[RegistrationEntry]:
    return [replace(an_entry(f"/app/{number}"), owner=owner) for number in range(count)]


async def test_a_write_that_waits_gets_its_turn_between_two_slices(house: House) -> None:
    order, waits, begun = list[str](), threading.Event(), house.store.begins(1)
    begins = house.store.before

    def before(number: int) -> None:
        begins(number)
        order.append({2: "other", 3: "turn", 5: "turn"}.get(number, "slice"))
        if number == 1:
            assert waits.wait(10)

    house.store.before = before
    applied = asyncio.create_task(house.entries.create(apps(9), actor=ACTOR))
    await begun.wait()
    other = asyncio.create_task(house.entries.create([an_entry("/other")], actor=ACTOR))
    await asyncio.sleep(0)
    waits.set()
    await asyncio.gather(applied, other)
    assert order == ["slice", "other", "turn", "slice", "turn", "slice"]


async def test_a_dry_run_takes_no_write_transaction(house: House) -> None:
    def before(_: int) -> None:
        raise AssertionError("a dry run writes")

    (one,) = (await house.entries.create([an_entry("/one")], actor=ACTOR)).entries
    house.store.before = before
    for count in (1, 9):
        await house.entries.try_out(Batch(create=apps(count), delete=[(one.id, 0)]), actor=ACTOR)
        with pytest.raises(Refused):
            await house.entries.try_out(Batch(create=[*apps(count), an_entry("/one")]), actor=ACTOR)
    assert house.store.written == 1


async def test_a_large_batch_that_is_refused_changes_nothing(house: House) -> None:
    await house.entries.create([an_entry("/one")], actor=ACTOR)
    with pytest.raises(Refused) as refused:
        await house.entries.create([*apps(9), an_entry("/one")], actor=ACTOR)
    assert refused.value.kind is Kind.EXISTS
    assert refused.value.detail.startswith("entries[9]: ")
    assert await house.paths() == {"/one"}


async def test_a_slice_that_is_refused_says_how_much_was_done_and_the_same_file_goes_on(house: House) -> None:
    made = (await house.entries.create(apps(9), actor=ACTOR)).entries
    wanted, begun = [*apps(9, owner="ann"), an_entry("/new")], house.store.begins(1)
    batch = await house.compared(wanted)
    updates = sorted(batch.update, key=lambda one: one.spiffe_id.path)
    applied = asyncio.create_task(house.entries.apply(replace(batch, update=updates), actor=ACTOR))
    await begun.wait()
    await house.entries.update([replace(made[7], hint="x")], actor="uid:8")
    with pytest.raises(Refused) as refused:
        await applied
    assert refused.value.kind is Kind.CONFLICT
    assert refused.value.detail == "/app/7: revision: expected 2, found 1; 6 of 10 changes were made before"
    assert refused.value.hint == "run it again: it goes on with the rest"
    rest = await house.compared(wanted)
    assert (len(rest.create), len(rest.update)) == (0, 4)
    await house.entries.apply(rest, actor=ACTOR)
    assert len(await house.compared(wanted)) == 0


async def test_a_refused_slice_names_an_entry_by_its_place_in_the_whole_batch(house: House) -> None:
    made = (await house.entries.create(apps(9), actor=ACTOR)).entries
    begun = house.store.begins(1)
    deleted = asyncio.create_task(house.entries.delete([one.id for one in made], actor=ACTOR))
    await begun.wait()
    await house.entries.delete([made[7].id], actor="uid:8")
    with pytest.raises(Refused) as refused:
        await deleted
    assert refused.value.detail.startswith("entries[7]: no entry has the id")
    assert refused.value.detail.endswith("; 6 of 9 changes were made before")
    assert await house.paths() == {"/app/6", "/app/8"}


async def test_an_issuer_that_stops_in_the_middle_is_finished_by_the_same_file_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "issuer.db"
    opened = await SQLiteDatastore.open(path)
    first = over(WatchedStore(opened), most=3)
    begun = first.store.begins(2)
    applied = asyncio.create_task(first.entries.apply(await first.compared(apps(9)), actor=ACTOR))
    await begun.wait()
    await opened.close()
    with pytest.raises(Refused) as refused:
        await applied
    assert refused.value.kind is Kind.UNAVAILABLE
    assert "of 9 changes were made before" in refused.value.detail
    reopened = await SQLiteDatastore.open(path)
    again = over(WatchedStore(reopened), most=3)
    rest = await again.compared(apps(9))
    assert 0 < len(rest.create) < 9
    await again.entries.apply(rest, actor=ACTOR)
    assert await again.paths() == {entry.spiffe_id.path for entry in apps(9)}
    await reopened.close()


async def test_what_changes_nothing_is_in_no_slice(house: House) -> None:
    made = (await house.entries.create(apps(9), actor=ACTOR)).entries
    before = house.store.written
    changed = await house.entries.update([*made[:8], replace(made[8], owner="ann")], actor=ACTOR)
    assert house.store.written == before + 1
    assert changed.entries[:8] == made[:8]
    assert (changed.entries[8].owner, changed.entries[8].revision) == ("ann", 2)
    same = await house.entries.update([replace(one, revision=0) for one in changed.entries], actor=ACTOR)
    assert (same.entries, same.change, house.store.written) == (changed.entries, changed.change, before + 1)


REVOKED = LedgerFilter(is_revoked=True)
GROUP, OTHERS = an_entry("/group", parent=ISSUER, of=TEAM), an_entry("/others", parent=ISSUER, of=DB)
BELOW = [an_entry(f"/app/{number}", parent="/group") for number in range(3)]


def below(parent: str) -> list[RegistrationEntry]:
    return [replace(one, parent_id=an_entry(parent).spiffe_id) for one in BELOW]


FILES = {
    "other identities": [GROUP, OTHERS, *(replace(one, spiffe_id=an_entry(f"/b{n}").spiffe_id) for n, one in enumerate(BELOW))],
    "other selectors": [GROUP, OTHERS, *(replace(one, selectors=an_entry(of="unix:uid:7").selectors) for one in BELOW)],
    "all moved to the other group": [GROUP, OTHERS, *below("/others")],
    "all moved to the other group, and theirs gone": [OTHERS, *below("/others")],
    "the group renamed": [replace(GROUP, spiffe_id=an_entry("/new").spiffe_id), OTHERS, *below("/new")],
    "the group for other nodes": [replace(GROUP, selectors=OTHERS.selectors), *BELOW],
    "a new group": [GROUP, OTHERS, an_entry("/new", parent=ISSUER, of=TEAM), *below("/new")],
    "an earlier end": [GROUP, OTHERS, *(replace(one, expires_at=NOW + timedelta(minutes=1)) for one in BELOW)],
    "fewer": [GROUP, OTHERS, BELOW[0]],
    "without the group": [OTHERS, *BELOW],
    "groups alone": [GROUP, OTHERS],
    "one": [OTHERS],
}  # fmt: skip


@pytest.mark.parametrize("wanted", FILES.values(), ids=FILES)
@pytest.mark.parametrize("let_expire", [False, True], ids=["ends", "let expire"])
async def test_a_dry_run_the_slices_and_one_transaction_agree(
    wanted: list[RegistrationEntry], tmp_path: Path, *, let_expire: bool
) -> None:
    answers = []
    for most in (1, 2, 500):
        opened = await SQLiteDatastore.open(tmp_path / f"state-{most}" / "issuer.db")
        house = over(WatchedStore(opened), most=most)
        await fill(house)
        batch = await house.compared(wanted)
        batch = replace(
            batch, update=sorted(batch.update, key=lambda one: one.spiffe_id.path), delete=sorted(batch.delete)
        )
        how = How(let_expire=let_expire)
        tried = await house.entries.try_out(batch, how=how, actor=ACTOR)
        done = await house.entries.apply(batch, how=how, actor=ACTOR)
        ended = await opened.read(lambda tx: tx.ledger.find(REVOKED, before=0, limit=100))
        assert len(ended) == done.taken.at_once
        assert names(tried.entries) == names(done.entries)
        assert tried.warnings == done.warnings
        assert (tried.taken.at_once, tried.taken.later) == (done.taken.at_once, done.taken.later)
        answers.append((done.taken.at_once, done.taken.later, done.warnings, await house.paths()))
        assert len(await house.compared(wanted)) == 0
        await opened.close()
    assert answers[0] == answers[1] == answers[2]


def names(entries: Iterable[RegistrationEntry]) -> list[tuple[str, str, int]]:
    return [(entry.spiffe_id.path, entry.parent_id.path, entry.revision) for entry in entries]


async def fill(house: House) -> None:
    """Two nodes of which each is in a group, a third in both; and what each holds."""
    made = (await house.entries.create([GROUP, OTHERS, *BELOW], actor=ACTOR)).entries
    for name, of in (("n1", TEAM), ("n2", DB), ("n3", f"{TEAM} {DB}")):
        node = a_node(name, of=of)
        await house.store.write(lambda tx, node=node: tx.nodes.put(node))  # type: ignore[misc]  # bound at once
    rows = [
        Credential(
            kind=CredentialKind.X509,
            serial=f"{place:x}{number}",
            spiffe_id=entry.spiffe_id,
            authority_id=KeyID("x509-1"),
            issued_at=NOW,
            not_after=NOW + timedelta(hours=1),
            entry_id=entry.id,
            node_id=NodeID(node_id),
            state=CredentialState.ISSUED,
        )
        for place, entry in enumerate(made[2:], start=1)
        for number, node_id in enumerate(("n1", "n3"))
    ]
    await house.store.write(lambda tx: tx.ledger.record(rows))


async def test_a_small_batch_does_not_wait_for_a_large_one(house: House) -> None:
    (one, *_) = (await house.entries.create([an_entry("/one"), an_entry("/two")], actor=ACTOR)).entries
    waits, begun = threading.Event(), house.store.begins(1)
    begins, number = house.store.before, house.store.written + 1

    def before(now: int) -> None:
        begins(now)
        if now == number:
            assert waits.wait(10)

    house.store.before = before
    applied = asyncio.create_task(house.entries.create(apps(9), actor=ACTOR))
    await begun.wait()
    tried = await house.entries.try_out(Batch(delete=[(one.id, 0)]), actor=ACTOR)
    another = asyncio.create_task(house.entries.try_out(Batch(create=apps(9)), actor=ACTOR))
    assert tried.entries == (one,)
    waits.set()
    await applied
    with pytest.raises(Refused):  # it waited for its turn, and found what was created
        await another
