"""svid/tls/reports: how often a refusal is told, and in which words."""

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta

import pytest

from svid.clock import SystemClock
from svid.errors import AuthorizationError, X509SVIDError
from svid.spiffeid import SpiffeID
from svid.tls.authorize import matching
from svid.tls.context import client_context, server_context
from svid.tls.refusals import UnwantedPeerError
from svid.tls.reports import Reason, Refusal, Reports, refusal_counts, shown_address
from tests.doubles.clock import FakeClock
from tests.doubles.handshakes import called
from tests.doubles.identity import CLIENT, Identity, KnowingIdentity
from tests.doubles.trustdomain import TrustDomainDouble

MINUTE = timedelta(minutes=1)
ANYBODY = matching(lambda _: True)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


def peer(number: int) -> SpiffeID:
    return SpiffeID.parse(f"spiffe://example.org/{number}")


def test_a_line_at_once_and_then_one_a_minute_with_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    reports = Reports("door", clock=clock)
    error = AuthorizationError("peer: expected another")
    reports.tell(error, peer=CLIENT, address="192.0.2.1:1")
    assert lines(caplog) == [f"door: refused {CLIENT} at 192.0.2.1:1, not allowed: peer: expected another"]
    for port in range(5):
        reports.tell(error, peer=CLIENT, address=f"192.0.2.1:{port}")
    assert lines(caplog) == []
    clock.advance(MINUTE)
    reports.tell(error, peer=CLIENT)
    assert lines(caplog) == [
        f"door: refused {CLIENT}, not allowed: peer: expected another (5 similar lines left out before)"
    ]


def test_neither_another_peer_nor_another_reason_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports("door", clock=FakeClock())
    for who in (peer(1), peer(2)):
        reports.tell(AuthorizationError("no"), peer=who)
    reports.tell(X509SVIDError("no"), address="192.0.2.1:1")
    reports.tell(X509SVIDError("no"), address="192.0.2.1:2")  # the same host
    reports.tell(X509SVIDError("no"), address="192.0.2.2:1")
    assert len(lines(caplog)) == 4


def test_a_thousand_strangers_fill_no_log_and_take_no_line_from_a_member(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    reports = Reports("door", clock=clock)
    for number in range(1000):
        reports.tell(X509SVIDError("no"), address=f"host{number}:1")
    assert len(lines(caplog)) == 257
    reports.tell(AuthorizationError("no"), peer=CLIENT)
    assert len(lines(caplog)) == 1
    clock.advance(MINUTE)
    reports.tell(X509SVIDError("no"), address="another:1")
    (line,) = lines(caplog)
    assert line == "door: refused a peer at another:1, unauthenticated: no"
    for number in range(300):
        reports.tell(X509SVIDError("no"), address=f"late{number}:1")
    assert lines(caplog)[-1].endswith(f"({1000 - 257} similar lines left out before)")


def test_what_a_stranger_wrote_is_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports("door")
    reports.tell(X509SVIDError("found \n\x1b[2J\udc80" + "x" * 10_000))
    (line,) = lines(caplog)
    assert line.startswith(r"door: refused a peer, unauthenticated: found \n\x1b[2J\udc80xxx")
    assert len(line) < 600


def test_an_error_of_on_refused_is_logged_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: Refusal) -> None:
        raise ZeroDivisionError

    reports = Reports("door", fails, clock=FakeClock())
    for number in range(5):
        reports.tell(AuthorizationError("no"), peer=peer(number))
    found = lines(caplog)
    assert len(found) == 6
    assert found.count("door: on_refused failed") == 1


async def _later(_: Refusal) -> None:
    """Would be done later, by nobody."""


@pytest.mark.parametrize("wrong", [_later, Refusal, "log"])
def test_on_refused_must_act_at_once(wrong: object, client: Identity) -> None:
    with pytest.raises(TypeError, match="on_refused: expected"):
        client_context(client, ANYBODY, on_refused=wrong)  # type: ignore[arg-type]  # the mistake


def test_a_refusal_cannot_be_changed_by_whom_it_is_told() -> None:
    told: list[Refusal] = []
    Reports("door", told.append).tell(UnwantedPeerError("no", peer=CLIENT), address="192.0.2.1:1")
    assert told == [Refusal(point="door", reason=Reason.NOT_ALLOWED, peer=CLIENT, detail="no", address="192.0.2.1:1")]
    with pytest.raises(AttributeError):
        told[0].peer = None  # type: ignore[misc]  # the mistake


def test_a_forked_child_counts_from_0() -> None:
    Reports("door").tell(AuthorizationError("no"))
    child = os.fork()
    if not child:
        os._exit(len(refusal_counts()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert refusal_counts()["door", Reason.NOT_ALLOWED] >= 1


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (("127.0.0.1", 4711), "127.0.0.1:4711"),
        (["::1", 4711], "[::1]:4711"),
        (("::1", 4711, 0, 0), "[::1]:4711"),
        ("ipv4:127.0.0.1:4711", "127.0.0.1:4711"),
        ("ipv6:%5B::1%5D:4711", "[::1]:4711"),
        ("unix:", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_as_people_write_it(found: object, shown: str) -> None:
    assert shown_address(found) == shown


def refused_by(server: Identity, caller: Callable[[socket.socket], object]) -> Refusal:
    """What a server tells of a caller that does that."""
    told: list[Refusal] = []
    context = server_context(server, ANYBODY, on_refused=told.append)
    with pytest.raises(OSError), called(context, caller):  # noqa: PT011 - which one is OpenSSL's business
        pass
    return told[0]


def test_who_shows_no_certificate_is_told_of(server: Identity) -> None:
    def anonymous(near: socket.socket) -> None:
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        with plain.wrap_socket(near) as mine:
            mine.recv(1)

    refusal = refused_by(server, anonymous)
    assert (refusal.reason, refusal.detail) == (
        Reason.UNAUTHENTICATED,
        "certificate: expected an X509-SVID, found none",
    )


def test_who_speaks_no_tls_is_told_of(server: Identity) -> None:
    refusal = refused_by(server, lambda near: near.sendall(b"GET / HTTP/1.1\r\n\r\n"))
    assert refusal.reason is Reason.UNAUTHENTICATED
    assert refusal.detail == "handshake: expected mutual TLS 1.3, found: http request"


def test_who_leaves_is_not_told_of(server: Identity) -> None:
    told: list[Refusal] = []
    context = server_context(server, ANYBODY, on_refused=told.append)
    with pytest.raises(OSError), called(context, lambda near: near.close()):  # noqa: PT011 - as above
        pass
    assert told == []


def test_who_does_not_want_us_is_not_told_of(server: Identity, client: Identity) -> None:
    """It is the other side that refuses."""
    told: list[Refusal] = []
    context = server_context(server, ANYBODY, on_refused=told.append)
    picky = client_context(client, matching(lambda _: False))
    with called(context, picky.wrap_socket) as far, contextlib.suppress(OSError):
        assert far.recv(1) == b""
    assert told == []


def test_an_svid_that_is_over_is_told_as_expired(server: Identity) -> None:
    old = TrustDomainDouble(now=SystemClock().now() - timedelta(hours=2))
    stale = Identity(old.svid("/client", lifetime=MINUTE), old.bundle, *server.bundles.values())
    anybody = client_context(Identity(stale.svid, *server.bundles.values()), ANYBODY)
    server.change(server.svid, old.bundle)
    refusal = refused_by(server, anybody.wrap_socket)
    assert (refusal.reason, refusal.peer) == (Reason.EXPIRED, None)


def test_an_open_connection_that_ends_with_its_peers_svid_is_told_of_once(client: Identity, server: Identity) -> None:
    told: list[Refusal] = []
    knowing = KnowingIdentity(server.svid, *server.bundles.values())
    context = server_context(knowing, ANYBODY, on_refused=told.append)
    mine = client_context(client, ANYBODY)
    with called(context, mine.wrap_socket) as far:
        knowing.revoke_svid(client.svid)
        with pytest.raises(OSError, match="was revoked"):
            far.recv(1)
    assert [(one.reason, one.peer) for one in told] == [(Reason.REVOKED, CLIENT)]
