"""cognomen/rulebook/importing, with parents and placing: what becomes of SPIRE's entries, and of ours."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cognomen.protocol.selector import Selector
from cognomen.rulebook.equality import differences
from cognomen.rulebook.given import Choices, Extra, GivenEntry
from cognomen.rulebook.importing import Imported, import_entries
from cognomen.rulebook.importmap import parse_nodes
from cognomen.rulebook.rules import ComponentName
from cognomen.rulebook.writing import written
from svid.spiffeid import SpiffeID, TrustDomain
from tests.unit.cognomen.rulebook.spireentries import entry, imported

DOMAIN = TrustDomain("example.org")
AGENT = "/spire/agent/join_token/7f3a"
CRM = "/agent/concierge/crm"


def reasons(result: Imported) -> list[str]:
    return [f"{one.reason}; {one.mend}" for one in result.left_out]


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, filter(None, texts)))


def test_several_sets_of_selectors_are_one_component() -> None:
    result = imported(entry(CRM, AGENT, "unix:uid:2"), entry(CRM, AGENT, "unix:uid:1", "unix:gid:1"))
    component = result.rulebook.component(ComponentName("concierge", "crm"))
    assert component is not None
    assert component.proofs == (selectors("unix:gid:1", "unix:uid:1"), selectors("unix:uid:2"))
    assert component.nodes == parse_nodes(["join_token:label:spire-agent:join_token/7f3a"])
    assert result.left_out == []


@pytest.mark.parametrize(
    ("path", "choices", "words"),
    [
        ("/ns/travel/sa/crm", Choices(), "--rename, with --agent"),
        ("/ns/travel/sa/crm", Choices(agent_from=2), "--rename, and tell the new one"),
        ("/ns/travel/sa/crm", Choices(renames=True), "--rename, with --agent"),
        ("/ns/TRAVEL_/sa/crm", Choices(renames=True, agent_from=2), "--rename, with --agent"),
        ("/agent/a/b/c", Choices(), "--rename, with --agent"),
        ("/agent/a", Choices(), "--rename, with --agent"),
        ("/agent/A/b", Choices(), "--rename, with --agent"),
        ("/web", Choices(renames=True, agent_from=7), "--rename, with --agent"),
    ],
)
def test_an_id_that_cannot_stay_is_left_out_with_what_helps(path: str, choices: Choices, words: str) -> None:
    result = imported(entry(path, AGENT, "unix:uid:1"), choices=choices)
    (told,) = reasons(result)
    assert "its SPIFFE ID cannot stay" in told
    assert words in told
    assert result.placed == []


@pytest.mark.parametrize(
    ("path", "choices", "name"),
    [
        ("/ns/travel/sa/crm", Choices(renames=True, agent_from=2), "travel/crm"),
        ("/ns/Travel/sa/crm", Choices(renames=True, agent_from=2, component_from=3), "travel/sa"),
        ("/web", Choices(renames=True, agent="site"), "site/web"),
        ("/web", Choices(renames=True, names={"/web": ComponentName("a", "b")}), "a/b"),
        ("/agent/a/b", Choices(agent="other"), "a/b"),
        ("/agent/a/b", Choices(renames=True, names={"/agent/a/b": ComponentName("c", "d")}), "c/d"),
    ],
)
def test_a_component_is_named_by_the_map_or_by_its_path(path: str, choices: Choices, name: str) -> None:
    result = imported(entry(path, AGENT, "unix:uid:1"), choices=choices)
    assert [str(one.name) for one in result.placed] == [name]
    assert result.left_out == []


def test_two_ids_do_not_become_one_component() -> None:
    result = imported(
        entry("/a/crm", AGENT, "unix:uid:1"),
        entry("/b/crm", AGENT, "unix:uid:2"),
        choices=Choices(renames=True, agent="x"),
    )
    assert [one.what for one in result.left_out] == ["/a/crm", "/b/crm"]
    assert all("/a/crm, /b/crm would all be /agent/x/crm" in one for one in reasons(result))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"x509_svid_ttl": 60}, "differ in x509_ttl"),
        ({"jwt_svid_ttl": 60}, "differ in jwt_ttl"),
        ({"dns_names": ["a"]}, "differ in dns_names"),
        ({"parent_id": {"trust_domain": "example.org", "path": "/spire/agent/x509pop/1"}}, "is on different nodes"),
    ],
)
def test_entries_of_one_id_that_differ_are_no_component(more: dict[str, object], words: str) -> None:
    result = imported(entry(CRM, AGENT, "unix:uid:1"), entry(CRM, AGENT, "unix:uid:2", **more))
    assert len(result.left_out) == 2
    assert all(words in one for one in reasons(result))


def test_different_nodes_become_one_kind_by_the_operators_choice() -> None:
    both = (entry(CRM, AGENT, "unix:uid:1"), entry(CRM, "/spire/agent/x509pop/1", "unix:uid:1"))
    nodes = parse_nodes(["join_token:label:team:travel"])
    for choices in (
        Choices(other_nodes=nodes),
        Choices(nodes={AGENT: nodes, "/spire/agent/x509pop/1": nodes}),
    ):
        result = imported(*both, choices=choices)
        assert result.left_out == []
        assert {one.nodes for one in result.placed} == {nodes}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hint", "crm"),
        ("expires_at", "1900000000"),
        ("federates_with", ["partner.example"]),
        ("admin", True),
        ("downstream", True),
        ("store_svid", True),
        ("additional_attributes", {"disable_x509_svid_prefetch": True}),
    ],
)
def test_what_a_rulebook_has_no_word_for_is_lost_only_if_it_may_be(key: str, value: object) -> None:
    given_entry = entry(CRM, AGENT, "unix:uid:1", **{key: value})
    assert reasons(imported(given_entry)) == [
        f"a rulebook has no word for its {key}; if it may lose that: --drop {key}"
    ]
    result = imported(given_entry, choices=Choices(drops=frozenset({Extra(key)})))
    assert (result.left_out, len(result.placed)) == ([], 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("k8s:ns:travel", "no workload attestor of ours writes selectors of the type k8s; --keep-selector-types"),
        ("unix:uid:ann", "which matches nothing"),
        ("unix:pid:1", "which matches nothing"),
    ],
)
def test_selectors_that_nothing_shows_here_are_left_out(text: str, words: str) -> None:
    (told,) = reasons(imported(entry(CRM, AGENT, text, "unix:gid:1")))
    assert words in told


def test_foreign_types_are_kept_if_asked_for() -> None:
    result = imported(
        entry("/cluster", "/spire/server", "k8s_psat:cluster:a"),
        entry(CRM, "/cluster", "k8s:ns:travel", "k8s:sa:crm"),
        choices=Choices(keeps_types=True),
    )
    assert result.left_out == []
    assert result.rulebook.workload_types == {"unix", "k8s"}
    assert result.rulebook.node_types == {"join_token", "k8s_psat"}
    text = written(result.rulebook)
    assert '[selector_types]\nworkload = ["k8s"]\nnode = ["k8s_psat"]\n' in text


@pytest.mark.parametrize(
    ("aliases", "parent", "words"),
    [
        ([], "/nobody", "its parent is neither a node nor a group of nodes: /nobody"),
        ([("k8s_psat:cluster:a",)], "/g", "no node attestor of ours writes selectors of the type k8s_psat"),
        ([("join_token:team:a",)], "/g", "expected join_token:label:KEY:VALUE"),
        ([("join_token:label:a:1",), ("join_token:label:b:1",)], "/g", "is on different nodes"),
        ([("join_token:label:a:1", "join_token:label:a:2")], "/g", "at most one join_token:label:a"),
        ([("spiffe_id:spiffe://example.org/web",)], "/g", "is no agent of SPIRE"),
        ([("spiffe_id:nothing",)], "/g", "its parent /g: "),
        ([("spiffe_id:spiffe://example.org/spire/agent/x", "join_token:label:a:1")], "/g", "cannot be among nodes"),
        ([], f"/spire/agent/{'x' * 257}", "too long for a label"),
        ([], "/spire/agent", "it is for every node of its cluster; say which nodes these are: --nodes"),
        ([], CRM, "its parents are below each other, and below no node"),
    ],
)
def test_a_parent_that_is_no_nodes_is_told(aliases: Sequence[tuple[str, ...]], parent: str, words: str) -> None:
    groups = [entry("/g", "/spire/server", *texts) for texts in aliases]
    result = imported(*groups, entry(CRM, parent, "unix:uid:1"))
    assert result.placed == []
    assert words in " ".join(reasons(result))


def test_the_alias_of_a_join_token_is_its_agent() -> None:
    result = imported(
        entry("/host", "/spire/server", f"spiffe_id:spiffe://example.org{AGENT}"),
        entry(CRM, "/host", "unix:uid:1"),
    )
    assert [str(one.nodes) for one in result.placed] == ["join_token:label:spire-agent:join_token/7f3a"]


def test_a_group_on_which_nothing_is_is_told() -> None:
    result = imported(entry("/g", "/spire/server", "join_token:label:a:1"), entry(CRM, AGENT, "unix:uid:1"))
    assert [one.spiffe_id.path for one in result.unused] == ["/g"]
    assert result.left_out == []


def test_an_alias_that_ends_is_no_group_unless_it_need_not_end() -> None:
    both = (
        entry("/g", "/spire/server", "join_token:label:a:1", expires_at=1_900_000_000),
        entry(CRM, "/g", "unix:uid:1"),
    )
    assert reasons(imported(*both)) == ["its parent /g has expires_at; if it need not end: --drop expires_at"]
    assert imported(*both, choices=Choices(drops=frozenset({Extra.EXPIRES_AT}))).left_out == []


def test_lifetimes_that_no_entry_of_ours_has_are_left_out() -> None:
    (told,) = reasons(imported(entry(CRM, AGENT, "unix:uid:1", x509_svid_ttl=604_800)))
    assert told.startswith("x509_svid_ttl: expected 1 to 86400 seconds, found 604800")


def test_entries_of_another_trust_domain_are_left_out() -> None:
    other = entry(CRM, AGENT, "unix:uid:1") | {"spiffe_id": {"trust_domain": "other.example", "path": CRM}}
    assert reasons(imported(entry(CRM, AGENT, "unix:uid:1"), other)) == [
        "it is not of the trust domain example.org; import it apart"
    ]


@pytest.mark.parametrize(
    "parent", ["/cognomen/node/join_token/x", "/cognomen/issuer", "/spire/server", "/spire/agent/x509pop/7f", "/g"]
)
def test_entries_below_a_parent_of_another_trust_domain_are_left_out(parent: str) -> None:
    foreign = {"parent_id": {"trust_domain": "other.example", "path": parent}}
    group = entry("/g", "/spire/server", "join_token:label:a:1")
    result = imported(group, entry(CRM, AGENT, "unix:uid:1"), entry(CRM, AGENT, "unix:uid:2") | foreign)
    (told,) = reasons(result)
    assert told == (
        f"its parent is of another trust domain than example.org: spiffe://other.example{parent}; "
        "change it where it comes from, and import it again"
    )
    assert [one.entry.selectors for one in result.placed] == [selectors("unix:uid:1")]


def test_the_alias_of_an_agent_of_another_trust_domain_is_no_group() -> None:
    result = imported(
        entry("/g", "/spire/server", "spiffe_id:spiffe://other.example/spire/agent/x509pop/7f"),
        entry(CRM, "/g", "unix:uid:1"),
    )
    (told,) = reasons(result)
    assert told.startswith(
        "its parent /g is an agent of another trust domain: spiffe://other.example/spire/agent/x509pop/7f; "
    )


def _own(path: str, *texts: str, **more: object) -> GivenEntry:
    one = GivenEntry(
        where="entry 1",
        spiffe_id=SpiffeID.parse(f"spiffe://example.org{path}"),
        parent_id=SpiffeID.parse("spiffe://example.org/cognomen/node/join_token/1"),
        selectors=selectors(*texts),
        is_spire=False,
    )
    return replace(one, **more)  # type: ignore[arg-type]  # the test gives fields of their types


def _import_own(*entries: GivenEntry, choices: Choices | None = None) -> Imported:
    result = import_entries(entries, DOMAIN, choices or Choices(owner="a@example.org", purpose="p"))
    assert list(differences(written(result.rulebook), result.placed, DOMAIN)) == []
    return result


def test_audiences_become_calls_and_external_audiences() -> None:
    result = _import_own(
        _own("/agent/a/x", "unix:uid:1", audiences=("https://crm.example.org", "spiffe://example.org/agent/a/y")),
        _own("/agent/a/y", "unix:uid:2", audiences=()),
    )
    component = result.rulebook.component(ComponentName("a", "x"))
    assert component is not None
    assert component.may_call == (ComponentName("a", "y"),)
    assert component.audiences == ("https://crm.example.org",)


def test_whoever_may_call_what_is_not_imported_is_left_out_with_it() -> None:
    result = _import_own(
        _own("/agent/a/x", "unix:uid:1", audiences=("spiffe://example.org/agent/a/y",)),
        _own("/agent/a/y", "unix:uid:2", audiences=("spiffe://example.org/agent/a/z",)),
        _own("/agent/a/w", "unix:uid:3"),
    )
    assert sorted(one.what for one in result.left_out) == ["/agent/a/x", "/agent/a/y"]
    assert [str(one.name) for one in result.placed] == ["a/w"]


def test_an_entry_of_ours_is_on_no_node_below_a_workload() -> None:
    workload = SpiffeID.parse("spiffe://example.org/agent/a/x")
    result = _import_own(_own("/agent/a/x", "unix:uid:1"), _own("/agent/a/y", "unix:uid:2", parent_id=workload))
    (told,) = reasons(result)
    assert told.startswith("its parent is neither a node nor a group of nodes: /agent/a/x")


def test_an_agent_has_the_owner_and_labels_of_its_entries_if_they_agree() -> None:
    labels = {"tier": "2"}
    result = _import_own(
        _own("/agent/a/x", "unix:uid:1", owner="ann", labels=labels),
        _own("/agent/a/y", "unix:uid:2", owner="ann", labels=labels),
        _own("/agent/b/x", "unix:uid:3", owner="ann", labels=labels),
        _own("/agent/b/y", "unix:uid:4", owner="bob"),
        choices=Choices(people={"b": ("carol", "sells")}),
    )
    found = {name: (one.owner, one.purpose, dict(one.labels)) for name, one in result.rulebook.agents.items()}
    assert found == {"a": ("ann", "TODO: what is it for?", labels), "b": ("carol", "sells", {})}
    assert result.mixed_labels == ["b"]
    assert result.mixed_owners == []  # the map names the owner


def test_owners_that_differ_are_told_and_none_at_all_differs_from_nobody() -> None:
    result = _import_own(
        _own("/agent/a/x", "unix:uid:1", owner="ann"),
        _own("/agent/a/y", "unix:uid:2", owner="bob"),
        _own("/agent/b/x", "unix:uid:3", owner="ann"),
        _own("/agent/b/y", "unix:uid:4"),
    )
    assert {name: one.owner for name, one in result.rulebook.agents.items()} == {"a": "a@example.org", "b": "ann"}
    assert result.mixed_owners == ["a"]


def test_below_another_workload_of_spire_is_on_its_nodes() -> None:
    result = imported(
        entry(CRM, AGENT, "unix:uid:1"),
        entry("/agent/concierge/child", CRM, "unix:uid:2"),
        entry("/agent/concierge/grandchild", "/agent/concierge/child", "unix:uid:3"),
    )
    assert [str(one.nodes) for one in result.placed] == ["join_token:label:spire-agent:join_token/7f3a"] * 3


@pytest.mark.parametrize("step", [1, -1])
def test_however_many_workloads_are_above_it_takes_no_longer(step: int) -> None:
    chain = [entry(f"/agent/a/c{one}", f"/agent/a/c{one - 1}" if one else AGENT, "unix:uid:1") for one in range(2000)]
    result = imported(
        *chain[::step], entry("/agent/b/x", "/agent/b/y", "unix:uid:1"), entry("/agent/b/y", "/agent/b/x", "unix:uid:1")
    )
    assert (len(result.placed), len(result.left_out)) == (2000, 2)
    assert {str(one.nodes) for one in result.placed} == {"join_token:label:spire-agent:join_token/7f3a"}


def test_whatever_is_below_a_parent_that_is_no_nodes_is_left_out() -> None:
    result = imported(entry(CRM, "/nobody", "unix:uid:1"), entry("/agent/a/b", CRM, "unix:uid:2"))
    assert [reason.split(";")[0] for reason in reasons(result)] == [
        "its parent is neither a node nor a group of nodes: /nobody",
        "its parent is neither a node nor a group of nodes: /nobody",
    ]
