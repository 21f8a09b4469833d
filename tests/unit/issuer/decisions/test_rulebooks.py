"""issuer/decisions/rulebooks: whose an entry is, and which plans are the same."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from issuer.decisions.rulebooks import check_owner, is_of_rulebook, plan_digest, rules_digest
from svid.spiffeid import SpiffeID, TrustDomain

EXAMPLE = TrustDomain("example.org")
ENTRY = RegistrationEntry(
    id=EntryID("a"),
    spiffe_id=SpiffeID(trust_domain=EXAMPLE, path="/agent/a/b"),
    parent_id=SpiffeID(trust_domain=EXAMPLE, path="/rulebook/nodes/1"),
    selectors=frozenset({Selector("unix", "uid:1")}),
    revision=1,
)


@pytest.mark.parametrize(
    ("path", "is_its"),
    [
        ("/agent/a/b", True),
        ("/agent/a", True),
        ("/agent", True),
        ("/agents/a", False),
        ("/rulebook/nodes/1", True),
        ("/rulebook/other", False),
        ("/web", False),
    ],
)
def test_what_belongs_to_the_rulebook(path: str, *, is_its: bool) -> None:
    spiffe_id = SpiffeID(trust_domain=EXAMPLE, path=path)
    assert is_of_rulebook(spiffe_id) is is_its
    assert bool(check_owner("entries[0]", spiffe_id, 0)) is is_its
    if not is_its:
        assert check_owner("entries[0]", spiffe_id, 1) == ""
        return
    with pytest.raises(Refused, match=r"entries\[0\]: .* belongs to the rulebook") as refused:
        check_owner("entries[0]", spiffe_id, 1)
    assert refused.value.kind is Kind.DENIED


def test_files_are_the_same_whatever_their_order() -> None:
    assert rules_digest({"a": "1", "b": "2"}) == rules_digest({"b": "2", "a": "1"})
    assert len({rules_digest(one) for one in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {})}) == 5


def test_a_plan_is_the_same_if_it_does_the_same() -> None:
    other = replace(ENTRY, owner="ann", revision=2)
    steps = [(None, ENTRY), (ENTRY, other), (other, None)]
    same = plan_digest(1, "r", steps)
    assert plan_digest(1, "r", reversed(steps)) == same
    new = replace(ENTRY, id=EntryID("chosen"), created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert plan_digest(1, "r", [(None, new), *steps[1:]]) == same, "the issuer chooses the id and the time"
    assert plan_digest(1, "r", steps, let_expire=True) != same, "it revokes something else"
    moved = replace(ENTRY, revision=7)
    others = [(2, "r", steps), (1, "s", steps), (1, "r", steps[1:]), (1, "r", [steps[0], (moved, other), steps[2]])]
    assert same not in {plan_digest(*one) for one in others}
