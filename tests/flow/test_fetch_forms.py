"""`fetch x509 --write --also`: the key in the forms that servers read."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from bench.rig.daemons import Dev
from cognomen.cli.main import run
from cognomen.cli.svidfiles import Form, Forms
from svid.jwtsvid import JWTSVID

ME = f"unix:uid:{os.geteuid()}"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--entry", f"/a={ME}") as dev:
        yield dev


@pytest.fixture(autouse=True)
def at_the_attestor(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", dev.environment["SPIFFE_ENDPOINT_SOCKET"])


def test_each_form_holds_the_same_key_and_chain_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    password, files = tmp_path / "password", tmp_path / "files"
    password.write_text("hören\n")
    password.chmod(0o600)
    also = ("--also=combined", "--also=haproxy", "--also=pkcs12", f"--password-file={password}")
    assert run(["fetch", "x509", f"--write={files}", *also]) == 0
    key, chain = (files / "svid_key.pem").read_bytes(), (files / "svid.pem").read_bytes()
    assert (files / "svid.pem.key").read_bytes() == key
    assert (files / "svid_combined.pem").read_bytes() == chain + key
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files / "svid_combined.pem")
    found, leaf, above = load_key_and_certificates((files / "svid.p12").read_bytes(), "hören".encode())
    assert found is not None
    assert found.public_key() == load_pem_private_key(key, None).public_key()
    assert leaf == load_pem_x509_certificate(chain)
    assert above == []
    assert {(files / name).stat().st_mode & 0o777 for name in ("svid.pem.key", "svid_combined.pem", "svid.p12")} == {
        0o600
    }
    assert run(["fetch", "x509", f"--write={files}"]) == 0
    assert not {"svid.pem.key", "svid_combined.pem", "svid.p12"} & {path.name for path in files.iterdir()}


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--also=haproxy"], 2, "--also and --password-file need --write"),
        (["--write={}/files", "--also=pkcs12"], 2, "--also pkcs12 and --password-file together"),
        (["--write={}/files", "--password-file={}/none"], 2, "--also pkcs12 and --password-file together"),
        (["--write={}/files", "--also=pkcs12", "--password-file={}/none"], 2, "password file"),
        (["--write={}/files", "--also=pkcs12", "--password-file={}/empty"], 1, "expected a password on one line"),
        (["--write={}/files", "--also=pkcs12", "--password-file={}/two"], 1, "expected a password on one line"),
        (["--write={}/files", "--also=pkcs12", "--password-file={}/open"], 1, "password file"),
        (["--write={}/files", "--also=pkcs12", "--password-file={}/latin"], 1, "expected UTF-8 text"),
        (["--write={}/files", "--also=jks"], 2, "'jks' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, told: str
) -> None:
    files = (
        ("empty", b"\n", 0o600),
        ("two", b"a\nb\n", 0o600),
        ("open", b"a\n", 0o644),
        ("latin", b"h\xf6ren\n", 0o600),
    )
    for name, data, mode in files:
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(mode)
    assert run(["fetch", "x509", *(option.replace("{}", str(tmp_path)) for option in options)]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "files").exists()


def test_a_password_comes_from_standard_input_as_the_hint_about_a_pipe_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    asked = ["fetch", "x509", f"--write={tmp_path}/files", "--also=pkcs12"]
    assert run([*asked, f"--password-file={tmp_path}/pipe"]) == 1
    assert f"pass it on standard input: - < {tmp_path}/pipe" in capsys.readouterr().err
    (tmp_path / "password").write_text("secret\n")
    with (tmp_path / "password").open("rb") as password:
        done = subprocess.run(
            [sys.executable, "-m", "cognomen", *asked, "--password-file", "-"],
            stdin=password,
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert load_key_and_certificates((tmp_path / "files" / "svid.p12").read_bytes(), b"secret")[0] is not None


def test_what_is_logged_of_the_forms_does_not_show_the_password() -> None:
    assert "secret" not in repr(Forms(also=[Form.PKCS12], password=b"secret"))


def test_each_audience_has_a_file_with_a_token_for_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "files"
    named = ("--token=model=https://api.example.com/a=b", "--token=cloud.jwt=sts.example.com")
    assert run(["fetch", "jwt", f"--write={files}", "--audience=one", "--audience=two", *named]) == 0
    found = {path.name: path for path in files.iterdir() if not path.name.startswith("..")}
    assert {name: JWTSVID.parse_insecure(path.read_text()).audiences for name, path in found.items()} == {
        "jwt_svid.token": ("one", "two"),
        "model": ("https://api.example.com/a=b",),
        "cloud.jwt": ("sts.example.com",),
    }
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}
    assert run(["fetch", "jwt", f"--write={files}", named[0]]) == 0
    assert [path.name for path in files.iterdir() if not path.name.startswith("..")] == ["model"]
    assert run(["fetch", "jwt", f"--write={files}", *named, "--output=json"]) == 0
    told, warned = capsys.readouterr()
    assert warned.count("the tokens have no iss, without which relying parties of OpenID Connect refuse them") == 3
    assert [row["file"] for row in json.loads(told[told.index("{") :])["svids"]] == ["model", "cloud.jwt"]
    assert "eyJ" not in told  # no token goes to where a daemon's output goes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "expected --audience or --token, found neither"),
        (["--token=a=b"], "--token needs --write"),
        (["--write={}/files", "--token=a"], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token="], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token==b"], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token=../a=b"], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token=..data=b"], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token=denied=b"], "expected NAME=AUDIENCE"),
        (["--write={}/files", f"--token={'a' * 65}=b"], "expected NAME=AUDIENCE"),
        (["--write={}/files", "--token=a="], "expected an audience after a="),
        (["--write={}/files", "--token=a=b", "--token=a=c"], "found a twice"),
        (["--write={}/files", "--token=jwt_svid.token=b", "--audience=c"], "found jwt_svid.token twice"),
    ],
)
def test_a_token_that_has_no_file_or_no_audience_of_its_own_is_refused(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", "jwt", *(option.format(tmp_path) for option in options)]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "files").exists()
