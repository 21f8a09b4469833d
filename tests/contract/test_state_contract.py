"""What every place for the node's state does."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.decisions.node import Joining, Node, joined
from attestor.nodeclock import NodeClock
from attestor.state.disk import DiskState
from attestor.state.port import State
from cognomen.daemon.auditlog import Checkpoint
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryState


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
    return joined(invite, credential, joining, at=NodeClock(clock).read())


def facts(kept: Joining | Node | None) -> tuple[object, ...]:
    """What is to be the same afterwards; a private key is compared by its numbers."""
    if kept is None:
        return ()
    if isinstance(kept, Joining):
        return (kept.private_key.private_numbers(), kept.token_hash, facts(kept.before))
    key, places = kept.svid.private_key.private_numbers(), (kept.join_address, kept.node_address)
    return (key, kept.svid.chain, kept.issued_at, kept.bundle, places, kept.token_hash)


def test_a_new_place_holds_nothing(state: State) -> None:
    assert state.load() is None


def test_a_key_that_waits_for_its_node_is_kept(state: State) -> None:
    joining = some_joining()
    state.save(joining)
    assert facts(state.load()) == facts(joining)


def test_the_node_before_is_kept_along_with_the_key_for_the_next(state: State) -> None:
    joining = replace(some_joining(), before=some_node())
    state.save(joining)
    assert facts(state.load()) == facts(joining)


def test_a_node_is_kept_with_all_that_it_needs(state: State) -> None:
    node = some_node()
    state.save(node)
    assert facts(state.load()) == facts(node)


def test_what_is_saved_takes_the_place_of_what_was_there(state: State) -> None:
    state.save(some_joining())
    node = some_node()
    state.save(node)
    assert facts(state.load()) == facts(node)


def test_checkpoints_are_kept_one_behind_the_other_once_each_and_never_more_than_a_hundred(state: State) -> None:
    key = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
    for count in [1, 1, *range(2, 105)]:
        checkpoint = Checkpoint(
            trust_domain=TrustDomain("example.org"),
            incarnation="a",
            count=count,
            head=bytes(32),
            at=FakeClock().now(),
            public_key=b"",
        )
        state.keep_checkpoint(checkpoint if count == 1 else checkpoint.signed(key))
    assert state.load() is None
    if isinstance(state, DiskState):
        lines = state.path.with_name("checkpoints.jsonl").read_bytes().splitlines()
        assert [Checkpoint.parse(line).count for line in lines] == list(range(5, 105))
