import pytest

from cognomen.protocol.names import (
    NodeID,
    agent_and_component,
    is_issuer,
    is_reserved,
    issuer_id,
    node_id_of,
    node_spiffe_id,
)
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import TRUST_DOMAIN


def at(path: str) -> SpiffeID:
    return SpiffeID(trust_domain=TRUST_DOMAIN, path=path)


def test_our_own_ids_are_known_again() -> None:
    node = node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID("n1"))
    assert str(node) == "spiffe://example.org/cognomen/node/join_token/n1"
    assert node_id_of(node) == "n1"
    assert is_issuer(issuer_id(TRUST_DOMAIN))
    assert not is_issuer(node)


@pytest.mark.parametrize(
    "path",
    ["", "/web", "/cognomen/node", "/cognomen/node/x", "/cognomen/node/x/y/z", "/other/node/x/y", "/cognomen/x/y/z"],
)
def test_other_ids_are_no_nodes(path: str) -> None:
    assert node_id_of(at(path)) is None


def test_a_node_id_cannot_smuggle_a_segment() -> None:
    with pytest.raises(SpiffeIDError):
        node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID("a/b"))


@pytest.mark.parametrize(
    ("path", "reserved"), [("/spire", True), ("/cognomen/x", True), ("/cognomenx", False), ("", False)]
)
def test_our_paths_are_reserved_and_only_they(path: str, reserved: bool) -> None:  # noqa: FBT001 - a column
    assert is_reserved(at(path)) is reserved


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/agent/a/b", ("a", "b")),
        ("/agent/a", ("", "")),
        ("/agent/a/b/c", ("", "")),
        ("/agents/a/b", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_component_is_known_by_its_id(path: str, names: tuple[str, str]) -> None:
    assert agent_and_component(at(path)) == names
