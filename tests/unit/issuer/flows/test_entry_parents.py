"""A batch that takes a node group away warns of the entries that stay below it, and reach nobody."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.registration import MOST_ALIKE, without_parent
from issuer.flows.change_entries import Batch, ChangeEntries
from issuer.keepers.enforcement_watch import EnforcementWatch
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry
from tests.doubles.issuersurroundings import around

ACTOR = "uid:7"
GROUP = an_entry("/team", parent="/cognomen/issuer", of="join_token:label:team:travel")


@pytest.fixture
async def entries(tmp_path: Path) -> AsyncIterator[ChangeEntries]:
    opened = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db")
    surroundings = around(FakeClock(NOW))
    yield ChangeEntries(
        datastore=opened,
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=EnforcementWatch(around=surroundings),
    )
    await opened.close()


@pytest.fixture
async def stored(entries: ChangeEntries) -> tuple[RegistrationEntry, ...]:
    """A group, and two entries below it."""
    wanted = [GROUP, an_entry("/a", parent="/team"), an_entry("/b", parent="/team")]
    return (await entries.create([replace(one, id=EntryID("")) for one in wanted], actor=ACTOR)).entries


async def test_deleting_a_group_warns_of_the_entries_below_it_in_a_dry_run_as_well(
    entries: ChangeEntries, stored: tuple[RegistrationEntry, ...]
) -> None:
    expected = ("/team: 2 entries have it as their parent, and reach no node without it",)
    tried = await entries.try_out(Batch(delete=[(stored[0].id, 0)]), actor=ACTOR)
    assert tried.warnings == expected
    assert (await entries.delete([stored[0].id], actor=ACTOR)).warnings == expected


async def test_giving_a_group_another_path_warns(entries: ChangeEntries, stored: tuple[RegistrationEntry, ...]) -> None:
    renamed = replace(stored[0], spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/crew"))
    assert "2 entries" in (await entries.update([renamed], actor=ACTOR)).warnings[0]


async def test_nothing_is_said_if_the_entries_go_as_well_or_another_group_has_that_path(
    entries: ChangeEntries, stored: tuple[RegistrationEntry, ...]
) -> None:
    other = replace(GROUP, id=EntryID(""), selectors=an_entry("/x", of="join_token:label:team:db").selectors)
    done = await entries.apply(Batch(create=[other], delete=[(stored[0].id, 0)]), actor=ACTOR)
    assert not done.warnings
    left = [done.entries[0].id, stored[1].id, stored[2].id]
    assert not (await entries.delete(left, actor=ACTOR)).warnings


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 entry has it as its parent, and reaches no node without it"),
        (MOST_ALIKE, f"{MOST_ALIKE} entries have it"),
        (MOST_ALIKE + 1, f"more than {MOST_ALIKE} entries have it"),
    ],
)
def test_so_many_are_said(count: int, said: str) -> None:
    (warning,) = without_parent({GROUP.spiffe_id: count})
    assert said in warning


def test_no_entries_are_no_warning() -> None:
    assert not without_parent({GROUP.spiffe_id: 0})
