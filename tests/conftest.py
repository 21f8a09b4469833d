"""What every test has: an end, the same examples of hypothesis (`--hypothesis-profile explore` looks for new ones), two ends of TLS."""

import faulthandler
import os
import sys
import threading
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles.identity import Identity
from tests.doubles.trustdomain import TrustDomainDouble

settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=2000)
settings.load_profile("same")

STANDARD_ERROR = pytest.StashKey[int]()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each core: most tests wait for daemons, most of the time."""
    del config
    return 2 * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STANDARD_ERROR] = os.dup(2)  # before the tests' own is captured
    os.umask(0o022)  # under 002 our programs refuse what a test makes where its group has others in it, as they should


def give_it_an_end(test: pytest.Item) -> None:
    """End the process of a test that goes on for twice its timeout, with a traceback of each thread.

    The timeout is an exception in the test. It ends no wait in its wake: for a child that nobody ended, for a thread that holds a lock.
    """
    marker = test.get_closest_marker("timeout")
    seconds = 2 * float(marker.args[0] if marker else test.config.getini("timeout"))
    faulthandler.dump_traceback_later(seconds, exit=True, file=test.config.stash[STANDARD_ERROR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    give_it_an_end(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Pytest has just taken the end away, for somebody who would look into the failure with a debugger."""
    if isinstance(node, pytest.Item):
        give_it_an_end(node)


@pytest.fixture(scope="module", autouse=True)
def no_source_is_left_open() -> Iterator[None]:
    """Fail a module that leaves a source open; otherwise tests of other modules that count threads would fail, in some orders."""
    before = set(threading.enumerate())
    yield
    ours = [one for one in threading.enumerate() if one not in before and one.name.startswith("svid-")]
    for one in ours:
        one.join(10)  # some of ours end by themselves soon
    assert [one.name for one in ours if one.is_alive()] == []


@pytest.fixture(scope="module", autouse=True)
def no_daemon_has_run_here() -> Iterator[None]:
    """Fail a module that runs a daemon in this process, which then hides from other processes; an attestor under test would not see it."""
    yield
    assert "cognomen.process.privatememory" not in sys.modules


@pytest.fixture
def domain() -> TrustDomainDouble:
    """Whose `client` and `server` are."""
    return TrustDomainDouble()


@pytest.fixture
def client(domain: TrustDomainDouble) -> Identity:
    return Identity(domain.svid("/client"), domain.bundle)


@pytest.fixture
def server(domain: TrustDomainDouble) -> Identity:
    return Identity(domain.svid("/server"), domain.bundle)
