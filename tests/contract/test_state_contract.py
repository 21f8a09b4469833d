"""What every place for the node's state does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.decisions.node import Joining, Node, joined
from attestor.state.disk import DiskState
from attestor.state.memory import MemoryState
from attestor.state.port import State
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import IssuerInMemory


@pytest.fixture(params=["disk", "memory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    makers: dict[str, Callable[[], State]] = {"disk": lambda: DiskState(tmp_path / "state"), "memory": MemoryState}
    return makers[request.param]()


def some_joining() -> Joining:
    return Joining(private_key=generate_private_key(KeyKind.EC_P256), token_hash="0" * 64)


def some_node() -> Node:
    clock = FakeClock()
    issuer, joining = IssuerInMemory(clock, TrustDomain("example.org"), ttl=timedelta(minutes=7)), some_joining()
    invite = issuer.invite()
    credential = issuer.join(invite.token, public_key_to_der(joining.private_key.public_key()))
    return joined(invite, credential, joining, now=clock.now())


def same(one: Joining | Node | None, other: Joining | Node) -> bool:
    """Whether they are equal; private keys are compared by their numbers."""
    if isinstance(one, Node) and isinstance(other, Node):
        keys = (one.svid.private_key, other.svid.private_key)
        facts = [
            (n.svid.chain, n.issued_at, n.bundle, n.join_address, n.node_address, n.token_hash) for n in (one, other)
        ]
    elif isinstance(one, Joining) and isinstance(other, Joining):
        keys = (one.private_key, other.private_key)
        facts = [(n.token_hash,) for n in (one, other)]  # type: ignore[misc]  # compared with each other only
    else:
        return False
    return facts[0] == facts[1] and keys[0].private_numbers() == keys[1].private_numbers()


def test_a_new_place_holds_nothing(state: State) -> None:
    assert state.load() is None


def test_a_key_that_waits_for_its_node_is_kept(state: State) -> None:
    joining = some_joining()
    state.save(joining)
    assert same(state.load(), joining)


def test_a_node_is_kept_with_all_that_it_needs(state: State) -> None:
    node = some_node()
    state.save(node)
    assert same(state.load(), node)


def test_what_is_saved_takes_the_place_of_what_was_there(state: State) -> None:
    state.save(some_joining())
    node = some_node()
    state.save(node)
    assert same(state.load(), node)
