"""In which slices a batch is carried out: whatever the batch, no moment between them gives or takes what it should not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID, RegistrationEntry
from issuer.decisions.actions import Action
from issuer.decisions.entrysteps import MOST_STEPS, Step, are_few, slices
from issuer.decisions.registration import fingerprint, is_group
from tests.doubles.issuer_values import an_entry, selectors

TEAM, DB = "join_token:label:team:travel", "join_token:label:use:db"
NODES = {"travel": {TEAM}, "db": {DB}, "both": {TEAM, DB}}
ISSUER = "/cognomen/issuer"


def group(path: str, of: str = TEAM) -> RegistrationEntry:
    return an_entry(path, parent=ISSUER, of=of)


def app(path: str, parent: str = "/group", of: str = "unix:uid:1") -> RegistrationEntry:
    return an_entry(path, parent=parent, of=of)


def long(path: str, *, selectors: int) -> RegistrationEntry:
    """An entry of some 4 kB for each selector."""
    return app(path, of=" ".join(f"k8s:{number}:{'y' * 4000}" for number in range(selectors)))


def created(*entries: RegistrationEntry) -> list[Step]:
    return [Step(before=None, after=replace(one, id=EntryID(f"new-{n}"))) for n, one in enumerate(entries)]


def deleted(*entries: RegistrationEntry) -> list[Step]:
    return [Step(before=replace(one, id=EntryID(f"old-{n}")), after=None) for n, one in enumerate(entries)]


def updated(before: RegistrationEntry, after: RegistrationEntry) -> Step:
    own = EntryID(f"id-{before.spiffe_id.path[1:]}")
    return Step(before=replace(before, id=own), after=replace(after, id=own, revision=1))


@dataclass(frozen=True)
class Case:
    name: str
    steps: Sequence[Step]
    expected: Sequence[Sequence[int]]  # one step in each slice, unless they must stay together


CASES = [
    Case("nothing", [], []),
    Case("what changes nothing is in none", [Step(before=(same := app("/a")), after=same)], []),
    Case("what is added comes first", [*created(app("/a")), *deleted(app("/b"))], [[0], [1]]),
    Case("a group comes before what is below it", created(app("/a"), group("/group")), [[1], [0]]),
    Case("a group goes after what was below it", deleted(group("/group"), app("/a")), [[1], [0]]),
    Case(
        "a new group, entries that move into it, and the old group",
        [*created(group("/new")), updated(app("/a"), app("/a", "/new")), *deleted(group("/group"))],
        [[0], [1], [2]],
    ),
    Case(
        "a group gets another name, and its entries move",
        [updated(group("/group"), group("/new")), updated(app("/a"), app("/a", "/new"))],
        [[0, 1]],
    ),
    Case(
        "a group gets other nodes, and an entry is new",
        [*created(app("/a")), updated(group("/group"), group("/group", DB))],
        [[0, 1]],
    ),
    Case(
        "a group gets other nodes, and an entry another owner",
        [updated(app("/a"), replace(app("/a"), owner="ann")), updated(group("/group"), group("/group", DB))],
        [[0], [1]],
    ),
    Case(
        "a group gets another owner, and entries are new",
        [*created(app("/a"), app("/b")), updated(group("/group"), replace(group("/group"), owner="ann"))],
        [[0], [1], [2]],
    ),
    Case("one takes the place of another", [*created(app("/a")), *deleted(app("/a"))], [[0, 1]]),
    Case(
        "one takes the place of one that takes the place of a third",
        [*created(app("/a")), updated(app("/a"), app("/b")), *deleted(app("/b"))],
        [[0, 1, 2]],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_order_is_that_of_what_is_given_and_taken(case: Case) -> None:
    assert [list(part) for part in slices(case.steps, most=1)] == case.expected


def test_a_slice_has_so_many_steps() -> None:
    steps = created(*(app(f"/a{number}") for number in range(2 * MOST_STEPS + 1)))
    assert [len(part) for part in slices(steps)] == [MOST_STEPS, MOST_STEPS, 1]


def test_a_slice_has_so_many_bytes_but_one_step_at_least() -> None:
    large = [long(f"/a{number}", selectors=3) for number in range(3)]
    assert [list(part) for part in slices(created(*large), most_bytes=30_000)] == [[0, 1], [2]]
    assert [list(part) for part in slices(created(*large), most_bytes=1)] == [[0], [1], [2]]


def test_few_are_one_transaction_and_so_is_one_entry_of_any_length() -> None:
    one = app("/a")
    assert are_few([one] * MOST_STEPS, 16)
    assert not are_few([one] * (MOST_STEPS + 1), 0)
    assert not are_few([one] * 17, 17)
    assert not are_few([], 17)
    assert not are_few([one], 2, most=1)
    assert are_few([one], 1, most=1)
    assert are_few([long("/b", selectors=99)], 1)
    assert are_few([long("/b", selectors=99)] * 10, 1)
    assert not are_few([long("/b", selectors=99)] * 11, 0)


def grants(stored: Iterable[RegistrationEntry]) -> set[tuple[object, ...]]:
    """Which node gets which identity, of which entry, for which programs."""
    every = list(stored)
    found: set[tuple[object, ...]] = set()
    for name, facts in NODES.items():
        parents = {
            one.spiffe_id for one in every if is_group(one) and {str(selector) for selector in one.selectors} <= facts
        }
        found |= {(name, one.id, one.spiffe_id, one.selectors) for one in every if one.parent_id in parents}
    return found


ANY = st.one_of(
    st.builds(group, st.sampled_from(["/g", "/h"]), st.sampled_from([TEAM, DB, f"{TEAM} {DB}"])),
    st.builds(
        app, st.sampled_from(["/a", "/b"]), st.sampled_from(["/g", "/h"]), st.sampled_from(["unix:uid:1", "unix:uid:2"])
    ),
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[EntryID, RegistrationEntry], list[Step]]:
    """What is stored, and what changes in it, as a plan may have it."""
    drawn = draw(st.lists(ANY, max_size=7, unique_by=fingerprint))
    stored = {EntryID(f"old-{n}"): replace(one, id=EntryID(f"old-{n}")) for n, one in enumerate(drawn)}
    steps = [*created(*draw(st.lists(ANY, max_size=4)))]
    for one in stored.values():
        match draw(st.sampled_from(["keep", "delete", "update"])):
            case "delete":
                steps.append(Step(before=one, after=None))
            case "update":
                steps.append(Step(before=one, after=replace(draw(ANY), id=one.id, revision=1)))
    news = [step.after for step in steps if step.after is not None]
    gone = {step.entry.id for step in steps if step.action is Action.ENTRY_DELETED}
    after = list({one.id: one for one in (*stored.values(), *news) if one.id not in gone}.values())
    assume(len({fingerprint(one) for one in after}) == len(after))
    owners = {fingerprint(one): one.id for one in stored.values() if one.id not in gone}
    moved = [step.after for step in steps if step.action is Action.ENTRY_UPDATED and step.after is not None]
    assume(all(owners.get(fingerprint(one), one.id) == one.id for one in moved))
    return stored, steps


def moments(stored: dict[EntryID, RegistrationEntry], steps: Sequence[Step]) -> Iterator[list[RegistrationEntry]]:
    now = dict(stored)
    for part in slices(steps, most=1):
        for number in part:
            if (after := steps[number].after) is None:
                del now[steps[number].entry.id]
            else:
                now[after.id] = after
        yield list(now.values())


@given(batches())
def test_no_moment_between_two_slices_gives_or_takes_what_neither_before_nor_after_does(
    batch: tuple[dict[EntryID, RegistrationEntry], list[Step]],
) -> None:
    stored, steps = batch
    seen = list(moments(stored, steps))
    first, last = grants(stored.values()), grants(seen[-1] if seen else stored.values())
    for now in seen:
        assert first & last <= grants(now) <= first | last
        assert len({fingerprint(one) for one in now}) == len(now)
    assert sorted(number for part in slices(steps, most=1) for number in part) == list(range(len(steps)))


def test_the_selectors_of_the_tests_are_those_of_the_nodes() -> None:
    assert selectors(TEAM, DB) == group("/g", f"{TEAM} {DB}").selectors
