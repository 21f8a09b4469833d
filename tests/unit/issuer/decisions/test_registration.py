from copy import copy
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.profile import ISSUER_DNS_NAME
from issuer.decisions.registration import (
    MOST_ALIKE,
    alike,
    changes,
    check_entry,
    check_no_twins,
    created,
    fingerprint,
    is_group,
    rivals,
    too_many_alike,
    unknown_parents,
    updated,
)
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry

ISSUER = "/cognomen/issuer"


def warnings(entry: RegistrationEntry) -> tuple[str, ...]:
    return check_entry(entry, trust_domain=TRUST_DOMAIN, node_attestors=["join_token"], now=NOW)


def refusal(entry: RegistrationEntry) -> str:
    with pytest.raises(Refused) as refused:
        warnings(entry)
    assert refused.value.kind is Kind.INVALID
    return refused.value.detail


@pytest.mark.parametrize("path", ["/web", "/a/b/c", "/cognomens", "/spire-x", "/agents/x"])
@pytest.mark.parametrize("parent", ["/cognomen/node/join_token/n1", "/group/travel"])
def test_an_entry_below_a_node_or_a_group_stands_without_a_word(path: str, parent: str) -> None:
    assert warnings(an_entry(path, parent=parent)) == ()


@pytest.mark.parametrize(
    "path", ["/cognomen", "/cognomen/issuer", "/cognomen/node/join_token/x", "/spire", "/spire/server"]
)
def test_a_reserved_path_is_refused(path: str) -> None:
    assert refusal(an_entry(path)) == f"spiffe_id: expected a path outside /cognomen and /spire, found {path!r}"


def with_id(field: str, spiffe_id: SpiffeID) -> RegistrationEntry:
    return (
        replace(an_entry(), spiffe_id=spiffe_id) if field == "spiffe_id" else replace(an_entry(), parent_id=spiffe_id)
    )


@pytest.mark.parametrize("field", ["spiffe_id", "parent_id"])
def test_another_trust_domain_is_refused(field: str) -> None:
    foreign = with_id(field, SpiffeID(trust_domain=TrustDomain("other.org"), path="/x"))
    assert refusal(foreign) == f"{field}: expected the trust domain example.org, found other.org"


@pytest.mark.parametrize("field", ["spiffe_id", "parent_id"])
@pytest.mark.clause("X5-04")
def test_an_id_without_a_path_is_refused(field: str) -> None:
    root = with_id(field, TRUST_DOMAIN.id)
    assert refusal(root) == f"{field}: expected a path, found 'spiffe://example.org'"


@pytest.mark.parametrize(
    "path", ["/spire/agent/x", "/cognomen", "/cognomen/node", "/cognomen/node/join_token", "/cognomen/x"]
)
def test_a_reserved_parent_that_is_no_node_is_refused(path: str) -> None:
    assert refusal(an_entry(parent=path)) == f"parent_id: expected a node, a node group or the issuer, found {path!r}"


def test_an_entry_that_is_its_own_parent_is_refused() -> None:
    assert refusal(an_entry("/web", parent="/web")).startswith("parent_id: must differ from spiffe_id")


@pytest.mark.parametrize("name", [ISSUER_DNS_NAME, ISSUER_DNS_NAME.upper()])
def test_the_issuers_dns_name_is_refused_in_any_case(name: str) -> None:
    assert refusal(replace(an_entry(), dns_names=("a.example", name))).startswith("dns_names: expected no issuer.")


def test_an_entry_that_is_over_already_is_refused() -> None:
    assert refusal(replace(an_entry(), expires_at=NOW)).startswith("expires_at: expected a time in the future")
    assert warnings(replace(an_entry(), expires_at=NOW + timedelta(microseconds=1))) == ()


def test_a_group_is_known_by_its_parent_and_holds_node_selectors_only() -> None:
    group = an_entry("/group/travel", parent=ISSUER, of="join_token:label:team:travel")
    assert is_group(group)
    assert not is_group(an_entry())
    assert warnings(group) == ()
    mixed = an_entry("/group/travel", parent=ISSUER, of="join_token:label:team:travel unix:uid:1")
    assert refusal(mixed) == "selectors: expected node selectors (join_token), found 'unix:uid:1'"


@pytest.mark.parametrize(
    ("of", "warned"),
    [
        ("unix:path:/bin/x", True),
        (f"unix:sha256:{'00' * 32} unix:gid:1", True),
        ("unix:path:/bin/x unix:uid:1", False),
        ("unix:path:/bin/x unix:user:web", False),
        ("unix:gid:1", False),
        ("docker:path:/x", False),
    ],
)
def test_a_program_without_a_user_is_warned_of(of: str, warned: bool) -> None:  # noqa: FBT001 - a column
    assert any("by convention only" in warning for warning in warnings(an_entry(of=of))) is warned


@pytest.mark.parametrize(
    ("of", "parent", "expected"),
    [
        ("unix:uid:1 unix:uid:007", "/group/travel", "a number from 0 to 4294967294 without leading zeros, found 'unix:uid:007'"),
        ("uid:1001", "/group/travel", "type:value, such as unix:uid:…, found 'uid:1001'"),
        ("join_token:team:a", ISSUER, "join_token:label:KEY:VALUE, a label of an invite, found 'join_token:team:a'"),
    ],
)  # fmt: skip
def test_a_selector_that_matches_nothing_is_refused(of: str, parent: str, expected: str) -> None:
    assert refusal(an_entry(parent=parent, of=of)) == f"selectors: expected {expected}, which matches nothing"


@pytest.mark.parametrize(
    ("of", "parent", "fact"),
    [
        ("unix:uid:1 unix:uid:2", "/group/travel", "unix:uid"),
        ("join_token:label:team:a join_token:label:team:b", ISSUER, "join_token:label:team"),
    ],
)
def test_selectors_that_nothing_can_have_together_are_refused(of: str, parent: str, fact: str) -> None:
    first, second = of.split()
    assert refusal(an_entry(parent=parent, of=of)) == (
        f"selectors: expected at most one {fact}, because all selectors of an entry must match, found {first!r} and {second!r}"
    )


def test_a_group_of_nodes_that_joined_in_two_ways_is_refused() -> None:
    group = an_entry(parent=ISSUER, of="join_token:label:team:a hardware:board:b")
    with pytest.raises(Refused, match=r"expected those of one node attestor, .* found hardware and join_token$"):
        check_entry(group, trust_domain=TRUST_DOMAIN, node_attestors=["join_token", "hardware"], now=NOW)


@pytest.mark.parametrize(
    ("of", "doubt"),
    [
        ("unix:uid:1 docker:label:app:web", "'docker:label:app:web' matches only where an attestor has a plugin"),
        ("unix:uid:1 join_token:label:team:a", "a node selector never matches a workload"),
        ("unix:path:/bin/x", "by convention only"),
    ],
)
def test_what_a_selector_may_not_do_as_its_author_thinks_is_a_warning_and_strictly_a_refusal(
    of: str, doubt: str
) -> None:
    (warning,) = warnings(an_entry(of=of))
    assert doubt in warning
    with pytest.raises(Refused) as refused:
        check_entry(an_entry(of=of), trust_domain=TRUST_DOMAIN, node_attestors=["join_token"], now=NOW, strict=True)
    assert (refused.value.kind, refused.value.detail) == (Kind.INVALID, warning)


def test_strictly_an_entry_below_agent_and_a_group_are_accepted() -> None:
    group = an_entry("/group/travel", parent=ISSUER, of="join_token:label:team:travel")
    for entry in (group, an_entry("/agent/concierge/web", of="unix:uid:1")):
        check_entry(entry, trust_domain=TRUST_DOMAIN, node_attestors=["join_token"], now=NOW, strict=True)


def test_useless_node_selectors_are_warned_of() -> None:
    found = warnings(an_entry("/web", of="unix:uid:1 join_token:label:team:travel"))
    assert [warning.split(":")[0] for warning in found] == ["selectors"]


def test_parents_that_nobody_has_are_named_once_and_groups_need_none() -> None:
    entries = [an_entry("/a"), an_entry("/b"), an_entry("/c", parent="/known"), an_entry("/g", parent=ISSUER)]
    known = {SpiffeID(trust_domain=TRUST_DOMAIN, path="/known")}
    found = unknown_parents(entries, known)
    assert found == ("parent_id: no node or node group is spiffe://example.org/cognomen/node/join_token/n1 yet",)


def test_selectors_that_very_many_entries_of_a_parent_share_are_named() -> None:
    crowded, other = alike(an_entry("/a")), alike(an_entry("/b", of="unix:uid:7"))
    assert alike(an_entry("/b")) == crowded
    (found,) = too_many_alike({crowded: MOST_ALIKE + 1, other: MOST_ALIKE})
    assert found.startswith(f"selectors: more than {MOST_ALIKE} entries of {crowded.parent_id} have unix:")


def test_a_new_entry_gets_its_id_its_first_revision_and_its_birthday() -> None:
    entry = created(replace(an_entry(), revision=9), entry_id=EntryID("e1"), now=NOW)
    assert (entry.id, entry.revision, entry.created_at) == ("e1", 1, NOW)


def test_an_updated_entry_keeps_id_and_birthday_and_counts_on() -> None:
    stored = created(an_entry(), entry_id=EntryID("e1"), now=NOW)
    entry = updated(replace(an_entry("/new"), hint="x", created_at=NOW + timedelta(days=1)), stored)
    assert (entry.id, entry.revision, entry.created_at, entry.hint) == ("e1", 2, NOW, "x")


@pytest.mark.parametrize("name", [field.name for field in fields(RegistrationEntry)])
def test_an_update_changes_something_if_it_changes_what_an_operator_chooses(name: str) -> None:
    stored = created(an_entry(), entry_id=EntryID("e1"), now=NOW)
    other = replace(
        created(an_entry("/x", parent="/y", of="unix:uid:7"), entry_id=EntryID("e2"), now=NOW + timedelta(days=1)),
        x509_svid_ttl=timedelta(minutes=1), jwt_svid_ttl=timedelta(minutes=1), expires_at=NOW, dns_names=("a.example",),
        revision=2, hint="h", owner="ann", labels={"a": "b"}, default=True,
    )  # fmt: skip
    entry = copy(stored)
    object.__setattr__(entry, name, getattr(other, name) or True)  # what is not built yet cannot be made otherwise
    assert changes(entry, stored) == (name not in {"id", "revision", "created_at"})


def test_the_fingerprint_names_id_parent_and_selectors_and_nothing_else() -> None:
    entry = an_entry(of="unix:uid:1 unix:gid:2")
    assert fingerprint(replace(entry, id=EntryID("x"), hint="h", revision=3)) == fingerprint(entry)
    others = [an_entry("/x", of="unix:uid:1 unix:gid:2"), an_entry(parent="/x", of="unix:uid:1 unix:gid:2"), an_entry()]
    assert fingerprint(entry) not in {fingerprint(other) for other in others}


def test_a_node_group_cannot_observe() -> None:
    group = an_entry("/group", parent="/cognomen/issuer", of="join_token:label:a:b")
    with pytest.raises(Refused, match="observe: expected false for a node group, found true"):
        check_entry(replace(group, observe=True), trust_domain=TRUST_DOMAIN, node_attestors=("join_token",), now=NOW)


def test_another_entry_of_the_same_programs_that_is_marked_as_default_is_named() -> None:
    entry = replace(an_entry("/a"), id=EntryID("a"), default=True)
    others = [
        entry,
        replace(an_entry("/b"), id=EntryID("b")),
        replace(an_entry("/c", of="unix:uid:7"), id=EntryID("c"), default=True),
        replace(an_entry("/d"), id=EntryID("d"), default=True),
    ]
    (found,) = rivals(entry, others)
    assert found.startswith("default: /a and /d have the same parent and selectors")


def test_two_of_a_kind_in_one_batch_are_refused() -> None:
    check_no_twins([an_entry("/a"), an_entry("/b")])
    with pytest.raises(Refused) as refused:
        check_no_twins([an_entry("/a"), an_entry("/b"), replace(an_entry("/a"), hint="x")])
    assert refused.value.kind is Kind.EXISTS


@pytest.mark.parametrize("field", ["owner", "hint"])
def test_a_text_for_people_that_shows_nothing_is_refused(field: str) -> None:
    hidden = replace(an_entry(), **{field: "\u3164"})  # type: ignore[arg-type]  # both are texts
    assert refusal(hidden) == rf"{field}: expected a text that shows something, found '\u3164'"
    assert not warnings(replace(an_entry(), **{field: ""}))  # type: ignore[arg-type]  # both are texts


@pytest.mark.parametrize("labels", [{"\u2800": "a"}, {"a": " "}])
def test_a_label_that_shows_nothing_is_refused(labels: dict[str, str]) -> None:
    assert refusal(replace(an_entry(), labels=labels)).startswith("labels: expected a text that shows something")
    assert not warnings(replace(an_entry(), labels={"a": ""}))
