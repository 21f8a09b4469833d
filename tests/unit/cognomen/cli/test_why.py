"""What `cognomen why` says about entries that nothing can match."""

from cognomen.cli.why import audience_is_allowed, audience_lines, none_because, useless
from svid.encoding import JSON


def test_a_lacking_selector_that_no_program_can_have_is_named() -> None:
    near = [
        {"spiffe_id": "spiffe://example.org/a", "lacks": ["unix:uid:1", "k8s:ns:web"]},
        {"spiffe_id": "spiffe://example.org/b", "lacks": ["unix:path:/usr/bin/../bin/sh"]},
    ]
    (line,) = useless(near)
    assert line.startswith(
        "spiffe://example.org/b: expected an absolute path without empty, . or .. segments, found unix:"
    )


def test_an_entry_whose_selectors_no_program_can_have_all_is_named() -> None:
    near = [
        {"spiffe_id": "spiffe://example.org/a", "lacks": ["unix:uid:2"], "selectors": ["unix:uid:2", "unix:gid:1"]},
        {"spiffe_id": "spiffe://example.org/b", "lacks": ["unix:uid:2"], "selectors": ["unix:uid:1", "unix:uid:2"]},
        {"spiffe_id": "spiffe://example.org/c", "lacks": ["unix:path:/a", "unix:path:/b"], "selectors": []},
    ]
    of_b, of_c = useless(near)
    assert of_b == (
        "spiffe://example.org/b: expected at most one unix:uid, because all selectors of an entry must match, "
        "found 'unix:uid:1' and 'unix:uid:2'"
    )
    assert of_c.startswith("spiffe://example.org/c: expected at most one unix:path, ")


def because(*, matches: list[JSON] | None = None, blocked: list[JSON] | None = None, knows_blocks: bool = True) -> str:
    document: dict[str, JSON] = {
        "node_spiffe_id": "spiffe://example.org/n",
        "matches": matches or [],
        "blocked": blocked or [],
    }
    return " ".join(none_because(document, knows_blocks=knows_blocks))


def test_why_says_that_the_only_rule_that_matches_observes() -> None:
    document: dict[str, JSON] = {
        "node_spiffe_id": "spiffe://example.org/n",
        "matches": [],
        "observed": [{"entry_id": "e", "spiffe_id": "spiffe://example.org/agent/a/b"}],
    }
    (line,) = none_because(document, knows_blocks=True)
    assert line.startswith("no identity: it would be /agent/a/b; that rule only observes")
    assert list(none_because({**document, "matches": [{"entry_id": "x"}]}, knows_blocks=True)) == []


def test_why_names_the_suspension_and_the_command_that_ends_it() -> None:
    row: dict[str, JSON] = {
        "spiffe_id": "spiffe://example.org/agent/a/b",
        "suspended": "a",
        "actor": "uid:0",
        "comment": "PR 7",
        "not_looked_at": [],
    }
    document: dict[str, JSON] = {"node_spiffe_id": "spiffe://example.org/n", "matches": [], "suspended": [row]}
    first, *_ = none_because(document, knows_blocks=True)
    by = "but a is suspended beside the rules by uid:0 PR 7: cognomen agent resume a"
    assert first == f"no identity: it would be /agent/a/b; {by}"
    document["suspended"] = [{**row, "not_looked_at": ["unix:path"]}]
    first, *_ = none_because(document, knows_blocks=True)
    assert (
        first == f"no identity: it may be /agent/a/b, depending on unix:path, at which the attestor did not look; {by}"
    )


def test_why_there_is_no_identity_tells_blocked_entries_from_those_that_do_not_match() -> None:
    here = "its parent is this node (spiffe://example.org/n) or a group that the node belongs to"
    assert because(matches=[{"entry_id": "e"}]) == ""
    assert because() == f"no identity: an entry matches if the process has all of its selectors, and {here}"
    blocked = because(blocked=[{"entry_id": "e"}])
    assert blocked.startswith("no identity: the blocked entries above give none until their revocations are lifted;")
    assert "an entry matches if" not in blocked
    assert "an entry that matches may still be blocked by a revocation: ask" in because(knows_blocks=False)


def test_each_identity_says_which_audiences_its_rule_lists() -> None:
    rows: list[dict[str, JSON]] = [
        {"spiffe_id": "spiffe://example.org/a", "audiences": None},
        {"spiffe_id": "spiffe://example.org/b", "audiences": ["x", "y"]},
        {"spiffe_id": "spiffe://example.org/c", "audiences": []},
    ]
    assert list(audience_lines(rows)) == [
        "/a: JWT-SVIDs for any audience",
        "/b: JWT-SVIDs only for x, y",
        "/c: no JWT-SVIDs",
    ]


def test_an_audience_that_nobody_gets_a_token_for_is_not_allowed() -> None:
    assert audience_is_allowed({})
    assert audience_is_allowed({"audience": "x", "audience_allowed": ["spiffe://example.org/a"]})
    assert not audience_is_allowed({"audience": "x", "audience_allowed": []})
