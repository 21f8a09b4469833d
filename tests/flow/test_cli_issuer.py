"""The commands that speak to the issuer, against a real one in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bench.rig.daemons import COGNOMEN
from cognomen.protocol.invite import Invite
from tests.flow.commandline import NODE, Command, Done


def create(command: Command, path: str, *more: str) -> Mapping[str, object]:
    done = command(
        "entry", "create", "--spiffe-id", path, "--parent", NODE, "--selector", "unix:uid:1", "--output", "json", *more
    )
    return done.rows("entries")[0]


def create_from(command: Command, file: Path, entries: Sequence[Mapping[str, object]]) -> Done:
    file.write_text(json.dumps(entries))
    return command("entry", "create", "--from", str(file), "--output", "json")


def entry_of(path: str, **fields: object) -> dict[str, object]:
    return {"spiffe_id": path, "parent_id": NODE, "selectors": ["unix:uid:1"], **fields}


def test_an_entry_is_created_from_flags_with_bare_paths_completed(command: Command, path: str) -> None:
    entry = create(
        command, path, "--selector", "unix:path:/a", "--x509-svid-ttl", "10m", "--jwt-svid-ttl", "90s", "--dns", "a.example",
        "--hint", "h", "--owner", "ann", "--label", "team=travel", "--expires-at", "2099-01-01T00:00:00Z",
    )  # fmt: skip
    assert entry["spiffe_id"] == f"spiffe://example.org{path}"
    assert entry["parent_id"] == f"spiffe://example.org{NODE}"
    assert entry["selectors"] == ["unix:path:/a", "unix:uid:1"]
    assert (entry["x509_svid_ttl"], entry["jwt_svid_ttl"]) == ("600s", "90s")
    assert (entry["dns_names"], entry["hint"], entry["owner"]) == (["a.example"], "h", "ann")
    assert (entry["labels"], entry["expires_at"]) == ({"team": "travel"}, "2099-01-01T00:00:00Z")
    assert entry["revision"] == 1


def test_an_entry_is_shown_by_its_id(command: Command, path: str) -> None:
    entry = create(command, path)
    assert command("entry", "show", str(entry["id"]), "--output", "json").document == entry
    assert f"spiffe://example.org{path}" in command("entry", "show", str(entry["id"])).out


def test_the_issuers_warnings_go_to_standard_error(command: Command, path: str) -> None:
    done = command("entry", "create", "--spiffe-id", path, "--parent", NODE, "--selector", "unix:path:/a")
    assert done.code == 0
    assert "warning: selectors: unix:path and unix:sha256 separate" in done.err
    assert path in done.out


def test_entries_are_listed_by_what_they_have(command: Command, path: str) -> None:
    create(command, path, "--selector", f"unix:path:{path}")
    for flags in (["--spiffe-id", path], ["--selector", f"unix:path:{path}"]):
        listed = command("entry", "list", *flags, "--output", "json").rows("entries")
        assert [one["spiffe_id"] for one in listed] == [f"spiffe://example.org{path}"]
    assert command("entry", "list", "--owner", "nobody", "--output", "json").rows("entries") == []


def test_an_update_changes_what_the_flags_name_and_nothing_else(command: Command, path: str) -> None:
    entry = create(command, path, "--owner", "ann", "--hint", "h")
    done = command("entry", "update", str(entry["id"]), "--owner", "bob", "--output", "json")
    assert done.rows("entries") == [{**entry, "owner": "bob", "revision": 2}]


def test_an_update_of_an_entry_that_has_changed_since_is_refused(command: Command, path: str, tmp_path: Path) -> None:
    entry = create(command, path)
    command("entry", "update", str(entry["id"]), "--owner", "bob")
    (tmp_path / "entries.json").write_text(json.dumps([entry]))
    done = command("entry", "update", "--from", str(tmp_path / "entries.json"))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: entries[0]: revision: expected 2, found 1")
    assert (
        f"hint: {path} was changed after it was read: see who did it with cognomen entry history {entry['id']}"
        in done.err
    )


def test_a_list_that_is_whole_is_sorted_by_name(command: Command) -> None:
    for name in ("/sorted/c", "/sorted/a", "/sorted/b"):
        command("entry", "create", "--spiffe-id", name, "--parent", NODE, "--selector", "unix:uid:4294967293")
    rows = command("entry", "list", "--below", "/sorted", "--output", "json").rows("entries")
    assert [row["spiffe_id"] for row in rows] == [f"spiffe://example.org/sorted/{name}" for name in "abc"]


def test_what_was_listed_can_be_created_and_updated_again(command: Command, path: str, tmp_path: Path) -> None:
    entry = create(command, path)
    file = tmp_path / "listed.json"
    listed = command("entry", "list", "--spiffe-id", path, "--output", "json").out
    file.write_text(listed.replace('"owner": ""', '"owner": "ann"'))
    done = command("entry", "update", "--from", str(file), "--output", "json")
    assert done.rows("entries")[0]["revision"] == 2
    command("entry", "delete", str(entry["id"]))
    again = command("entry", "create", "--from", str(file), "--output", "json").rows("entries")[0]
    assert again["id"] != entry["id"]


def test_deleted_entries_are_gone(command: Command, path: str) -> None:
    ids = [str(create(command, f"{path}/{number}")["id"]) for number in range(2)]
    assert command("entry", "delete", *ids).code == 0
    assert command("entry", "show", ids[0]).code == 4


def test_a_batch_from_a_file_is_created(command: Command, path: str, tmp_path: Path) -> None:
    entries = [entry_of(f"{path}/{number}") for number in range(150)]
    assert len(create_from(command, tmp_path / "f", entries).rows("entries")) == 150


def test_a_batch_with_one_bad_entry_creates_nothing(command: Command, path: str, tmp_path: Path) -> None:
    done = create_from(command, tmp_path / "f", [entry_of(path), entry_of("/cognomen/mine")])
    assert done.code == 1
    assert "entries[1]: spiffe_id: expected a path outside /cognomen and /spire" in done.err
    assert command("entry", "list", "--spiffe-id", path, "--output", "json").rows("entries") == []


def test_a_batch_with_an_entry_that_cannot_be_read_names_it(command: Command, path: str, tmp_path: Path) -> None:
    done = create_from(command, tmp_path / "f", [entry_of(path), entry_of(path, hints="h")])
    assert done.code == 1
    assert f"error: {tmp_path}/f: entries[1]: hints: expected one of" in done.err


def test_a_batch_from_standard_input(admin_socket: Path, path: str) -> None:
    done = subprocess.run(
        [*COGNOMEN, "entry", "create", "--from", "-", "--output", "json", "--socket", str(admin_socket)],
        input=json.dumps({"entries": [entry_of(path)]}), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"][0]["spiffe_id"] == f"spiffe://example.org{path}"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"entries": {}}', "1", "[" * 100_000])
def test_a_file_without_entries_is_refused(command: Command, text: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(text)
    done = command("entry", "create", "--from", str(tmp_path / "f"))
    assert done.code == 1
    assert done.err.startswith(f"error: {tmp_path}/f: expected ")


@pytest.mark.parametrize("verb", ["create", "update"])
@pytest.mark.parametrize("text", ["[]", '{"entries": []}'])
def test_a_file_with_no_entry_in_its_array_says_so(command: Command, verb: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(text)
    done = command("entry", verb, "--from", str(tmp_path / "f"))
    assert (done.code, done.err) == (1, f"error: {tmp_path}/f: expected at least 1 entry, found 0\n")


def test_the_same_entry_twice_is_refused_with_a_next_step(command: Command, path: str) -> None:
    entry = create(command, path)
    done = command("entry", "create", "--spiffe-id", path, "--parent", NODE, "--selector", "unix:uid:1")
    assert done.code == 1
    assert done.err.endswith(f"hint: see it with: cognomen entry show {entry['id']}\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--spiffe-id", "/a\n"], "spiffe_id: path: expected segments of"),
        (["--spiffe-id", "spiffe://example.com/a"], "spiffe_id: expected the trust domain example.org"),
        (["--spiffe-id", "/a/../b"], "spiffe_id: path: expected no empty, . or .. segment"),
        (["--spiffe-id", "/" + "a" * 2048], "spiffe_id: SPIFFE ID: expected at most 2048 bytes"),
        (["--spiffe-id", "web"], "spiffe_id: expected spiffe://… or a path such as /web, found 'web'"),
        (["--x509-svid-ttl", "0s"], "x509_svid_ttl: expected"),
        (["--x509-svid-ttl", "25h"], "x509_svid_ttl: expected"),
        (["--hint", "a\tb"], "hint: expected"),
        (["--dns", "*.example"], "dns_names: expected"),
    ],
)
def test_a_bad_field_is_named(command: Command, flags: list[str], message: str) -> None:
    done = command("entry", "create", "--spiffe-id", "/a", "--parent", NODE, "--selector", "unix:uid:1", *flags)
    assert (done.code, done.out) == (1, "")
    assert message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["entry", "create", "--selector", "unix"], "'--selector': selector: expected type:value, found 'unix'"),
        (["entry", "create", "--x509-svid-ttl", "-1s"], "expected a duration such as 90s, 30m, 1h or 1d, found '-1s'"),
        (["entry", "create", "--expires-at", "soon"], "expected a time such as"),
        (["entry", "create", "--label", "a"], "expected key=value, found 'a'"),
        (["entry", "create"], "expected --spiffe-id, --parent-id and --selector, or --from"),
        (
            ["entry", "create", "--from", "f", "--selector", "unix:uid:1"],
            "expected either --from, with --parent-id, --owner, ",
        ),
        (["entry", "create", "--from", "/no/file"], "/no/file: no such file or directory"),
        (["entry", "update"], "expected either an ID and the flags to change, or --from"),
        (["entry", "update", "ID"], "expected either an ID and the flags to change, or --from"),
        (["entry", "update", "ID", "--from", "f"], "expected either an ID and the flags to change, or --from"),
        (["entry", "delete"], "missing argument 'ID...'\n"),
        (["entry", "make"], "no such command 'make'"),
        (["nothing"], "no such command 'nothing'"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_way_to_the_help(
    command: Command, arguments: list[str], message: str
) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "\nhint: cognomen" in done.err


def test_an_invite_is_printed_alone_and_holds_what_a_node_needs(command: Command) -> None:
    done = command("node", "invite", "--label", "team=travel", "--ttl", "5m")
    invite = Invite.parse(done.out)
    assert done.out.count("\n") == 1
    assert invite.trust_domain.name == "example.org"
    assert invite.bundle.x509_authorities
    assert invite.token not in done.err
    warned = f"this invite works only for attestors on this machine, because it names {invite.node_address} and {invite.join_address};"
    assert f"warning: {warned} for others, set advertised_node_address and advertised_join_address" in done.err


@pytest.mark.parametrize(
    ("name", "expected"), [("open/invite", "found mode 0777"), ("dir", "is a directory"), ("no/f", "no such")]
)
def test_for_a_file_that_cannot_be_written_no_invite_is_made(
    command: Command, name: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    before = command("audit", "tail", "-o", "json").out
    done = command("node", "invite", "--write", str(tmp_path / name))
    assert (bool(done.code), done.out, expected in done.err) == (True, "", True), done
    assert command("audit", "tail", "-o", "json").out == before


def test_an_invite_that_is_refused_leaves_the_file_as_it_is(command: Command, tmp_path: Path) -> None:
    (tmp_path / "invite").write_text("before")
    assert command("node", "invite", "--node", NODE, "--write", str(tmp_path / "invite")).code != 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("invite", "before")]


def test_an_invite_can_go_to_a_private_file_instead(command: Command, tmp_path: Path) -> None:
    done = command("node", "invite", "--write", str(tmp_path / "invite"))
    assert (done.code, done.out) == (0, "")
    assert Invite.parse((tmp_path / "invite").read_text()).trust_domain.name == "example.org"
    assert (tmp_path / "invite").stat().st_mode & 0o777 == 0o600


def test_an_invite_that_takes_the_place_of_another_says_so(command: Command, tmp_path: Path) -> None:
    first, second = (command("node", "invite", "--write", str(tmp_path / "invite")) for _ in range(2))
    assert "replaced" not in first.err
    assert f"warning: {tmp_path}/invite: replaced; an invite that was in it stays valid until it expires" in second.err


def test_a_label_that_cannot_be_is_refused(command: Command) -> None:
    assert command("node", "invite", "--label", "a:b=c").code == 1


def test_there_are_no_nodes_yet(command: Command) -> None:
    assert command("node", "list", "--output", "json").document == {"nodes": [], "next_page_token": ""}


@pytest.mark.parametrize("what", ["node", "entry"])
def test_what_does_not_exist_is_exit_code_4(command: Command, what: str) -> None:
    done = command(what, "show", "0123456789abcdef0123456789abcdef")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("error: ")


def test_the_bundle_is_shown_as_pem_and_as_a_spiffe_bundle(command: Command) -> None:
    assert command("bundle", "show").out.count("BEGIN CERTIFICATE") == 2
    keys = json.loads(command("bundle", "show", "--format", "spiffe").out)["keys"]
    assert {key["use"] for key in keys} == {"x509-svid", "jwt-svid"}
    document = command("bundle", "show", "--format", "spiffe", "--output", "json").document
    assert document["trust_domain"] == "example.org"


def test_the_ledger_is_paged_newest_first(command: Command) -> None:
    first = command("svid", "list", "--page-size", "2", "--output", "json").document
    rest = command("svid", "list", "--page-token", str(first["next_page_token"]), "--output", "json")
    everything = command("svid", "list", "--page-size", "1", "--all", "--output", "json")
    numbers = [one["number"] for one in everything.rows("credentials")]
    assert numbers == sorted(numbers, key=lambda number: -int(str(number)))
    assert everything.rows("credentials") == [
        *command("svid", "list", "--page-size", "2", "--output", "json").rows("credentials"),
        *rest.rows("credentials"),
    ]


def test_the_ledger_is_listed_by_identity(command: Command) -> None:
    listed = command("svid", "list", "--spiffe-id", "/cognomen/issuer", "--output", "json").rows("credentials")
    assert {one["kind"] for one in listed} == {"issuer"}


def test_a_table_says_that_there_is_more(command: Command) -> None:
    done = command("svid", "list", "--page-size", "1")
    assert len(done.out.splitlines()) == 2
    assert done.err.startswith("there are more: use --page-token ")


def test_nobody_at_the_socket_is_exit_code_3_with_a_next_step(command: Command, tmp_path: Path) -> None:
    done = command("node", "list", "--socket", str(tmp_path / "none"))
    assert (done.code, done.out) == (3, "")
    assert "expected an issuer that listens, found none" in done.err
    assert "hint: start it (cognomen issuer run)" in done.err


def test_a_second_issuer_on_the_same_state_is_refused(admin_socket: Path) -> None:
    arguments = ["issuer", "run", "--trust-domain", "example.org", "--state", admin_socket.parents[1] / "state"]
    arguments += ["--admin-socket", admin_socket, "--node-address", "127.0.0.1:0", "--join-address", "127.0.0.1:0"]
    done = subprocess.run([*COGNOMEN, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error_worth_a_word(admin_socket: Path) -> None:
    script = f"{sys.executable} -m cognomen svid list --all --socket {admin_socket} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""


def test_a_key_that_a_file_has_twice_is_refused(command: Command, path: str, tmp_path: Path) -> None:
    file = tmp_path / "entries.json"
    file.write_text(json.dumps([entry_of(path)]).replace('"parent_id"', '"spiffe_id": "/other", "parent_id"'))
    for verb in (("create", "--from"), ("apply",)):
        done = command("entry", *verb, str(file))
        assert (done.code, done.out) == (1, "")
        assert "expected each key once, found 'spiffe_id' twice" in done.err


def test_a_file_takes_lifetimes_as_the_flags_do(command: Command, path: str, tmp_path: Path) -> None:
    done = create_from(command, tmp_path / "e", [entry_of(path, x509_svid_ttl="30m", jwt_svid_ttl="1m30s")])
    assert [(one["x509_svid_ttl"], one["jwt_svid_ttl"]) for one in done.rows("entries")] == [("1800s", "90s")]
    done = create_from(command, tmp_path / "e", [entry_of(path, x509_svid_ttl="soon")])
    assert (done.code, "x509_svid_ttl: expected a duration such as" in done.err) == (1, True)


def test_a_slash_is_all_of_the_trust_domain(command: Command, path: str) -> None:
    create(command, path)
    every = {
        str(one["spiffe_id"]) for one in command("entry", "list", "--below=/", "--all", "-o", "json").rows("entries")
    }
    assert f"spiffe://example.org{path}" in every
    assert command("audit", "who", "--below=/", "--since=2020-01-01T00:00:00Z").code == 0
    assert command("revoke", "spiffe-id", "/", "--below", "--dry-run").code == 0
    done = command("entry", "create", "--spiffe-id=/", f"--parent={NODE}", "--selector=unix:uid:1")
    assert (done.code, done.out) == (1, "")


def test_an_entry_is_shown_in_the_same_order_as_it_was_and_as_it_is(command: Command, path: str) -> None:
    entry_id = str(create(command, path)["id"])
    now = list(command("entry", "show", entry_id, "-o", "json").document)
    assert list(command("entry", "show", entry_id, "--revision=1", "-o", "json").document) == now


def test_a_configuration_with_providers_can_be_checked(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'trust_domain = "example.org"\n[providers.claude]\naudience = "https://a.example"\nlongest_life = "1h"\n'
    )
    check = [*COGNOMEN, "issuer", "check", "--config", str(tmp_path / "c.toml"), "--output", "json"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=30, check=True)
    shown = json.loads(done.stdout)
    assert (shown["providers.claude.audience"], shown["providers.claude.longest_life"]) == ("https://a.example", "1h")
