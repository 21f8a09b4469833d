"""Batches of entries: all or nothing, and nothing where nothing changes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.api.admin.entries import changed_to_pb
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.filters import EntryFilter
from issuer.flows.change_entries import MAX_BATCH, Batch, ChangeEntries, How
from issuer.keepers.enforcement_watch import EnforcementWatch
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry
from tests.doubles.issuersurroundings import around

ACTOR = "uid:7"


@dataclass(frozen=True)
class House:
    store: SQLiteDatastore
    entries: ChangeEntries

    async def made(self, *entries: RegistrationEntry) -> tuple[RegistrationEntry, ...]:
        return (await self.entries.create(entries, actor=ACTOR)).entries

    async def stored(self) -> dict[str, RegistrationEntry]:
        found = await self.store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=100))
        return {entry.spiffe_id.path: entry for entry in found}

    async def traces(self) -> tuple[int, int]:
        """The last change number, and how many audit rows there are."""
        return await self.store.read(lambda tx: (tx.changes.head().number, tx.audit.head()[0]))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    surroundings = around(FakeClock(NOW))
    yield House(
        store,
        ChangeEntries(
            datastore=store,
            around=surroundings,
            trust_domain=TRUST_DOMAIN,
            node_attestors=["join_token"],
            watch=EnforcementWatch(around=surroundings),
        ),
    )
    await store.close()


async def test_an_update_that_changes_nothing_leaves_no_revision_no_row_and_no_change(house: House) -> None:
    one, two = await house.made(an_entry("/one"), an_entry("/two"))
    before = await house.traces()
    changed = await house.entries.update([replace(one, created_at=None), replace(two, revision=0)], actor=ACTOR)
    assert changed.entries == (one, two)
    assert changed.change == before[0]
    assert await house.traces() == before
    assert await house.stored() == {"/one": one, "/two": two}


async def test_of_a_batch_only_what_changes_gets_a_revision(house: House) -> None:
    one, two = await house.made(an_entry("/one"), an_entry("/two"))
    number, rows = await house.traces()
    changed = await house.entries.update([one, replace(two, owner="ann")], actor=ACTOR)
    assert [entry.revision for entry in changed.entries] == [1, 2]
    assert await house.traces() == (number + 1, rows + 1)


async def test_an_update_that_changes_nothing_of_a_stale_revision_is_a_conflict(house: House) -> None:
    (one,) = await house.made(an_entry("/one"))
    await house.entries.update([replace(one, owner="ann")], actor=ACTOR)
    with pytest.raises(Refused) as refused:
        await house.entries.update([replace(one, owner="ann")], actor=ACTOR)
    assert refused.value.kind is Kind.CONFLICT


async def test_creates_updates_and_deletes_are_one_batch(house: House) -> None:
    one, two, three = await house.made(an_entry("/one"), an_entry("/two"), an_entry("/three"))
    batch = Batch(
        create=[an_entry("/new")],
        update=[replace(one, owner="ann"), two],
        delete=[(three.id, three.revision)],
        by_path=True,
    )
    changed = await house.entries.apply(batch, actor=ACTOR)
    assert [entry.spiffe_id.path for entry in changed.entries] == ["/new", "/one", "/two", "/three"]
    stored = await house.stored()
    assert stored.keys() == {"/new", "/one", "/two"}
    assert (stored["/one"].owner, stored["/one"].revision) == ("ann", 2)
    assert stored["/two"] == two


async def test_a_batch_may_create_what_it_deletes_or_changes(house: House) -> None:
    one, two = await house.made(an_entry("/one"), an_entry("/two"))
    batch = Batch(
        create=[replace(an_entry("/one"), hint="again"), an_entry("/two")],
        update=[replace(two, selectors=an_entry(of="unix:uid:77").selectors)],
        delete=[(one.id, 0)],
    )
    assert len((await house.entries.apply(batch, actor=ACTOR)).entries) == 4
    assert (await house.stored())["/one"].hint == "again"


@pytest.mark.parametrize(
    ("bad", "kind", "detail"),
    [
        (lambda _: Batch(create=[an_entry("/one")]), Kind.EXISTS, "/one: expected another"),
        (lambda _: Batch(create=[replace(an_entry("/new"), id=EntryID("x"))]), Kind.INVALID, "/new: id: expected none"),
        (lambda _: Batch(create=[an_entry("/new", of="unix:uid:007")]), Kind.INVALID, "/new: selectors: expected a number"),
        (lambda one: Batch(update=[replace(one, revision=9)]), Kind.CONFLICT, "/one: revision: expected 1, found 9"),
        (lambda one: Batch(delete=[(one.id, 9)]), Kind.CONFLICT, "/one: revision: expected 1, found 9"),
        (lambda _: Batch(delete=[(EntryID("nobody"), 0)]), Kind.NOT_FOUND, "entry: no entry has the id 'nobody'"),
        (lambda one: Batch(delete=[(one.id, 0)], update=[one]), Kind.INVALID, "entries: expected each id once"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_refused_batch_changes_nothing_and_a_dry_run_is_refused_alike(
    house: House, bad: Callable[[RegistrationEntry], Batch], kind: Kind, detail: str, *, dry_run: bool
) -> None:
    one, two = await house.made(an_entry("/one"), an_entry("/two"))
    number, rows = await house.traces()
    wrong = bad(one)
    batch = Batch(
        create=[an_entry("/good"), *wrong.create],
        update=[replace(two, owner="ann"), *wrong.update],
        delete=wrong.delete,
        by_path=True,
    )
    with pytest.raises(Refused) as refused:
        await (house.entries.try_out if dry_run else house.entries.apply)(batch, actor=ACTOR)
    assert refused.value.kind is kind
    assert refused.value.detail.startswith(detail)
    assert await house.stored() == {"/one": one, "/two": two}
    assert await house.traces() == (number, rows if dry_run else rows + 1)


async def test_a_dry_run_finds_what_the_batch_would_do_and_leaves_nothing(house: House) -> None:
    (one,) = await house.made(an_entry("/one"))
    before = await house.traces()
    batch = Batch(create=[an_entry("/new", parent="/nowhere")], delete=[(one.id, 0)])
    tried = await house.entries.try_out(batch, actor=ACTOR)
    assert await house.stored() == {"/one": one}
    assert await house.traces() == before
    done = await house.entries.apply(batch, actor=ACTOR)
    assert tried.change == 0
    assert (tried.warnings, tried.taken) == (done.warnings, done.taken)
    assert [entry.spiffe_id for entry in tried.entries] == [entry.spiffe_id for entry in done.entries]


async def test_an_entry_with_a_selector_that_an_earlier_release_accepted_is_deleted_as_any_other(house: House) -> None:
    old = replace(an_entry("/old", of="unix:uid:007"), id=EntryID("old"), revision=1, created_at=NOW)
    await house.store.write(lambda tx: tx.entries.insert([old]))
    assert await house.stored() == {"/old": old}
    assert (await house.entries.update([old], actor=ACTOR)).entries == (old,)
    with pytest.raises(Refused, match="unix:uid:007"):
        await house.entries.update([replace(old, owner="ann")], actor=ACTOR)
    await house.entries.delete([old.id], actor=ACTOR)
    assert await house.stored() == {}


async def test_a_batch_has_a_size(house: House) -> None:
    for count in (0, MAX_BATCH + 1):
        with pytest.raises(Refused, match=f"entries: expected 1 to 100000, found {count}"):
            await house.entries.apply(Batch(delete=[(EntryID("x"), 0)] * count), actor=ACTOR)


async def test_a_warning_of_selectors_refuses_a_strict_batch(house: House) -> None:
    doubtful = an_entry("/one", of="k8s:ns:web")
    with pytest.raises(Refused, match="plugin for k8s"):
        await house.entries.create([doubtful], how=How(strict=True), actor=ACTOR)
    assert any("plugin for k8s" in one for one in (await house.entries.create([doubtful], actor=ACTOR)).warnings)


async def test_a_second_default_of_the_same_programs_is_a_warning(house: House) -> None:
    await house.made(replace(an_entry("/one"), default=True))
    changed = await house.entries.create([replace(an_entry("/two"), default=True)], actor=ACTOR)
    assert any(warning.startswith("default: /two and /one have") for warning in changed.warnings)


async def test_of_a_batch_that_is_too_large_for_one_answer_the_last_entries_have_only_their_ids(house: House) -> None:
    entries = [an_entry(f"/{number}") for number in range(5)]
    changed = await house.entries.create(entries, actor=ACTOR)
    whole = await changed_to_pb(changed)
    assert (whole.shortened, len(whole.entries)) == (0, 5)
    room = 2 * whole.entries[0].ByteSize() - 1
    short = await changed_to_pb(changed, room=room)
    assert short.shortened == 3
    assert list(short.entries[:2]) == list(whole.entries[:2])
    assert [(one.id, one.revision, one.spiffe_id) for one in short.entries[2:]] == [
        (entry.id, 1, "") for entry in changed.entries[2:]
    ]
