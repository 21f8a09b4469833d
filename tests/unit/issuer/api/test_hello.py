"""issuer/api/hello: which messages of a handshake are too long to be begun."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.api.hello import Hello, LongHelloError

MOST = 16 * 1024


def record(kind: int, content: bytes) -> bytes:
    return bytes((kind, 3, 1)) + len(content).to_bytes(2, "big") + content


def message(declared: int, content: bytes) -> bytes:
    return b"\x01" + declared.to_bytes(3, "big") + content


def is_refused(*pieces: bytes) -> bool:
    hello = Hello()
    try:
        for piece in pieces:
            hello.check(memoryview(piece))
    except LongHelloError:
        return True
    return False


LONG = message(MOST + 1, b"")
SHORT = message(3, b"abc")


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (record(22, LONG), True),
        (record(22, message(MOST, b"")), False),
        (record(22, SHORT + LONG), True),
        (record(22, SHORT) + record(22, LONG), True),  # the second hello, when the first had no key that we take
        (record(22, SHORT) + record(20, b"\x01") + record(22, LONG), True),
        (record(22, b"") + record(22, LONG), True),
        (record(21, LONG), False),
        (record(23, b"x") + record(22, LONG), False),  # encrypted from there on
        (b"GET / HTTP/1.1\r\n\r\n" + record(22, LONG), False),
    ],
)
def test_a_long_message_in_the_clear_is_refused_wherever_it_begins(*, said: bytes, refused: bool) -> None:
    assert is_refused(said) is refused
    assert is_refused(*(said[at : at + 1] for at in range(len(said)))) is refused


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=20))
def test_how_it_is_cut_changes_nothing(said: bytes, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(said[at : at + size])
        at += size
    assert is_refused(*pieces, said[at:]) is is_refused(said)


def test_the_hello_of_a_client_passes() -> None:
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(heard, said, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = said.read()
    assert len(hello) < MOST // 4
    assert not is_refused(hello)
