"""`cognomen bundle export` typed by hand: what it writes, runs and tells a real issuer, and what the issuer says of it."""

import json
import os
import shlex
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import free_port
from tests.flow.commandline import Command, issuer_at, socket_at

PORT = free_port()


@pytest.fixture(scope="module")
def admin_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("i")
    with issuer_at(directory, "--authority-spread=1s", f"--health-address=127.0.0.1:{PORT}"):
        yield socket_at(directory)


@pytest.fixture
def name(command: Command, request: pytest.FixtureRequest) -> Iterator[str]:
    """A relying party of this test alone."""
    given = f"party-{abs(hash(request.node.nodeid))}"
    yield given
    if known(command, given) is not None:
        assert command("bundle", "forget-export", given).code == 0


def known(command: Command, name: str) -> dict[str, object] | None:
    return next(
        (one for one in command("bundle", "exports", "-o", "json").rows("exports") if one["name"] == name), None
    )


def is_behind(command: Command, name: str) -> bool:
    found = known(command, name)
    assert found is not None
    return bool(found["missing"] or found["revoked"])


def published(command: Command) -> set[str]:
    return {key_id for state in ("next", "active", "old") for key_id in jwt_authorities(command, state)}


def metric(name: str) -> float | None:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=20) as page:
        lines = page.read().decode().splitlines()
    return next((float(line.removeprefix(f"{name} ")) for line in lines if line.startswith(f"{name} ")), None)


def gauge(name: str, export: str) -> float | None:
    return metric(f'cognomen_issuer_export_{name}{{name="{export}"}}')


def script(path: Path, text: str) -> str:
    """A command that runs it."""
    path.write_text(text)
    return f"/bin/sh {shlex.quote(str(path))}"


def jwt_authorities(command: Command, state: str) -> list[str]:
    rows = command("authority", "list", "-o", "json").rows("authorities")
    return [str(row["key_id"]) for row in rows if (row["kind"], row["state"]) == ("jwt", state)]


def the_next(command: Command) -> str:
    """The authority that is published to follow, once there is one."""
    while not (found := jwt_authorities(command, "next")):
        pass
    return found[0]


def rotate(command: Command) -> str:
    """Let the published authority sign now, whatever was exported; returns the one that is published after it."""
    assert command("authority", "activate", the_next(command), "--force").code == 0
    return the_next(command)


def test_the_command_gets_the_keys_and_the_issuer_hears_of_them(command: Command, name: str, tmp_path: Path) -> None:
    file, copy, told = tmp_path / "jwks.json", tmp_path / "copy", tmp_path / "told"
    run = script(tmp_path / "hook", f'cat > {copy}; echo "$COGNOMEN_EXPORT $COGNOMEN_FILE" >> {told}')
    done = command("bundle", "export", f"--name={name}", f"--write={file}", f"--exec={run}")
    keys = published(command)
    assert (done.code, done.out) == (0, "")
    assert f"\n{name}: exported {len(keys)} authorities: jwt-" in done.err
    assert copy.read_bytes() == file.read_bytes() == command("bundle", "show", "--format=jwks").out.encode()
    assert {one["kid"] for one in json.loads(copy.read_text())["keys"]} == keys
    assert told.read_text() == f"{name} {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    found = known(command, name)
    assert found is not None
    assert {str(one) for one in found["key_ids"]} == keys  # type: ignore[attr-defined]  # JSON
    assert (found["format"], found["actor"], found["missing"], found["breaks_at"], found["revoked"]) == (
        "jwks", f"uid:{os.geteuid()}", [], None, [],
    )  # fmt: skip


def test_what_has_not_changed_is_not_handed_over_again_but_to_another_place(
    command: Command, name: str, tmp_path: Path
) -> None:
    file, runs = tmp_path / "jwks.json", tmp_path / "runs"
    first, second = (script(tmp_path / one, f"echo {one} >> {runs}") for one in ("first", "second"))
    for run in (first, first, second, second):
        assert command("bundle", "export", f"--name={name}", f"--write={file}", f"--exec={run}").code == 0
    assert runs.read_text().split() == ["first", "second"]
    done = command("bundle", "export", f"--name={name}", f"--write={file}", f"--exec={second}")
    assert (done.code, done.err) == (0, f"{name}: exported before, and nothing has changed\n")
    rows = command("audit", "list", "--action=bundle exported", f"--subject={name}", "-o", "json").rows("rows")
    assert len(rows) == 1


def test_the_issuer_says_what_is_behind_and_its_hint_mends_it(command: Command, name: str, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    assert command("bundle", "export", f"--name={name}", f"--write={file}", "--comment=by hand").code == 0
    assert (gauge("behind", name), gauge("breaks_timestamp_seconds", name)) == (0, None)
    fresh = rotate(command)
    found = known(command, name)
    assert found is not None
    assert found["missing"] == [fresh]
    status = command("status", "-o", "json")
    assert status.code == 1
    (trouble,) = [one for one in json.loads(status.out)["troubles"] if one["what"] == f"export of the bundle {name}"]
    assert f"it lacks {fresh}; the first signs from 20" in trouble["reason"]
    assert gauge("behind", name) == 1
    assert (gauge("breaks_timestamp_seconds", name) or 0) > 0
    assert f"repeat the bundle export that has --name {name}, as it was;" in trouble["reason"]
    assert command("bundle", "export", f"--name={name}", f"--write={file}").code == 0
    assert fresh in file.read_text()
    assert not is_behind(command, name)
    assert gauge("behind", name) == 0


def test_rotating_is_refused_while_a_relying_party_would_be_cut_off(
    command: Command, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "jwks.json"
    assert command("bundle", "export", f"--name={name}", f"--write={file}").code == 0
    fresh = rotate(command)
    refused = command("authority", "rotate", "jwt")
    assert refused.code == 1
    assert f"to have {fresh}, which signs then; found {name} without it" in refused.err
    assert command("authority", "activate", fresh).code == 1
    forced = command("authority", "activate", fresh, "--force")
    assert forced.code == 0
    assert (
        f"warning: {name}: what was exported lacks the authority that signs; cognomen bundle exports says more"
        in forced.err
    )
    the_next(command)
    assert command("bundle", "export", f"--name={name}", f"--write={file}").code == 0
    assert command("authority", "rotate", "jwt").code == 0


def test_a_revoked_authority_is_trusted_where_it_was_exported_until_that_is_repeated(
    command: Command, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "jwks.json"
    assert command("bundle", "export", f"--name={name}", f"--write={file}").code == 0
    (active,) = jwt_authorities(command, "active")
    done = command("authority", "revoke", active, "--force")
    assert done.code == 0
    assert f"warning: {name}: what was exported has a revoked authority" in done.err
    found = known(command, name)
    assert found is not None
    assert found["revoked"] == [active]
    assert gauge("revoked_authorities", name) == 1
    the_next(command)
    assert command("bundle", "export", f"--name={name}", f"--write={file}").code == 0
    assert active not in file.read_text()
    assert not is_behind(command, name)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("/bin/sh -c 'exit 7'", "expected exit code 0, found 7"),
        ("/bin/sh -c 'kill -9 $$'", "expected exit code 0, found -9"),
    ],
)
def test_a_command_that_fails_is_an_exit_code_and_the_issuer_does_not_hear_of_it(
    command: Command, name: str, run: str, said: str
) -> None:
    done = command("bundle", "export", f"--name={name}", f"--exec={run}")
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert known(command, name) is None


def test_the_status_says_that_an_export_never_succeeded_until_it_does(command: Command, name: str) -> None:
    def told() -> list[str]:
        troubles = json.loads(command("status", "-o", "json").out)["troubles"]
        return [one["reason"] for one in troubles if name in one["what"]]

    assert command("bundle", "export", f"--name={name}", "--exec=/bin/false").code == 1
    assert told() == [
        "failed; its relying party has no copy yet: see what that command said, where `cognomen bundle export` runs"
    ]
    assert (metric("cognomen_issuer_export_failures_total") or 0) >= 1
    assert command("bundle", "export", f"--name={name}", "--exec=/bin/true").code == 0
    assert told() == []
    assert command("bundle", "export", f"--name={name}", "--exec=/bin/false").code == 1
    assert told()[0].startswith("failed; its relying party has the copy of 20")
    assert command("bundle", "forget-export", name).code == 0
    assert told() == []


def test_several_exports_of_each_format_are_beside_each_other(command: Command, name: str, tmp_path: Path) -> None:
    for form in ("jwks", "spiffe", "pem"):
        options = (f"--format={form}", f"--write={tmp_path / form}", f"--name={name}.{form}")
        assert command("bundle", "export", *options).code == 0
        assert (tmp_path / form).read_text().rstrip() == command("bundle", "show", f"--format={form}").out.rstrip()
    kinds = {
        form: {str(key).partition("-")[0] for key in (known(command, f"{name}.{form}") or {})["key_ids"]}  # type: ignore[attr-defined]  # JSON
        for form in ("jwks", "spiffe", "pem")
    }
    assert kinds == {"jwks": {"jwt"}, "spiffe": {"jwt", "x509"}, "pem": {"x509"}}
    for form in ("jwks", "spiffe", "pem"):
        done = command("bundle", "forget-export", f"{name}.{form}")
        assert (done.code, f"{name}.{form}" in done.out) == (0, False)


def test_a_name_keeps_its_format(command: Command, name: str, tmp_path: Path) -> None:
    assert command("bundle", "export", f"--name={name}", f"--write={tmp_path / 'a'}").code == 0
    done = command("bundle", "export", f"--name={name}", "--format=pem", f"--write={tmp_path / 'b'}")
    assert (done.code, (tmp_path / "b").exists()) == (1, False)
    assert f"--name: {name} is an export of the format jwks, found pem" in done.err
    assert f"cognomen bundle forget-export {name}" in done.err


def test_without_a_url_of_the_issuer_there_is_no_discovery_document(command: Command, tmp_path: Path) -> None:
    done = command("bundle", "export", "--name=a", "--format=oidc-discovery", f"--write={tmp_path / 'a'}")
    assert (done.code, (tmp_path / "a").exists()) == (4, False)
    assert "hint: set jwt_issuer in the issuer's configuration" in done.err


def test_without_a_url_of_the_issuer_it_is_told_that_tokens_have_no_iss(
    command: Command, name: str, tmp_path: Path
) -> None:
    done = command("bundle", "export", f"--name={name}", f"--write={tmp_path / 'keys'}")
    assert (done.code, done.err.count("JWT-SVIDs have no iss")) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--name=a",), "expected --write or --exec, found neither"),
        (("--write=a",), "missing option '--name'"),
        (
            ("--name=a b", "--exec=/bin/true"),
            "--name: expected at most 64 of A-Z a-z 0-9 . _ -, a letter or digit first, found 'a b'",
        ),
        (("--name=", "--exec=/bin/true"), "expected a value, found an empty string"),
        (("--name=" + "a" * 65, "--exec=/bin/true"), "--name: expected at most 64"),
        (("--name=a", "--exec= "), "expected a command, found nothing"),
        (("--name=a", "--exec=/no/such/program"), "expected a program that can be run"),
        (("--name=a", "--write="), "expected a path, found an empty string"),
        (("--name=a", "--write=a", "--format=yaml"), "'yaml' is not one of"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_wrong_usage(command: Command, arguments: tuple[str, ...], said: str) -> None:
    done = command("bundle", "export", *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    command: Command, name: str, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "directory").mkdir()
    run = script(tmp_path / "hook", f"touch {tmp_path}/ran")
    for file, said in (
        ("missing/a", "no such file or directory"),
        ("open/a", "expected write access for its owner only, found mode 0777"),
        ("directory", "is a directory"),
        ("hook/a", "not a directory"),
    ):
        done = command("bundle", "export", f"--name={name}", f"--write={tmp_path / file}", f"--exec={run}")
        assert (done.code, known(command, name)) == (1, None)
        assert said in done.err
    assert not (tmp_path / "ran").exists()


def test_a_link_is_replaced_and_a_pipe_holds_nobody_up(command: Command, name: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "pipe")
    for file in ("link", "pipe"):
        done = command("bundle", "export", f"--name={name}", f"--write={tmp_path / file}")
        assert done.code == 0, done.err
        assert stat.S_ISREG((tmp_path / file).lstat().st_mode)
    assert (tmp_path / "victim").read_text() == "mine"


def test_what_the_command_prints_and_does_not_read_holds_nobody_up(command: Command, name: str, tmp_path: Path) -> None:
    run = script(tmp_path / "hook", "exec 0<&-; yes | head -c 300000")
    assert command("bundle", "export", f"--name={name}", "--format=spiffe", f"--exec={run}").code == 0


def test_the_65th_name_is_refused(command: Command, name: str, tmp_path: Path) -> None:
    taken = len(command("bundle", "exports", "-o", "json").rows("exports"))
    names = [f"{name}-{number}" for number in range(64 - taken)]
    for each in names:
        assert command("bundle", "export", f"--name={each}", f"--write={tmp_path / 'a'}").code == 0
    done = command("bundle", "export", f"--name={name}", f"--write={tmp_path / 'a'}")
    assert done.code == 1
    assert "exports: expected fewer than 64, found 64" in done.err
    assert command("bundle", "export", f"--name={names[0]}", f"--write={tmp_path / 'b'}").code == 0
    for each in names:
        assert command("bundle", "forget-export", each).code == 0


def test_what_nobody_exported_cannot_be_forgotten(command: Command) -> None:
    done = command("bundle", "forget-export", "nobody")
    assert (done.code, "list them: cognomen bundle exports" in done.err) == (4, True)
