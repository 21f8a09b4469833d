"""svid/workloadapi/forks: what is within gRPC leaves it for a fork, and a child of which that is not true says so."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from svid.errors import WorkloadAPIError
from svid.workloadapi.forks import Forks
from tests.doubles.clock import FakeClock


class Stream:
    """One that a thread waits in until it is interrupted."""

    def __init__(self, forks: Forks, *, is_deaf: bool = False) -> None:
        self._forks = forks
        self._is_deaf = is_deaf
        self.interrupted = 0
        self.over = threading.Event()
        self.begun = threading.Event()
        forks.keep(self)

    def interrupt(self) -> None:
        self.interrupted += 1
        if not self._is_deaf:
            self.over.set()

    def follow(self) -> None:
        with self._forks.within():
            self.begun.set()
            self.over.wait(10)


class Locked:
    def __init__(self) -> None:
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1


@pytest.fixture
def forks() -> Forks:
    return Forks(FakeClock())


def test_a_fork_interrupts_streams_and_its_child_begins_anew(forks: Forks) -> None:
    stream, locked = Stream(forks), Locked()
    forks.renew(locked)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(stream.follow)
        assert stream.begun.wait(10)
        forks.before()
        following.result(10)
        assert stream.interrupted == 1
        forks.after_in_parent()
    assert (forks.generation, locked.renewals) == (0, 0)
    forks.after_in_child()
    assert (forks.generation, locked.renewals) == (1, 1)
    forks.demand_usable()


def test_whoever_comes_during_a_fork_waits_until_it_is_over(forks: Forks) -> None:
    forks.keep(stream := Stream(forks))
    entered = threading.Event()

    def enter() -> None:
        with forks.within():
            entered.set()

    forks.before()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(enter)
        assert not entered.wait(0.05)
        forks.after_in_parent()
        coming.result(10)
    assert stream.interrupted == 1


def test_a_child_of_a_fork_that_met_a_thread_in_grpc_says_so_and_so_do_its_children(forks: Forks) -> None:
    stream = Stream(forks, is_deaf=True)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(stream.follow)
        assert stream.begun.wait(10)
        forks.before()
        stream.over.set()
        following.result(10)
    forks.after_in_child()
    for _ in range(2):
        with pytest.raises(WorkloadAPIError, match=r"forked while gRPC was in use.*post_fork") as caught:
            forks.demand_usable()
        assert caught.value.code == "UNAVAILABLE"
        forks.before()
        forks.after_in_child()


def test_a_callback_that_forks_does_not_wait_for_itself(forks: Forks) -> None:
    with forks.within():
        forks.before()
    forks.after_in_child()
    forks.demand_usable()


def test_a_process_that_forks_all_the_time_keeps_its_streams(forks: Forks) -> None:
    clock = FakeClock()
    forks = Forks(clock)
    stream = Stream(forks)
    for _ in range(1000):
        forks.before()
        forks.after_in_parent()
    assert stream.interrupted == 64
    clock.advance(timedelta(seconds=2))
    for _ in range(10):
        forks.before()
        forks.after_in_parent()
    assert stream.interrupted == 66
    forks.before()
    forks.after_in_child()
    with pytest.raises(WorkloadAPIError, match="forked while gRPC was in use"):
        forks.demand_usable()


@pytest.mark.parametrize(("value", "works"), [("0", False), ("false", False), ("1", True), ("", True)])
def test_where_grpcs_own_support_is_off_a_child_of_a_user_says_so(
    forks: Forks, value: str, *, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", value)
    forks.after_in_child()
    forks.demand_usable()  # it had not been used
    with forks.within():
        pass
    forks.before()
    forks.after_in_child()
    if works:
        forks.demand_usable()
    else:
        with pytest.raises(WorkloadAPIError, match="forked while"):
            forks.demand_usable()
