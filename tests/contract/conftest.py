"""The world that the clients of svid.tls are tried in."""

from pathlib import Path

import pytest

from tests.contract.tls_clients import World, trust
from tests.doubles.identity import Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.webca import WebAuthority


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
