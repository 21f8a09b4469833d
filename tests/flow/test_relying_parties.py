"""Relying parties of OpenID Connect find the keys of JWT-SVIDs where `iss` points: PyJWT as such a party, and what strangers get."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest

from bench.rig.daemons import COGNOMEN, free_port
from bench.rig.webca import WebAuthority
from svid.clock import SystemClock
from tests.flow.published import AUDIENCE, Published
from tests.flow.twodaemons import World


def verified(world: Published, token: str) -> dict[str, object]:
    """As a relying party does that knows the issuer's URL and nothing else."""
    discovered = json.loads(world.ask("/.well-known/openid-configuration")[1])
    keys = jwt.PyJWKClient(discovered["jwks_uri"], ssl_context=world.trusting())
    claims: dict[str, object] = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=discovered["id_token_signing_alg_values_supported"],
        audience=AUDIENCE,
        issuer=world.url,
        options={"require": ["iss", "iat", "sub", "aud", "exp"]},
    )
    return claims


@pytest.fixture(scope="module", params=["ec-p256", "rsa-2048"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    world = Published(tmp_path_factory.mktemp("w"), f"--jwt-authority-key={request.param}", "--authority-spread=2s")
    with world.running():
        yield world


def test_whoever_knows_the_url_verifies_a_token_by_what_is_served_there(world: Published) -> None:
    claims = verified(world, world.token())
    assert claims["sub"] == "spiffe://example.org/web"
    assert sorted(claims) == ["aud", "exp", "iat", "iss", "jti", "sub"]


def test_the_next_authority_is_there_before_it_signs_and_the_last_one_while_its_tokens_live(world: Published) -> None:
    before, old = world.kids(), world.token()
    signed = world.signing()
    world.command("authority", "rotate", "jwt")
    while (now := world.signing()) == signed:  # pytest's timeout ends it
        pass
    assert {signed, now} <= set(before)
    assert {signed, now} <= set(world.kids())
    fresh = world.token("--audience=another")
    assert jwt.get_unverified_header(fresh)["kid"] == now
    assert verified(world, fresh)["sub"] == verified(world, old)["sub"]


def test_what_a_revocation_does_not_reach_is_said_before_it_is_made(tmp_path: Path) -> None:
    config = tmp_path / "issuer.toml"
    config.write_text(f'[providers.model]\naudience = "{AUDIENCE}"\nlongest_life = "1h"\n')
    config.chmod(0o600)
    world = World(tmp_path, f"--config={config}")
    with world.running():
        for audience in ("db", AUDIENCE):
            assert world.run("fetch", "jwt", f"--audience={audience}", f"--socket={world.workload}").returncode == 0
        rows = world.command("svid", "list", "--kind=jwt")["credentials"]
        assert isinstance(rows, list)
        (own,) = [row for row in rows if row["audiences"] == ["db"]]
        (model,) = [row for row in rows if row["audiences"] == [AUDIENCE]]
        assert not own["exchanged_until"]
        lives = datetime.fromisoformat(model["exchanged_until"]) - datetime.fromisoformat(model["not_after"])
        assert lives == timedelta(hours=1)
        told = world.run("revoke", "spiffe-id", "/web", "--dry-run").stderr
        assert f"tokens that were exchanged live until at most {model['exchanged_until']}, at {AUDIENCE}" in told
        assert "exchanged" not in world.run("revoke", "svid", str(own["serial"]), "--dry-run").stderr


def test_a_revocation_names_the_declared_providers_whose_tokens_outlive_an_expired_jwt_svid(tmp_path: Path) -> None:
    config = tmp_path / "issuer.toml"
    config.write_text(f'[providers.model]\naudience = "{AUDIENCE}"\nlongest_life = "1h"\n')
    config.chmod(0o600)
    world = World(tmp_path, f"--config={config}", "--jwt-svid-ttl=1s")
    with world.running():
        fetch = ("fetch", "jwt", f"--audience={AUDIENCE}", "--audience=db", f"--socket={world.workload}")
        assert world.run(*fetch).returncode == 0
        (row,) = world.listed("svid", "credentials", "--kind=jwt")
        while datetime.fromisoformat(str(row["not_after"])) > SystemClock().now():  # pytest's timeout ends it
            world.run("status")  # takes its time
        expected = f"live until at most {row['exchanged_until']}, at {AUDIENCE}: end them there"
        for target in (("svid", str(row["serial"])), ("spiffe-id", "/web")):
            assert expected in world.run("revoke", *target, "--dry-run").stderr
            assert expected in world.run("revoke", *target).stderr
        done = world.command("revoke", "spiffe-id", "/web", "--dry-run")
        assert (done["fallen"], done["exchanged"]) == ([], [{"audience": AUDIENCE, "until": row["exchanged_until"]}])


def test_our_own_validators_take_tokens_with_an_issuer_and_never_ask_it(world: Published) -> None:
    (world.directory / "token").write_text(world.token())
    options = (f"--audience={AUDIENCE}", f"--socket={world.workload}", str(world.directory / "token"))
    done = world.run("validate", "jwt", *options)
    assert done.returncode == 0, done.stderr


def test_the_command_shows_what_is_served(world: Published) -> None:
    for kind, path in (("jwks", "/keys"), ("oidc-discovery", "/.well-known/openid-configuration")):
        done = world.run("bundle", "show", f"--format={kind}")
        assert done.stdout.encode() == world.ask(path)[1]
        document = world.command("bundle", "show", f"--format={kind}")["bundle"]
        assert document == json.loads(done.stdout)


def test_the_answers_may_be_kept_as_long_as_a_rotation_allows_and_are_not_sent_again(world: Published) -> None:
    status, body, headers = world.ask("/keys")
    assert (status, headers["cache-control"], headers["content-type"]) == (
        200,
        "public, max-age=1",
        "application/json",
    )
    for tag in (headers["etag"], f"W/{headers['etag']}", f'"x", {headers["etag"]}', "*"):
        again, nothing, same = world.ask("/keys", if_none_match=tag)
        assert (again, nothing, same["etag"]) == (304, b"", headers["etag"])
    assert world.ask("/keys", if_none_match='"x"')[1] == body


def test_head_is_the_same_without_a_body(world: Published) -> None:
    (_, body, headers), (status, nothing, same) = world.ask("/keys"), world.ask("/keys", method="HEAD")
    assert (status, nothing) == (200, b"")
    assert (same["content-length"], same["etag"]) == (str(len(body)), headers["etag"])


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/keys", 405),
        ("OPTIONS", "/keys", 405),
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
        ("GET", "/live", 404),
        ("GET", "/keys/", 404),
        ("GET", "/.well-known/../keys", 404),
        ("GET", "/.well-known/openid-configuration?x=y", 200),
    ],
)
def test_nothing_else_is_on_that_listener(world: Published, method: str, path: str, expected: int) -> None:
    assert world.ask(path, method=method)[0] == expected


@pytest.mark.parametrize("host", ["evil.example", "localhost", "localhost:1", "127.0.0.1"])
def test_a_request_for_another_host_gets_nothing(world: Published, host: str) -> None:
    status, body, _ = world.ask("/keys", host=host)
    assert (status, body) == (421, b"misdirected request\n")


def test_many_requests_on_one_connection_are_answered(world: Published) -> None:
    connection = http.client.HTTPSConnection("localhost", world.port, timeout=20, context=world.trusting())
    bodies = set()
    for _ in range(20):
        connection.request("GET", "/keys")
        bodies.add(connection.getresponse().read())
    connection.close()
    assert len(bodies) == 1


def test_a_stranger_that_holds_connections_before_tls_shuts_nobody_out(world: Published) -> None:
    held = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(70)]  # one address may have 64
    assert world.ask("/keys")[0] == 200
    assert held[0].recv(1) == b""  # the oldest made room
    for one in held:
        one.close()


def test_a_certificate_is_served_as_soon_as_its_files_hold_it_and_not_while_they_are_half_written(
    tmp_path: Path,
) -> None:
    world = Published(tmp_path)
    with world.issuer:
        assert world.ask("/keys")[0] == 200
        whole = world.identity.read_bytes()
        world.identity.write_bytes(whole[: len(whole) // 2])
        assert "still served" in world.until_told("certificate of web_address")
        assert world.ask("/keys")[0] == 200
        (tmp_path / "other").mkdir()
        other = WebAuthority(tmp_path / "other", name="other")
        world.present(other)
        while True:  # pytest's timeout ends it
            try:
                assert world.ask("/keys", context=world.trusting(other))[0] == 200
                break
            except ssl.SSLCertVerificationError:
                pass
        with pytest.raises(ssl.SSLCertVerificationError):
            world.ask("/keys")
        while json.loads(world.run("status", "--output=json").stdout)["troubles"]:
            pass


def test_a_certificate_that_relying_parties_refuse_is_served_and_told(tmp_path: Path) -> None:
    world = Published(tmp_path)
    for name in ("other", "short"):
        (tmp_path / name).mkdir()
    world.present(WebAuthority(tmp_path / "other", name="other", hosts=("other.example",)))
    with world.issuer:
        told = world.until_told("certificate served at web_address")
        assert "names: expected localhost, the host of jwt_issuer, found other.example" in told
        short = WebAuthority(tmp_path / "short", name="short", ends_in=timedelta(minutes=5))
        world.present(short)
        while "it expires soon, at 20" not in world.until_told("certificate served at web_address"):
            pass  # pytest's timeout ends it
        assert world.ask("/keys", context=world.trusting(short))[0] == 200
        world.present(world.authority)
        while json.loads(world.run("status", "--output=json").stdout)["troubles"]:
            pass
        warned = [line for line in world.issuer.log().splitlines() if "relying parties may refuse" in line]
        assert [len(json.loads(line)["faults"]) for line in warned] == [1, 1]
        assert "certificate for relying parties is good again" in world.issuer.log()


def _process(world: Published) -> int:
    """The pid of the process that answers relying parties."""
    found = subprocess.run(
        ["pgrep", "-f", "-P", str(world.issuer.pid), "issuer.web.relyingparties"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


def test_its_process_is_started_again_and_ends_with_the_issuer(tmp_path: Path) -> None:
    world = Published(tmp_path)
    with world.issuer:
        assert world.ask("/keys")[0] == 200
        killed = _process(world)
        os.kill(killed, signal.SIGKILL)
        assert world.ask("/keys")[0] == 200
        assert (last := _process(world)) != killed
    assert not Path(f"/proc/{last}").exists()


def test_behind_a_proxy_only_what_came_over_https_is_answered(tmp_path: Path) -> None:
    port, pages = free_port(), free_port()
    options = (f"--web-address=127.0.0.1:{port}", "--web-behind-proxy=true", "--jwt-issuer=https://oidc.example.org/a")
    world = World(tmp_path, f"--health-address=127.0.0.1:{pages}", *options)

    def ask(path: str, headers: dict[str, str], method: str = "GET") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, headers={"host": "oidc.example.org", **headers})
        status = connection.getresponse().status
        connection.close()
        return status

    with world.issuer:
        assert ask("/a/keys", {"x-forwarded-proto": "https"}) == 200
        assert ask("/a/.well-known/openid-configuration", {"x-forwarded-proto": "https"}) == 200
        assert ask("/keys", {"x-forwarded-proto": "https"}) == 404
        assert ask("/a/keys", {"x-forwarded-proto": "http"}) == 403
        assert ask("/a/keys", {}) == 403
        assert ask("/a/keys", {}, "POST") == 405
        counted = {"200": 2, "403": 2, "404": 1, "405": 1}
        lines = [f'cognomen_issuer_web_answers_total{{status="{key}"}} {number}.0' for key, number in counted.items()]
        while not all(line in world.page(pages, "/metrics") for line in lines):  # pytest's timeout ends it
            pass


def test_without_an_issuer_there_is_nothing_to_discover_but_the_keys_can_be_uploaded(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.issuer:
        assert len(json.loads(world.run("bundle", "show", "--format=jwks").stdout)["keys"]) == 2
        done = world.run("bundle", "show", "--format=oidc-discovery")
    assert done.returncode != 0
    assert "the issuer's JWT-SVIDs name no issuer" in done.stderr
    assert "set jwt_issuer" in done.stderr


def test_a_check_of_the_configuration_reads_the_certificate(tmp_path: Path) -> None:
    world = Published(tmp_path)
    arguments = ("issuer", "check", *world.issuer_arguments[2:])
    assert world.run(*arguments).returncode == 0
    world.identity.write_text("none")
    done = world.run(*arguments)
    assert done.returncode == 1
    assert f"web_certificate_file: cannot serve {world.identity}" in done.stderr
    world.identity.chmod(0o644)
    assert "web_key_file" in world.run(*arguments).stderr


def test_a_check_of_the_configuration_warns_of_what_leaves_relying_parties_without_keys(tmp_path: Path) -> None:
    world = Published(tmp_path)
    arguments = ("issuer", "check", *world.issuer_arguments[2:])
    assert world.run(*arguments).stderr == ""
    done = world.run(*arguments, "--jwt-issuer=https://oidc.example.org")
    expected = "names: expected oidc.example.org, the host of jwt_issuer, found localhost"
    assert (done.returncode, done.stderr) == (0, f"warning: web_certificate_file: {expected}\n")
    (tmp_path / "over").mkdir()
    world.present(WebAuthority(tmp_path / "over", name="over", ends_in=timedelta(minutes=-1)))
    assert "warning: web_certificate_file: it expired at 20" in world.run(*arguments).stderr


def test_a_check_says_that_nobody_finds_the_keys_of_an_issuer_that_serves_none(tmp_path: Path) -> None:
    check = ("issuer", "check", "--trust-domain=example.org", f"--state={tmp_path}", "--jwt-issuer=https://a.example")
    done = World(tmp_path).run(*check)
    assert done.returncode == 0
    assert "without web_address, relying parties find no keys unless `cognomen bundle export`" in done.stderr
    proxied = World(tmp_path).run(*check, "--web-address=127.0.0.1:0", "--web-behind-proxy=true")
    assert (proxied.returncode, proxied.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--web-address=127.0.0.1:0"], "web_address: expected jwt_issuer too"),
        (["--web-address=127.0.0.1:0", "--jwt-issuer=https://a.example"], "expected either web_certificate_file and web_key_file, or"),
        (["--web-behind-proxy=true"], "web_behind_proxy: expected nothing without web_address"),
        (["--jwt-issuer=http://a.example"], "jwt_issuer: expected an https URL"),
    ],
)  # fmt: skip
def test_what_relying_parties_could_not_use_is_refused_before_anything_starts(
    tmp_path: Path, options: list[str], expected: str
) -> None:
    state = tmp_path / "state"
    done = subprocess.run(
        [*COGNOMEN, "issuer", "run", "--trust-domain=example.org", f"--state={state}", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert expected in done.stderr
    assert not state.exists()
