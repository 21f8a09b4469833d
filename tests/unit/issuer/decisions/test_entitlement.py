from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.selector import Selector
from issuer.decisions.entitlement import blocked_by, entry_ends_at, group_ends, is_entitled, parent_ends, parents_of
from issuer.decisions.revocation import Blocks, Reason, Revocation, RevocationKind, Target
from tests.doubles.issuer_values import NOW, a_node, an_entry

NOBODY = Blocks()
labels = st.frozensets(st.sampled_from([Selector("join_token", f"label:k{i}:v") for i in range(5)]), min_size=1)


def test_a_node_is_its_own_parent() -> None:
    assert parents_of(a_node(), [], blocks=NOBODY, now=NOW) == {a_node().spiffe_id}


@given(node=labels, group=labels)
def test_a_node_belongs_to_a_group_exactly_when_it_has_all_its_selectors(
    node: frozenset[Selector], group: frozenset[Selector]
) -> None:
    member, entry = replace(a_node(), selectors=node), replace(an_entry("/group"), selectors=group)
    parents = parents_of(member, [entry], blocks=NOBODY, now=NOW)
    assert (entry.spiffe_id in parents) is all(selector in node for selector in group)
    assert member.spiffe_id in parents


@given(few=labels, more=labels)
def test_more_selectors_never_lose_a_node_a_group(few: frozenset[Selector], more: frozenset[Selector]) -> None:
    groups = [replace(an_entry(f"/g/{i}"), selectors=frozenset({selector})) for i, selector in enumerate(few | more)]
    before = parents_of(replace(a_node(), selectors=few), groups, blocks=NOBODY, now=NOW)
    after = parents_of(replace(a_node(), selectors=few | more), groups, blocks=NOBODY, now=NOW)
    assert before <= after


def test_a_group_that_is_over_has_no_members() -> None:
    group = replace(an_entry("/group", of="join_token:label:team:travel"), expires_at=NOW)
    assert parents_of(a_node(), [group], blocks=NOBODY, now=NOW) == {a_node().spiffe_id}
    assert group.spiffe_id in parents_of(a_node(), [group], blocks=NOBODY, now=NOW - timedelta(seconds=1))


def test_the_ends_of_a_nodes_own_groups_are_told_in_order() -> None:
    def group(path: str, of: str, hours: int | None) -> RegistrationEntry:
        ends = None if hours is None else NOW + timedelta(hours=hours)
        return replace(an_entry(path, of=of), expires_at=ends)

    mine = "join_token:label:team:travel"
    groups = [
        group("/g/late", mine, 2),
        group("/g/over", mine, -1),
        group("/g/endless", mine, None),
        group("/g/other", "join_token:label:team:db", 1),
    ]
    assert group_ends(a_node(), groups) == (NOW - timedelta(hours=1), NOW + timedelta(hours=2))


def test_a_node_is_entitled_to_what_lies_below_its_parents_until_it_is_over() -> None:
    parents = frozenset({a_node().spiffe_id})
    assert is_entitled(an_entry(), parents, blocks=NOBODY, now=NOW)
    assert not is_entitled(an_entry(parent="/cognomen/node/join_token/n2"), parents, blocks=NOBODY, now=NOW)
    assert is_entitled(replace(an_entry(), expires_at=NOW + timedelta(microseconds=1)), parents, blocks=NOBODY, now=NOW)
    assert not is_entitled(replace(an_entry(), expires_at=NOW), parents, blocks=NOBODY, now=NOW)


def test_an_entry_is_blocked_by_the_first_revocation_that_names_it_or_its_node() -> None:
    def revocation(number: int, selector: Selector) -> Revocation:
        said = Target(kind=RevocationKind.SELECTOR, selector=selector)
        return Revocation(target=said, reason=Reason.UNSPECIFIED, comment="", actor="uid:0", at=NOW, number=number)

    entry, node = an_entry(of="unix:uid:1"), a_node()
    of_others = revocation(1, Selector.parse("unix:uid:2"))
    of_entry = revocation(2, Selector.parse("unix:uid:1"))
    of_node = revocation(3, min(node.selectors))
    assert blocked_by(entry, node, [of_others]) is None
    assert blocked_by(entry, node, [of_others, of_entry, of_node]) is of_entry
    assert blocked_by(entry, node, [of_others, of_node]) is of_node


def test_a_parent_ends_with_the_last_group_that_gives_it_and_never_where_one_stays() -> None:
    def group(path: str, of: str, hours: int | None) -> RegistrationEntry:
        ends = None if hours is None else NOW + timedelta(hours=hours)
        return replace(an_entry(path, of=of), expires_at=ends)

    mine = "join_token:label:team:travel"
    groups = [
        group("/twice", mine, 1),
        group("/twice", mine, 2),
        group("/over", mine, 0),
        group("/stays", mine, 1),
        group("/stays", mine, None),
        group("/other", "join_token:label:team:db", 1),
    ]
    ends = parent_ends(a_node(), groups, now=NOW)
    twice = groups[1]
    assert ends == {twice.spiffe_id: twice.expires_at}
    below = an_entry(parent="/twice")
    assert entry_ends_at(below, ends) == twice.expires_at
    assert entry_ends_at(replace(below, expires_at=NOW), ends) == NOW
    assert entry_ends_at(an_entry(), ends) is None
