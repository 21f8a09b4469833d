"""`cognomen fetch jwt --watch` at real daemons: a revocation reaches the files at once, and an audience that is refused harms no other."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.child import Child
from svid.jwtsvid import JWTSVID
from tests.flow.twodaemons import World

AUDIENCE, OTHER = "https://api.example.com", "https://crm.example.org"
RULES = (
    '[agent.tested]\nowner = "o"\npurpose = "p"\nnodes = "any"\n[agent.tested.component.own]\n'
    f'kind = "other"\nselectors = ["unix:uid:{os.getuid()}"]\naudiences = ["{OTHER}"]\n'
    f'[provider.crm]\naudience = "{OTHER}"\nlongest_life = "2h"\n'
)
OWN = "spiffe://example.org/agent/tested/own"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"))
    with world.running():
        rules = world.directory / "rules.toml"
        rules.write_text(RULES)
        assert world.run("apply", str(rules)).returncode == 0
        while OWN not in world.run("fetch", "x509", f"--socket={world.workload}", "--output=json").stdout:
            pass  # pytest's timeout ends it
        yield world


def watch(world: World, files: Path, *options: str) -> "Child[str]":
    return world.start("fetch", "jwt", f"--socket=unix://{world.workload}", f"--write={files}", "--watch", *options)


def token_in(path: Path, watching: "Child[str]", *, other_than: str = "") -> str:
    """The token, once it is there."""
    while not path.exists() or (found := path.read_text()) == other_than:
        assert watching.poll() is None, watching.stderr
    return found


@pytest.mark.parametrize("when_denied", ["mark", "remove"])
def test_a_revoked_identity_has_marked_files_when_the_revocation_is_enforced(
    world: World, when_denied: str, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    with watch(world, files, f"--audience={OTHER}", "--spiffe-id=/web", f"--when-denied={when_denied}") as watching:
        before = token_in(files / "jwt_svid.token", watching)
        done = world.run("revoke", "spiffe-id", "/web", "--wait")
        assert done.returncode == 0, done.stderr
        assert (files / "denied").exists()
        assert (files / "jwt_svid.token").exists() is (when_denied == "mark")
        revoked, *_ = world.listed("revoke", "revocations")
        world.command("revoke", "lift", str(revoked["number"]))
        token_in(files / "jwt_svid.token", watching, other_than=before)
        while (files / "denied").exists():
            assert watching.poll() is None


def test_a_revoked_token_is_replaced_when_the_revocation_is_enforced(world: World, tmp_path: Path) -> None:
    files = tmp_path / "files"
    with watch(world, files, f"--token=one={OTHER}", "--spiffe-id=/web") as watching:
        before = token_in(files / "one", watching)
        jti = JWTSVID.parse_insecure(before).jti
        done = world.run("revoke", "svid", str(jti), "--wait")
        assert done.returncode == 0, done.stderr
        assert (files / "one").read_text() != before


def test_an_audience_that_is_not_allowed_withholds_no_other_token(world: World, tmp_path: Path) -> None:
    files, asks = tmp_path / "files", [f"--token=model={AUDIENCE}", f"--token=crm={OTHER}", f"--spiffe-id={OWN}"]
    done = world.run("fetch", "jwt", f"--socket=unix://{world.workload}", f"--write={files}", *asks)
    assert done.returncode == 1
    why = f"audiences: /agent/tested/own gets no token for {AUDIENCE}, only for {OTHER}"
    assert f"warning: model is not written: the Workload API answered PERMISSION_DENIED: {why}" in done.stderr
    assert not (files / "model").exists()
    assert JWTSVID.parse_insecure((files / "crm").read_text()).audiences == (OTHER,)
    with watch(world, files, *asks) as watching:
        assert watching.stderr is not None
        assert (
            watching.stderr.readline()
            == f"warning: model is not written: the Workload API answered PERMISSION_DENIED: {why}\n"
        )
        before = token_in(files / "crm", watching)
        done = world.run("revoke", "svid", str(JWTSVID.parse_insecure(before).jti), "--wait")
        assert done.returncode == 0, done.stderr
        assert token_in(files / "crm", watching) != before
        watching.terminate()
        assert "not written" not in watching.stderr.read(), "it is reported once"


def test_if_every_audience_is_refused_the_hint_says_what_the_rule_lacks(world: World) -> None:
    asks = [f"--audience={AUDIENCE}", f"--spiffe-id={OWN}"]
    done = world.run("fetch", "jwt", f"--socket=unix://{world.workload}", *asks)
    assert done.returncode == 5
    assert f"only for {OTHER}" in done.stderr
    assert "hint: the rule of this identity must list the audience" in " ".join(done.stderr.split())
