"""Which nodes are asked about a plan, and what: exactly what its entries would become there, as far as that decides who is what."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import QuestionIs
from issuer.decisions.entitlement import is_entitled, parents_of
from issuer.decisions.entrysteps import Step
from issuer.decisions.feedsteps import weight
from issuer.decisions.questions import Asking, Concern, PlannedChanges, in_parts
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import Blocks
from tests.doubles.issuer_values import NOW, a_node, an_entry

NODE = a_node()
GROUP = an_entry("/g", entry_id="g", parent="/cognomen/issuer", of="join_token:label:team:travel")
WEB = an_entry("/web", entry_id="web", parent="/g")


def asked(
    steps: Iterable[tuple[RegistrationEntry | None, RegistrationEntry | None]],
    stored: Sequence[RegistrationEntry],
    blocks: Blocks | None = None,
) -> Asking:
    """What the node is asked about these steps, where these entries are stored."""
    groups = [one for one in stored if is_group(one)]
    made = [Step(before=before, after=after) for before, after in steps]
    changes = PlannedChanges(made, groups, blocks=blocks or Blocks(), now=NOW)
    concern = changes.concern(NODE)
    return changes.asking(concern, [one for one in stored if one.parent_id in concern.regrouped])


def test_what_comes_changes_and_goes_on_a_node_is_asked() -> None:
    new, gone = an_entry("/new", entry_id="new", parent="/g"), an_entry("/gone", entry_id="gone", parent="/g")
    moved = replace(WEB, spiffe_id=an_entry("/moved").spiffe_id)
    found = asked([(None, new), (WEB, moved), (gone, None)], [GROUP, WEB, gone])
    assert {one.id for one in found.put} == {"new", "web"}
    assert found.gone == (EntryID("gone"),)
    assert {one.path for one in found.ids.values()} == {"/new", "/moved", "/web", "/gone"}
    assert [str(one) for one in found.ids.values()] == list(found.ids)


def test_what_changes_nobodys_identity_is_not_asked() -> None:
    found = asked([(WEB, replace(WEB, hint="another", audiences=("a",), revision=2))], [GROUP, WEB])
    assert not found


def test_a_node_that_a_plan_does_not_concern_is_not_asked() -> None:
    other = an_entry("/other", entry_id="other", parent="/cognomen/node/join_token/n2")
    changes = PlannedChanges([Step(before=None, after=other)], [GROUP], blocks=Blocks(), now=NOW)
    assert changes.concern(NODE) == Concern(frozenset(), frozenset())
    assert not asked([(None, other)], [GROUP])


def test_a_node_that_leaves_a_group_loses_what_is_below_it() -> None:
    narrow = replace(GROUP, selectors=an_entry(of="join_token:label:team:other").selectors)
    assert asked([(GROUP, narrow)], [GROUP, WEB]).gone == (WEB.id,)
    assert asked([(GROUP, None), (WEB, None)], [GROUP, WEB]).gone == (WEB.id,)
    assert [one.id for one in asked([(narrow, GROUP)], [narrow, WEB]).put] == [WEB.id]


def test_what_is_over_or_blocked_gives_nobody_an_identity() -> None:
    assert not asked([(None, replace(WEB, expires_at=NOW))], [GROUP])
    assert len(asked([(None, replace(WEB, expires_at=NOW + timedelta(hours=1)))], [GROUP])) == 1
    assert not asked([(None, WEB)], [GROUP], Blocks(entry_ids=frozenset({WEB.id})))


entry_ids = st.sampled_from("abc")
entries = st.builds(
    lambda name, path, parent, of: an_entry(f"/{path}", entry_id=name, parent=parent, of=of),
    entry_ids,
    st.sampled_from("xy"),
    st.sampled_from(["/g", "/h", "/cognomen/node/join_token/n1"]),
    st.sampled_from(["unix:uid:1", "unix:uid:2"]),
)
groups = st.builds(
    lambda path, of: an_entry(f"/{path}", entry_id=f"group-{path}", parent="/cognomen/issuer", of=of),
    st.sampled_from("gh"),
    st.sampled_from(["join_token:label:team:travel", "join_token:label:team:other", "node:any"]),
)
worlds = st.builds(
    lambda *some: {one.id: one for one in (*some[0], *some[1])},
    st.lists(entries, max_size=4),
    st.lists(groups, max_size=3),
)


@given(worlds, worlds)
def test_the_question_leads_from_what_the_node_has_to_what_it_would_have(
    before: dict[EntryID, RegistrationEntry], after: dict[EntryID, RegistrationEntry]
) -> None:
    steps = [(before.get(one), after.get(one)) for one in before | after if before.get(one) != after.get(one)]
    found = asked(steps, list(before.values()))
    had, has = held(before), held(after)
    assert {**{one: gives for one, gives in had.items() if one not in found.gone}, **gives_of(found.put)} == has
    assert all(had.get(one.id) != (one.spiffe_id, one.selectors) for one in found.put)
    assert set(found.gone) <= set(had)


def held(world: dict[EntryID, RegistrationEntry]) -> dict[EntryID, object]:
    parents = parents_of(NODE, [one for one in world.values() if is_group(one)], blocks=Blocks(), now=NOW)
    return gives_of(one for one in world.values() if is_entitled(one, parents, blocks=Blocks(), now=NOW))


def gives_of(some: Iterable[RegistrationEntry]) -> dict[EntryID, object]:
    return {one.id: (one.spiffe_id, one.selectors) for one in some}


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_question_is_cut_into_parts_and_nothing_of_it_is_lost(put: int, gone: int) -> None:
    asking = Asking(
        put=tuple(an_entry(f"/{number}", entry_id=f"{number}") for number in range(put)),
        gone=tuple(EntryID(f"gone-{number}") for number in range(gone)),
    )
    parts = list(in_parts("q", asking))
    assert [part.id for part in parts] == ["q"] * len(parts)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert tuple(one for part in parts for one in part.put) == asking.put
    assert tuple(one for part in parts for one in part.gone) == asking.gone
    assert all(weight(part) <= 64 * 1024 + 16 for part in parts)


def test_one_entry_that_is_larger_than_a_part_is_a_part() -> None:
    huge = replace(an_entry(entry_id="huge"), audiences=tuple(f"{number:03}" + "a" * 1000 for number in range(128)))
    small = an_entry(entry_id="small")
    found = list(in_parts("q", Asking(put=(small, huge, small))))
    assert found == [
        QuestionIs(id="q", put=(small,), more=True),
        QuestionIs(id="q", put=(huge,), more=True),
        QuestionIs(id="q", put=(small,)),
    ]
