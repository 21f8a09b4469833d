"""The datastores that pass their contract, and the world that the clients of svid.tls are tried in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.rig.webca import WebAuthority
from issuer.datastore.port import Datastore
from tests.contract.datastores import DATASTORES, Adapter
from tests.contract.refusals import Told
from tests.contract.tls_clients import World, trust
from tests.doubles.identity import Identity
from tests.doubles.trustdomain import TrustDomainDouble


@pytest.fixture(params=DATASTORES, ids=lambda adapter: adapter.name)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    found: Adapter = request.param
    return found


@pytest.fixture
async def store(adapter: Adapter, tmp_path: Path) -> AsyncIterator[Datastore]:
    opened = await adapter.open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebAuthority:
    """An authority of the web that everything in the environment names as trusted."""
    authority = WebAuthority(tmp_path)
    trust(authority, monkeypatch)
    return authority


@pytest.fixture
def world(
    domain: TrustDomainDouble,
    client: Identity,
    server: Identity,
    web: WebAuthority,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    return World(domain=domain, client=client, server=server, web=web, environment=monkeypatch)


@pytest.fixture
def told() -> Told:
    return Told()
