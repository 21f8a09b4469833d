import json
import socket
from pathlib import Path

import pytest

from cognomen.cli.devstate import DevState, Kept
from cognomen.process.privatefile import write_private
from cognomen.protocol.errors import Kind, Refused


@pytest.fixture
def state(tmp_path: Path) -> DevState:
    return DevState(path=tmp_path)


def test_nothing_was_kept_before_the_first_run(state: DevState) -> None:
    assert state.load("example.org") is None


def test_what_was_kept_is_found_again(state: DevState) -> None:
    kept = Kept.fresh("example.org")
    state.save(kept)
    assert state.load("example.org") == kept


def test_the_two_doors_have_ports_of_their_own_outside_those_of_outgoing_connections() -> None:
    kept = Kept.fresh("example.org")
    first, second = (int(address.rpartition(":")[2]) for address in (kept.node_address, kept.join_address))
    assert first != second
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest < 30_000:
        pytest.skip(f"this machine gives ports from {lowest} on to outgoing connections")
    assert max(first, second) < lowest


def test_ports_that_somebody_has_by_now_are_not_used_again(state: DevState) -> None:
    kept = Kept.fresh("example.org")
    state.save(kept)
    host, _, port = kept.join_address.rpartition(":")
    with socket.create_server((host, int(port))):
        assert state.load("example.org") is None


def test_a_state_of_another_trust_domain_is_refused(state: DevState) -> None:
    state.save(Kept.fresh("example.org"))
    with pytest.raises(Refused, match=r"expected example\.org, as in the state directory, found other\.test"):
        state.load("other.test")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"trust_domain": "\xff"}', b'{"trust_domain": 1}', b'{"trust_domain": "a", "x": 1}'],
)
def test_a_file_that_is_no_state_is_refused_with_a_next_step(state: DevState, content: bytes) -> None:
    write_private(state.path / "dev.json", content)
    with pytest.raises(Refused) as caught:
        state.load("example.org")
    assert caught.value.kind is Kind.INVALID
    assert caught.value.hint == f"remove {state.path} to start over"


@pytest.mark.parametrize("address", ["", "a", "127.0.0.1:x", "127.0.0.1:99999", "300.0.0.1:1"])
def test_an_address_that_cannot_be_bound_is_not_used_again(state: DevState, address: str) -> None:
    document = {"trust_domain": "example.org", "node_address": address, "join_address": "127.0.0.1:0"}
    write_private(state.path / "dev.json", json.dumps(document).encode())
    assert state.load("example.org") is None


def test_one_run_at_a_time_has_the_directory(state: DevState) -> None:
    with state.taken(), pytest.raises(Refused, match="already in use by another run"), state.taken():
        pass
    with state.taken():
        pass
