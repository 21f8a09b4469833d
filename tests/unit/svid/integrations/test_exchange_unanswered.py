"""svid/integrations/exchange_unanswered: what an error of the network means, and whether the same may succeed later."""

import errno
import socket
import ssl
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected
from urllib.error import URLError

import pytest

from svid.integrations.exchange_unanswered import no_answer_within, unanswered

CASES: list[tuple[OSError | HTTPException, str, bool]] = [
    (URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), "name or service not known", False),
    (URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")), "temporary failure", True),
    (URLError(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), "connection refused", True),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host", True),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "connection reset by peer", True),
    (URLError(OSError("Tunnel connection failed: 403 Forbidden")), "the proxy refuses to connect us, with 403", False),
    (OSError("Tunnel connection failed: 502 Bad Gateway"), "the proxy refuses to connect us, with 502", True),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "wrong version number", False),
    (ssl.SSLEOFError(8, "EOF occurred"), "eof occurred", True),
    (RemoteDisconnected("x"), "ended before the whole answer came", True),
    (IncompleteRead(b"a secret", 7), "ended before the whole answer came", True),
    (BadStatusLine("a secret"), "expected an answer of HTTP, found none", False),
    (URLError("unknown"), "the request failed", False),
]


@pytest.mark.parametrize(("error", "words", "is_temporary"), CASES, ids=repr)
def test_each_error_says_what_happened_what_to_look_at_and_whether_it_may_pass(
    error: OSError | HTTPException, words: str, *, is_temporary: bool
) -> None:
    found = unanswered(error)
    assert words in found.reason
    assert found.is_temporary is is_temporary
    assert found.hint
    assert "secret" not in f"{found.reason} {found.hint}"


def test_an_answer_that_is_late_may_come_in_time_later() -> None:
    assert no_answer_within(0.5).reason == "no answer within 0.5 s"
    assert no_answer_within(0.5).is_temporary
