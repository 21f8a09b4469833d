"""JWTSource.file at real daemons: it holds a good token through a renewal, and a revocation reaches it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from svid.errors import WorkloadAPIError
from svid.workloadapi.sources import JWTSource
from tests.flow.twodaemons import World

AUDIENCE = "sts.amazonaws.com"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"), "--jwt-svid-ttl=16s")
    with world.running():
        yield world


def test_the_file_has_a_good_token_before_and_after_a_renewal(world: World) -> None:
    with JWTSource(f"unix://{world.workload}") as source, source.file(AUDIENCE) as path:
        seen: set[str] = set()
        while len(seen) < 2:  # it is never absent, empty or half; pytest's timeout ends it
            seen.add(source.verify(path.read_text(), AUDIENCE).jti or "")


def test_a_revocation_is_enforced_when_the_file_is_gone(world: World) -> None:
    with JWTSource(f"unix://{world.workload}") as source, source.file(AUDIENCE) as path:
        done = world.run("revoke", "spiffe-id", "/web", "--wait")
        assert done.returncode == 0, done.stderr
        assert not path.exists()
        revoked = world.command("revoke", "list")["revocations"]
        assert isinstance(revoked, list)
        world.command("revoke", "lift", str(revoked[0]["number"]))
        while not path.exists():  # pytest's timeout ends it
            pass
        assert verified(source, path) == "/web"


def verified(source: JWTSource, path: Path) -> str:
    """The identity in the file, once the source has bundles again: they come on a stream of their own."""
    while True:  # pytest's timeout ends it
        with suppress(WorkloadAPIError):
            return source.verify(path.read_text(), AUDIENCE).spiffe_id.path
