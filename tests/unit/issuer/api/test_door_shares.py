"""The network doors together never take the descriptors that the store and the other sockets need."""

import resource
from collections.abc import Iterator

import pytest

from issuer.api.doors import DESCRIPTORS, join_crowd, node_crowd


@pytest.fixture(params=[1024, 4096])
def allowed(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many descriptors this process may have, for a moment."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (request.param, before[1]))
    yield request.param
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_full_doors_leave_descriptors_to_others(allowed: int) -> None:
    """A stranger with a workload's SVID is heard by gRPC, too, and then holds as many as a node."""
    held = sum(one.strangers + one.reserved + one.nodes for one in (join_crowd(), node_crowd()))
    assert allowed / 2 < held * DESCRIPTORS <= allowed * 13 / 16


def test_each_door_has_room_for_strangers_where_descriptors_are_few(allowed: int) -> None:
    assert min(join_crowd().strangers, node_crowd().strangers) >= allowed // 64
