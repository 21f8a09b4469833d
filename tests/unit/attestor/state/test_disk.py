"""attestor/state/disk: one private file, read whole or not at all."""

import hashlib
import stat
from pathlib import Path

import msgspec
import pytest

from attestor.decisions.node import Node
from attestor.state.disk import DiskState
from cognomen.protocol.errors import Kind, Refused
from tests.contract.test_state_contract import some_node


@pytest.fixture
def state(tmp_path: Path) -> DiskState:
    state = DiskState(tmp_path / "state")
    state.save(some_node())
    return state


def refused(state: DiskState) -> Refused:
    with pytest.raises(Refused) as refused:
        state.load()
    assert refused.value.kind is Kind.INVALID
    return refused.value


def write(state: DiskState, payload: bytes, *, version: str = "1") -> None:
    """Write a file whose length and checksum are right."""
    header = f"cognomen-node-state {version} {len(payload)} {hashlib.sha256(payload).hexdigest()}\n"
    state.path.write_bytes(header.encode() + payload)


def payload(state: DiskState) -> dict[str, object]:
    _, _, content = state.path.read_bytes().partition(b"\n")
    document: dict[str, object] = msgspec.json.decode(content)
    return document


def test_file_and_directory_are_their_owners_alone(state: DiskState) -> None:
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.parent.stat().st_mode) == 0o700


def test_a_file_truncated_at_any_byte_is_refused(state: DiskState) -> None:
    whole = state.path.read_bytes()
    for length in range(len(whole)):
        state.path.write_bytes(whole[:length])
        assert "expected" in refused(state).detail
    state.path.write_bytes(whole)
    assert isinstance(state.load(), Node)


def test_a_flipped_bit_is_refused(state: DiskState) -> None:
    whole = bytearray(state.path.read_bytes())
    for place in range(0, len(whole), 37):
        damaged = whole.copy()
        damaged[place] ^= 1
        state.path.write_bytes(damaged)
        refused(state)


def test_the_next_step_is_named(state: DiskState) -> None:
    state.path.write_bytes(b"")
    assert "new invite" in refused(state).hint


def test_bytes_after_the_end_are_refused(state: DiskState) -> None:
    with state.path.open("ab") as file:
        file.write(b"x")
    refused(state)


def test_another_version_is_refused(state: DiskState) -> None:
    write(state, msgspec.json.encode(payload(state)), version="2")
    assert "version" in refused(state).detail


def test_an_unknown_field_is_refused(state: DiskState) -> None:
    write(state, msgspec.json.encode({**payload(state), "more": 1}))
    assert "more" in refused(state).detail


def test_a_file_of_nothing_is_refused(state: DiskState) -> None:
    write(state, msgspec.json.encode(dict.fromkeys(payload(state))))
    assert "found neither" in refused(state).detail


def test_a_key_that_is_not_the_svids_is_refused(state: DiskState) -> None:
    document = payload(state)
    state.save(some_node())
    node, other = document["node"], payload(state)["node"]
    assert isinstance(node, dict)
    assert isinstance(other, dict)
    write(state, msgspec.json.encode({**document, "node": {**node, "private_key": other["private_key"]}}))
    assert "key" in refused(state).detail


def test_a_file_that_others_can_read_is_refused(state: DiskState) -> None:
    state.path.chmod(0o640)
    assert "0640" in refused(state).detail


def test_a_directory_that_others_can_read_is_refused(state: DiskState) -> None:
    state.path.parent.chmod(0o755)
    with pytest.raises(Refused, match="0755"):
        DiskState(state.path.parent)


def test_a_link_is_refused(state: DiskState) -> None:
    there = state.path.rename(state.path.with_name("there"))
    state.path.symlink_to(there)
    assert "symbolic link" in refused(state).detail


def test_a_failed_write_leaves_what_was_there(state: DiskState, tmp_path: Path) -> None:
    before = state.path.read_bytes()
    away = tmp_path / "away"
    state.path.parent.rename(away)
    with pytest.raises(Refused) as failed:
        state.save(some_node())
    assert failed.value.kind is Kind.UNAVAILABLE
    away.rename(state.path.parent)
    assert state.path.read_bytes() == before
    assert list(state.path.parent.iterdir()) == [state.path]
