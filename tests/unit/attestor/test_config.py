"""attestor/config, as a file and flags give it."""

from pathlib import Path

import pytest

from attestor.config import AttestorConfig
from cognomen.daemon.config import load
from cognomen.protocol.errors import Refused


def test_nothing_needs_to_be_said() -> None:
    config = load(None, AttestorConfig, {})
    assert config.trust_domain is None
    assert config.workload_socket == Path("/run/cognomen/api.sock")
    assert config.connections_per_uid == 256


def test_a_budget_of_no_connections_is_refused() -> None:
    with pytest.raises(Refused, match="connections_per_uid: expected at least 1, found 0"):
        load(None, AttestorConfig, {"connections_per_uid": 0})


def test_a_misspelt_key_is_refused_with_the_one_meant(tmp_path: Path) -> None:
    (tmp_path / "attestor.toml").write_text('workload_sockt = "/run/x.sock"\n')
    with pytest.raises(Refused, match="workload_sockt: ") as refused:
        load(tmp_path / "attestor.toml", AttestorConfig, {})
    assert "workload_socket" in refused.value.hint


@pytest.mark.parametrize("name", ["-x", "a b", "a" * 254])
def test_a_name_that_no_node_may_have_is_refused(name: str) -> None:
    assert load(None, AttestorConfig, {"node_name": "rack-7.example.org"}).node_name == "rack-7.example.org"
    with pytest.raises(Refused, match="node_name: expected 1 to 253 of a-z A-Z 0-9"):
        load(None, AttestorConfig, {"node_name": name})
