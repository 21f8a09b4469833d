"""The lives of authorities and nodes: a step is taken from each state that the table lists for it, and refused from every other."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions import authority
from issuer.decisions.admission import NODE_LIFE, Node, NodeState, banned, confirmed, with_pending
from issuer.decisions.authority import Authority, AuthorityState
from issuer.decisions.authoritylife import AUTHORITY_LIFE
from issuer.decisions.transition import Life
from tests.doubles.issuer_values import NOW, a_node, jwt_authority

AUTHORITY_STEPS: dict[str, Callable[[Authority], Authority]] = {
    "prepared": lambda row: authority.prepared(row, public_key=b"key"),
    "published": lambda row: authority.published(row, change=1, now=NOW),
    "asked": lambda row: authority.asked(row, now=NOW),
    "postponed": lambda row: authority.postponed(row, until=NOW),
    "activated": lambda row: authority.activated(row, now=NOW),
    "replaced": authority.replaced,
    "suspected": authority.suspected,
    "tainted": lambda row: authority.tainted(row, change=1, now=NOW),
    "retired": lambda row: authority.retired(row, now=NOW),
}
NODE_STEPS: dict[str, Callable[[Node], Node]] = {
    "given an SVID": lambda row: with_pending(row, serial="cc", not_after=NOW, now=NOW),
    "confirmed": lambda row: confirmed(row, "cc", now=NOW),
    "banned": banned,
}


@pytest.mark.parametrize("step", AUTHORITY_STEPS)
@pytest.mark.parametrize("before", AuthorityState)
def test_an_authority_takes_the_steps_of_its_table_and_no_other(before: AuthorityState, step: str) -> None:
    listed = [one.after for one in AUTHORITY_LIFE.transitions if (one.before, one.step) == (before, step)]
    row = replace(jwt_authority().authority, state=before)
    if listed:
        assert [AUTHORITY_STEPS[step](row).state] == listed
        return
    with pytest.raises(Refused, match=f"expected one that can be {step}, found jwt-1, which is {before}") as refused:
        AUTHORITY_STEPS[step](row)
    assert refused.value.kind is Kind.INTERNAL


@pytest.mark.parametrize("step", NODE_STEPS)
@pytest.mark.parametrize("before", NodeState)
def test_a_node_takes_the_steps_of_its_table_and_no_other(before: NodeState, step: str) -> None:
    listed = [one.after for one in NODE_LIFE.transitions if (one.before, one.step) == (before, step)]
    row = replace(a_node(), state=before)
    if listed:
        assert [NODE_STEPS[step](row).state] == listed
        return
    with pytest.raises(Refused, match=f"expected one that can be {step}, found {row.id}, which is {before}"):
        NODE_STEPS[step](row)


def test_the_table_of_authorities_names_every_function_that_changes_a_row() -> None:
    changing = {
        name
        for name, function in inspect.getmembers(authority, inspect.isfunction)
        if function.__module__ == authority.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation is Authority
    }
    assert {one.step for one in AUTHORITY_LIFE.transitions} == changing - {"active"} == {*AUTHORITY_STEPS, "intended"}


@pytest.mark.parametrize("life", [AUTHORITY_LIFE, NODE_LIFE], ids=lambda life: life.noun)
def test_each_row_of_a_table_is_listed_once(life: Life[StrEnum]) -> None:
    rows = [(one.before, one.step) for one in life.transitions]
    assert len(set(rows)) == len(rows)


def test_nothing_leaves_the_state_of_what_is_retired() -> None:
    assert {one.before for one in AUTHORITY_LIFE.transitions} == {None, *AuthorityState} - {AuthorityState.RETIRED}


def test_what_signs_was_published_first() -> None:
    reached, before = {AuthorityState.INTENDED}, set[AuthorityState]()
    while reached != before:
        before = set(reached)
        reached |= {
            one.after
            for one in AUTHORITY_LIFE.transitions
            if one.before in before and one.step != "published" and one.after is not None
        }
    assert reached == {AuthorityState.INTENDED, AuthorityState.RETIRED}
