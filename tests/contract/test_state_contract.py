"""What every place for the node's state does."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestor.decisions.node import Joining, Node, joined
from attestor.nodeclock import NodeClock
from attestor.state import disk
from attestor.state.disk import DiskState
from attestor.state.port import State
from cognomen.protocol.auditlog import Checkpoint, Mark
from cognomen.protocol.errors import Kind, Refused
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from svid.spiffeid import TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryState

CHECKPOINT_KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))


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


NOW = FakeClock().now()
MINUTE, FAR = timedelta(minutes=1), datetime(9000, 1, 1, tzinfo=UTC)


def a_checkpoint(
    count: int,
    *,
    head: bytes = bytes(32),
    at: datetime = NOW,
    after: int | None = None,
    key: LocalSigningKey = CHECKPOINT_KEY,
) -> Checkpoint:
    unsigned = Checkpoint(
        trust_domain=TrustDomain("example.org"),
        incarnation="a",
        count=count,
        head=head,
        at=at,
        public_key=b"",
        previous=None if after is None else Mark(count=after, head=bytes(32)),
    )
    return unsigned.signed(key)


def counts_on_disk(state: DiskState) -> list[int]:
    lines = state.path.with_name("checkpoints.jsonl").read_bytes().splitlines()
    return [Checkpoint.parse(line).count for line in lines]


def test_checkpoints_are_kept_one_behind_the_other_once_each_and_of_older_ones_fewer(state: State) -> None:
    every = [a_checkpoint(count) for count in range(1, 121)]
    for one in [every[0], *every, every[6], every[-1]]:
        assert state.keep_checkpoint(one, now=NOW) == ""
    assert state.load() is None
    assert state.contradicted() == ""
    if isinstance(state, DiskState):
        assert counts_on_disk(state) == [*range(1, 17), *range(21, 121)]


def test_a_checkpoint_that_contradicts_is_kept_apart_once_and_those_that_it_contradicts_stay(state: State) -> None:
    state.keep_checkpoint(a_checkpoint(7), now=NOW)
    other = a_checkpoint(7, head=b"1" * 32)
    for _ in range(2):
        assert "row 7 had another hash before" in state.keep_checkpoint(other, now=NOW)
    assert state.keep_checkpoint(a_checkpoint(8), now=NOW) == ""
    assert state.contradicted()
    if isinstance(state, DiskState):
        assert counts_on_disk(state) == [7, 8]
        (line,) = state.path.with_name("contradictions.jsonl").read_bytes().splitlines()
        assert json.loads(line)["why"].startswith("row 7")
        assert Checkpoint.parse(json.loads(line)["checkpoint"].encode()).head == b"1" * 32


def test_those_that_were_heard_before_a_flood_from_another_time_stay_after_a_restart_too(tmp_path: Path) -> None:
    honest = range(10, 210, 10)
    for number, count in enumerate(honest):
        DiskState(tmp_path).keep_checkpoint(a_checkpoint(count), now=NOW + number * 10 * MINUTE)
    kept = counts_on_disk(DiskState(tmp_path))
    for count in range(1000, 1105):
        DiskState(tmp_path).keep_checkpoint(a_checkpoint(count, at=FAR), now=NOW + 200 * MINUTE)
    assert counts_on_disk(DiskState(tmp_path))[:20] == kept == list(honest)


def test_those_of_a_former_release_are_taken_to_be_as_old_as_they_say_but_not_from_the_future(tmp_path: Path) -> None:
    state = DiskState(tmp_path)
    held = [a_checkpoint(1, at=NOW - 100 * 24 * 60 * MINUTE), a_checkpoint(2, at=NOW), a_checkpoint(3, at=FAR)]
    state.path.with_name("checkpoints.jsonl").write_bytes(b"".join(one.to_json() + b"\n" for one in held))
    heard = state.path.with_name("checkpoints.heard")
    heard.write_bytes(b"damaged\n\nxx 99999999999999999999\n")
    for path in (heard, state.path.with_name("checkpoints.jsonl")):
        path.chmod(0o600)
    state.keep_checkpoint(a_checkpoint(4), now=NOW)
    assert counts_on_disk(state) == [1, 2, 3, 4]
    times = [int(line.split()[1]) for line in heard.read_bytes().splitlines()]
    assert times == [int(at.timestamp()) for at in (held[0].at, NOW, NOW, NOW)]


def test_what_is_moved_away_after_an_explained_contradiction_begins_anew(tmp_path: Path) -> None:
    state = DiskState(tmp_path)
    state.keep_checkpoint(a_checkpoint(7), now=NOW)
    key = LocalSigningKey(KeyID("audit-2"), generate_private_key(KeyKind.EC_P256))
    assert "expected the checkpoint key" in state.keep_checkpoint(a_checkpoint(8, key=key), now=NOW)
    for name in ("contradictions.jsonl", "checkpoints.jsonl"):
        (tmp_path / name).rename(tmp_path / f"{name}.explained")
    assert state.keep_checkpoint(a_checkpoint(9, key=key, after=8), now=NOW) == ""
    assert state.contradicted() == ""
    assert counts_on_disk(state) == [9]


def test_a_contradiction_that_cannot_be_kept_is_said_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Refused(Kind.UNAVAILABLE, "no space left on device")

    state = DiskState(tmp_path / "state")
    state.keep_checkpoint(a_checkpoint(7), now=FakeClock().now())
    monkeypatch.setattr(disk, "write_private", refuse)
    with pytest.raises(Refused, match=r"contradiction, not kept: row 7 had another hash before.*: no space left"):
        state.keep_checkpoint(a_checkpoint(7, head=b"1" * 32), now=FakeClock().now())
