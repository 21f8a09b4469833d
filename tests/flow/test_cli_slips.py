"""Slips of the fingers: what can mean nothing here is refused or warned of, and does not look like an empty answer."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from tests.flow.commandline import Command

ME = f"unix:uid:{os.getuid()}"
GONE = "2020-01-01T00:00:00Z"
FAR = "2099-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("s"), "--entry", f"/fleet/concierge={ME}") as running:
        running.command("fetch", "x509")
        yield running


@pytest.fixture(scope="module")
def admin_socket(dev: Dev) -> Path:
    return dev.state / "admin" / "issuer.sock"


@pytest.mark.parametrize(
    "arguments",
    [
        ("svid", "list", "--spiffe-id=spiffe://evil.org/u1"),
        ("entry", "list", "--spiffe-id=spiffe://evil.org/u1"),
        ("entry", "list", "--below=spiffe://evil.org/u1"),
        ("entry", "list", "--below=spiffe://evil.org"),
        ("entry", "list", "--parent=spiffe://evil.org/cognomen/node/k8s/n1"),
        ("audit", "list", "--actor=spiffe://evil.org/x"),
        ("audit", "export", "--actor=spiffe://evil.org/x"),
        ("audit", "who", "--spiffe-id=spiffe://evil.org/u1", f"--at={GONE}"),
        ("audit", "who", "--below=spiffe://evil.org/u1", f"--since={GONE}"),
        ("revoke", "spiffe-id", "spiffe://evil.org/u1", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_filter_by_another_trust_domain_is_refused(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.code == 1, done
    assert "expected one of example.org, found spiffe://evil.org" in done.err


def test_a_parent_that_is_nothing_is_refused_but_not_one_that_an_entry_has(command: Command, node: str) -> None:
    nowhere = "/cognomen/node/join_token/nope"
    assert command("entry", "list", f"--parent={nowhere}").code == 4
    assert command("entry", "list", "--parent=/no-nodes").code == 4
    command("entry", "create", "--spiffe-id=/group", "--parent=/cognomen/issuer", "--selector=join_token:label:a:b")
    for parent in ("/group", "/cognomen/issuer", node):
        assert command("entry", "list", f"--parent={parent}", "-o", "json").code == 0
    command("entry", "create", "--spiffe-id=/orphan", f"--parent={nowhere}", "--selector=unix:uid:4294967290")
    assert len(command("entry", "list", f"--parent={nowhere}", "-o", "json").rows("entries")) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("audit", "who", "--spiffe-id=/fleet/concierg", f"--at={GONE}"), "did you mean /fleet/concierge?"),
        (("audit", "who", "--below=/flet", f"--since={GONE}"), "no entry has the SPIFFE ID /flet or one below it"),
        (("svid", "list", "--spiffe-id=/fleet/concierg"), "did you mean /fleet/concierge?"),
        (("audit", "who", "--owner=travel-tem", f"--since={GONE}"), "did you mean travel-team?"),
    ],
)
def test_a_name_that_nobody_has_or_had_is_not_found(command: Command, arguments: tuple[str, ...], told: str) -> None:
    (entry,) = command("entry", "list", "--spiffe-id=/fleet/concierge", "-o", "json").rows("entries")
    command("entry", "update", str(entry["id"]), "--owner=travel-team")
    done = command(*arguments)
    assert (done.code, done.out) == (4, "")
    assert told in done.err


def test_an_identity_that_nobody_has_now_is_known_if_an_entry_had_it(command: Command, node: str) -> None:
    command("entry", "create", "--spiffe-id=/had", f"--parent={node}", "--selector=unix:uid:4294967290")
    command("entry", "delete", "/had")
    for asked in (("svid", "list"), ("audit", "who", f"--at={GONE}")):
        assert command(*asked, "--spiffe-id=/had", "-o", "json").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "who", "--spiffe-id=/fleet/concierge", f"--at={FAR}"),
        ("audit", "who", "--spiffe-id=/fleet/concierge", f"--since={FAR}"),
    ],
)
def test_what_has_not_happened_yet_cannot_be_asked(command: Command, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert f"that is not in the future, found {FAR}" in done.err


def test_a_time_before_the_ledger_began_is_told(command: Command) -> None:
    done = command("audit", "who", "--spiffe-id=/fleet/concierge", f"--at={GONE}")
    assert done.code == 0
    assert "the ledger begins at 20" in done.err


def test_a_selector_that_matches_nothing_is_warned_of(command: Command) -> None:
    done = command("entry", "list", "--selector=uid:65534")
    assert done.code == 0
    assert "found 'uid:65534', which matches nothing" in done.err


def test_a_revocation_that_ends_nothing_says_what_would_fall_below(command: Command) -> None:
    done = command("revoke", "spiffe-id", "/fleet", "--dry-run")
    assert done.code == 0
    assert "nothing valid has this SPIFFE ID alone; with --below, " in done.err
    assert "would be revoked" in done.err
    assert not [
        line
        for line in command("revoke", "spiffe-id", "/fleet", "--below", "--dry-run").err.splitlines()
        if "warning" in line
    ]
    told = command("revoke", "spiffe-id", "/fleet/concierg", "--dry-run").err
    assert (
        "no entry has the SPIFFE ID /fleet/concierg, and nothing was signed for it (did you mean /fleet/concierge?)"
        in told
    )


def test_a_path_without_its_slash_is_hinted_at(command: Command, node: str) -> None:
    command(
        "entry", "create", "--spiffe-id=/travel-nodes", "--parent=/cognomen/issuer", "--selector=join_token:label:a:c"
    )
    command("entry", "create", "--spiffe-id=/web", f"--parent={node}", "--selector=unix:uid:4294967291")
    for asked, name in (
        (("entry", "create", "--spiffe-id=/x", "--parent=travel-nodes", "--selector=unix:uid:1"), "travel-nodes"),
        (("entry", "list", "--parent=travel-nodes"), "travel-nodes"),
        (("entry", "update", "web", "--owner=ann"), "web"),
        (("entry", "show", "web"), "web"),
        (("entry", "delete", "web"), "web"),
        (("entry", "history", "web"), "web"),
        (("svid", "list", "--entry-id=web"), "web"),
        (("revoke", "entry", "web"), "web"),
    ):
        done = command(*asked)
        assert (done.code, done.out) == (4, "")
        assert f"hint: did you mean /{name}?" in done.err
    for listing in ("svid list", "entry list", f"audit who --at={GONE}"):
        done = command(*listing.split(), "--spiffe-id=web")
        assert done.code == 1
        assert "or a path such as /web, found 'web'" in done.err


def test_an_actor_that_nobody_is_is_answered_with_what_one_can_be(command: Command) -> None:
    for text, hint in (
        ("65534", "did you mean uid:65534?"),
        ("root", "did you mean uid:0?"),
        ("nobody-here", "node list"),
    ):
        done = command("audit", "list", f"--actor={text}")
        assert (done.code, done.out) == (4, "")
        assert f"expected uid:UID, a node, a SPIFFE ID or one of issuer, many, stranger, found '{text}'" in done.err
        assert hint in done.err


def test_a_deleted_entry_is_found_by_the_path_that_it_had(command: Command, node: str) -> None:
    command("entry", "create", "--spiffe-id=/concierge", f"--parent={node}", "--selector=unix:uid:4294967292")
    command("entry", "delete", "/concierge")
    assert command("svid", "list", "--entry-id=/concierge", "-o", "json").code == 0
    rows = command("audit", "list", "--entry-id=/concierge", "-o", "json").rows("rows")
    assert [row["action"] for row in rows] == ["entry created", "entry deleted"]
    for asked in (("svid", "list"), ("audit", "list")):
        assert (
            "no entry has the id or SPIFFE ID '/never', and no deleted one had it"
            in command(*asked, "--entry-id=/never").err
        )


def test_what_was_a_nodes_is_listed_by_the_short_id_that_tables_show(tmp_path: Path) -> None:
    with Dev(tmp_path, "--entry", f"/web={ME}") as dev:
        dev.command("fetch", "x509")
        (node,) = dev.admin("node", "list")["nodes"]
        dev.admin("entry", "create", "--spiffe-id=/its", f"--parent={node['id']}", "--selector=unix:uid:4294967290")
        dev.admin("node", "evict", str(node["id"]))
        for text in (str(node["id"]), str(node["id"])[:8], str(node["spiffe_id"])):
            listed = dev.admin("entry", "list", "--parent", text)["entries"]
            assert "spiffe://example.org/its" in {str(one["spiffe_id"]) for one in listed}
            assert dev.admin("svid", "list", "--node-id", text)["credentials"]
            assert dev.admin("audit", "list", "--node-id", text)["rows"]
            selector = f"--selector=unix:path:/{len(text)}"
            made = dev.admin("entry", "create", "--spiffe-id=/later", f"--parent={text}", selector)["entries"]
            assert [one["parent_id"] for one in made] == [node["spiffe_id"]]
        shown = dev.run("entry", "list", "--socket", str(dev.state / "admin" / "issuer.sock")).stdout
        assert str(node["id"])[:8] in shown
        assert str(node["spiffe_id"]) not in shown
