"""The wall clock under real daemons: set while they run, and years of it gone by while they were off; `make soak` does more of it."""

import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from bench.rig.daemons import Daemon, Dev, free_port
from svid.clock import SystemClock
from tests.flow.shiftedclock import ShiftedClock, needs_shifted_clock
from tests.flow.soak import IS_SOAK, TIMEOUT

pytestmark = [needs_shifted_clock, pytest.mark.timeout(TIMEOUT)]

ME = f"unix:uid:{os.geteuid()}"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LONG = [timedelta(days=2), timedelta(days=8), timedelta(days=30)] if IS_SOAK else []
STEPS = [10 * MINUTE, -10 * MINUTE, 8 * DAY, -8 * DAY, 60 * DAY] if IS_SOAK else [-20 * MINUTE]
SECONDS = 60  # for all that is to come back, on a busy machine


def becomes_true(what: Callable[[], bool]) -> None:
    """Wait until it is so."""
    clock = SystemClock()
    end = clock.monotonic() + SECONDS
    while not what():
        assert clock.monotonic() < end, f"not within {SECONDS} s"
        time.sleep(0.2)


def presented(port: int) -> x509.Certificate:
    """What a door presents now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_an_issuer_that_started_20_minutes_fast_presents_a_valid_svid_once_its_clock_is_right(tmp_path: Path) -> None:
    clock, port = ShiftedClock(tmp_path), free_port()
    clock.set(20 * MINUTE)
    arguments = (
        "issuer", "run", "--trust-domain=example.org", f"--state={tmp_path}/state", f"--admin-socket={tmp_path}/admin/s",
        f"--node-address=127.0.0.1:{free_port()}", f"--join-address=127.0.0.1:{port}",
    )  # fmt: skip
    with Daemon(arguments, log=tmp_path / "log", ready="COGNOMEN_ADMIN_SOCKET=", environment=clock.environment):
        assert presented(port).not_valid_before_utc > clock.now() - MINUTE
        clock.set(timedelta())
        assert presented(port).not_valid_before_utc > clock.now()
        becomes_true(lambda: presented(port).not_valid_before_utc <= clock.now())


def entries(dev: Dev) -> list[dict[str, object]]:
    """The entries of the issuer, without when they were used."""
    admin = str(dev.state / "admin" / "issuer.sock")
    found: list[dict[str, object]] = json.loads(dev.command("entry", "list", "--output", "json", "--socket", admin))[
        "entries"
    ]
    for one in found:
        del one["last_used"]
    return found


def has_valid_svid(dev: Dev, clock: ShiftedClock) -> bool:
    """Whether a program gets an SVID that is valid now."""
    done = dev.run("fetch", "x509", "--output", "json")
    if done.returncode:
        return False
    (svid,) = json.loads(done.stdout)["svids"]
    begin, end = (datetime.fromisoformat(svid[name]) for name in ("not_before", "not_after"))
    return begin <= clock.now() < end


@pytest.mark.parametrize("away", [*LONG, 60 * DAY], ids=str)
def test_dev_goes_on_with_a_state_of_any_age(tmp_path: Path, away: timedelta) -> None:
    clock = ShiftedClock(tmp_path)
    dev = Dev(tmp_path, "--entry", f"/a={ME}", environment=clock.environment)
    with dev:
        before = entries(dev)
    clock.set(away)
    with dev:
        assert has_valid_svid(dev, clock)
        assert entries(dev) == before, "it is the same node"
        admin = str(dev.state / "admin" / "issuer.sock")
        assert not json.loads(dev.command("status", "--output", "json", "--socket", admin))["clock"]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_dev_comes_back_when_the_clock_is_set_and_when_it_is_put_right(tmp_path: Path, step: timedelta) -> None:
    clock = ShiftedClock(tmp_path)
    with Dev(tmp_path, "--entry", f"/a={ME}", environment=clock.environment) as dev:
        assert has_valid_svid(dev, clock)
        before = entries(dev)
        for shift in (step, timedelta()):
            clock.set(shift)
            becomes_true(lambda: has_valid_svid(dev, clock))
        assert entries(dev) == before


def test_dev_invites_its_node_again_when_the_issuer_does_not_know_it_any_more(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    with Dev(tmp_path, "--entry", f"/a={ME}", environment=clock.environment) as dev:
        admin = str(dev.state / "admin" / "issuer.sock")
        (node,) = json.loads(dev.command("node", "list", "--output", "json", "--socket", admin))["nodes"]
        dev.command("node", "evict", str(node["id"]), "--socket", admin)
        becomes_true(lambda: [one["parent_id"] for one in entries(dev)] != [node["spiffe_id"]])
        becomes_true(lambda: has_valid_svid(dev, clock))
