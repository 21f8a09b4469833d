"""Short ids, SPIFFE IDs and paths in place of ids, in every command that takes one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from tests.flow.commandline import Command, Done

ME = f"unix:uid:{os.getuid()}"
NODE = "/cognomen/node/join_token/"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("n"), "--entry", f"/web={ME}") as running:
        running.command("fetch", "x509")
        yield running


@pytest.fixture(scope="module")
def admin_socket(dev: Dev) -> Path:
    return dev.state / "admin" / "issuer.sock"


def create(command: Command, path: str, node: str, *more: str) -> str:
    made = command(
        "entry", "create", f"--spiffe-id={path}", f"--parent={node}", "--selector=unix:uid:4294967290", *more, "-o", "json"
    )  # fmt: skip
    return str(made.rows("entries")[0]["id"])


def ids(done: Done, key: str = "id", name: str = "entries") -> list[object]:
    return [row[key] for row in done.rows(name)]


def test_an_entry_is_meant_by_its_beginning_its_spiffe_id_and_its_path(command: Command, node: str) -> None:
    entry_id = create(command, "/naming/one", node[:8])
    for text in (entry_id, entry_id[:12], "/naming/one", "spiffe://example.org/naming/one"):
        assert command("entry", "show", text, "-o", "json").document["id"] == entry_id
        assert command("entry", "history", text, "-o", "json").document["id"] == entry_id
        assert command("svid", "list", f"--entry-id={text}", "-o", "json").code == 0
        assert command("audit", "list", f"--entry-id={text}", "-o", "json").rows("rows")
        assert command("revoke", "entry", text, "--dry-run", "-o", "json").code == 0
    assert command("entry", "show", entry_id[:12], "--revision=1", "-o", "json").document["id"] == entry_id
    assert ids(command("entry", "update", entry_id[:12], "--owner=ann", "-o", "json")) == [entry_id]
    assert ids(command("entry", "delete", "/naming/one", "-o", "json")) == [entry_id]
    assert command("entry", "history", entry_id[:12], "-o", "json").document["id"] == entry_id
    assert command("entry", "show", entry_id[:12]).code == 4


def test_what_can_mean_several_things_is_refused_with_all_of_them(command: Command, node: str) -> None:
    some = [create(command, "/naming/twice", node, f"--selector=unix:path:/{name}") for name in "ab"]
    for verb in ("show", "delete", "history"):
        done = command("entry", verb, "/naming/twice")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: entry: '/naming/twice' can mean ")
        assert all(one in done.err for one in some)
        assert "hint: nothing was done: use the whole id, or more characters of it" in done.err
    before = command("revoke", "list", "-o", "json").rows("revocations")
    assert command("revoke", "entry", "/naming/twice", "--wait").code == 1
    assert sorted(map(str, ids(command("entry", "list", "--spiffe-id=/naming/twice", "-o", "json")))) == sorted(some)
    assert command("revoke", "list", "-o", "json").rows("revocations") == before


def test_one_of_several_texts_that_is_ambiguous_means_that_nothing_is_done(command: Command, node: str) -> None:
    kept = create(command, "/naming/kept", node)
    for name in "ab":
        create(command, "/naming/many", node, f"--selector=unix:path:/{name}")
    assert command("entry", "delete", kept, "/naming/many").code == 1
    assert command("entry", "show", kept).code == 0


def test_an_entry_that_is_gone_is_meant_by_the_spiffe_id_that_it_had(command: Command, node: str) -> None:
    first = create(command, "/naming/gone", node)
    assert command("entry", "update", first, "--spiffe-id=/naming/moved").code == 0
    for text in ("/naming/gone", "spiffe://example.org/naming/gone"):
        told = command("entry", "history", text)  # it is there, and has another one
        assert (told.code, f"no entry has the id or SPIFFE ID '{text}'" in told.err) == (4, True)
    assert command("revoke", "entry", "/naming/gone", "--dry-run").code == 4
    assert command("entry", "delete", first).code == 0
    for text in ("/naming/gone", "/naming/moved", "spiffe://example.org/naming/moved"):
        assert command("entry", "history", text, "-o", "json").document["id"] == first
        assert command("entry", "show", text, "--revision=1", "-o", "json").document["id"] == first
        assert command("svid", "list", f"--entry-id={text}", "-o", "json").code == 0
        assert command("audit", "list", f"--entry-id={text}", "-o", "json").rows("rows")
        assert command("entry", "show", text).code == 4
    second = create(command, "/naming/gone", node)
    assert command("entry", "history", "/naming/gone", "-o", "json").document["id"] == second
    assert command("entry", "delete", second).code == 0
    told = command("entry", "history", "/naming/gone")
    assert (told.code, first in told.err, second in told.err) == (1, True, True)


def test_too_little_of_an_id_means_nothing(command: Command, node: str) -> None:
    entry_id = create(command, "/naming/short", node)
    assert command("entry", "show", entry_id[:3]).code == 4


def test_a_node_is_meant_in_the_same_ways(command: Command, node: str) -> None:
    for text in (node, node[:6], f"{NODE}{node}", f"{NODE}{node[:8]}", f"spiffe://example.org{NODE}{node}"):
        assert command("node", "show", text, "-o", "json").document["id"] == node
        assert command("node", "invite", f"--node-id={text}", "-o", "json").code == 0
        assert ids(command("svid", "list", f"--node-id={text}", "--kind=node", "-o", "json"), "node_id", "credentials")
        assert command("audit", "list", f"--node-id={text}", "-o", "json").rows("rows")
    assert ids(command("entry", "list", f"--parent={node[:6]}", "-o", "json"), "parent_id")
    assert command("audit", "list", f"--actor={node[:6]}", "-o", "json").rows("rows")
    assert command("node", "show", f"{NODE}{'f' * 32}").code == 4


def test_a_credential_is_meant_by_its_beginning(command: Command) -> None:
    found = command("svid", "list", "--kind=x509", "-o", "json").rows("credentials")
    serial = str(found[0]["serial"])
    assert command("svid", "show", serial[:16].upper(), "-o", "json").document["serial"] == serial
    assert command("audit", "list", f"--credential={serial[:16]}", "-o", "json").rows("rows")
    dry = command("revoke", "svid", serial[:16], "--dry-run", "-o", "json").document["revocation"]
    assert isinstance(dry, dict)
    assert dry["target"]["serials"] == [serial]


def test_an_authority_is_meant_by_its_beginning(command: Command) -> None:
    authorities = command("authority", "list", "-o", "json").rows("authorities")
    (ready,) = (str(one["key_id"]) for one in authorities if (one["kind"], one["state"]) == ("jwt", "next"))
    assert command("authority", "activate", "jwt-").code == 1
    done = command("authority", "activate", ready[:10], "--force", "-o", "json")
    assert [one["state"] for one in done.rows("authorities") if one["key_id"] == ready] == ["active"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("svid", "list", "--entry={entry}"),
        ("svid", "list", "--node={node}"),
        ("audit", "list", "--entry={entry}"),
        ("audit", "list", "--node={node}", "--after=2", "--limit=1"),
        ("audit", "export", "--after=2"),
        ("audit", "tail", "--page-size=1"),
        ("node", "invite", "--node={node}"),
        ("revoke", "issued-before", "2026-11-23T08:00:00Z", "--entry={entry}", "--node={node}", "--dry-run"),
        ("entry", "list", "--limit=1", "--after="),
    ],
)
def test_the_words_of_earlier_releases_still_work(command: Command, node: str, arguments: tuple[str, ...]) -> None:
    (entry,) = ids(command("entry", "list", "--spiffe-id=/web", "-o", "json"))
    done = command(*(one.format(entry=entry, node=node) for one in arguments))
    assert done.code == 0, done.err


def test_help_shows_one_word_for_each_thing(command: Command) -> None:
    for name in ("svid list", "audit list", "node invite", "revoke issued-before"):
        shown = command(*name.split(), "--help").out
        assert "--node-id NODE" in shown
        assert "--node " not in shown
        assert "--limit" not in shown
        assert "--after" not in shown
