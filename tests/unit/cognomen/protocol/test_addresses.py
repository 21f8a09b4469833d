"""Network addresses as people write them."""

import pytest

from cognomen.protocol.addresses import host_and_port


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),  # noqa: S104 - recognised, not bound
        ("[::]:65535", ("::", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("issuer.example.org:8443", ("issuer.example.org", 8443)),
        ("a_b-c.local.:1", ("a_b-c.local.", 1)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":8443", "8443", "host", "host:", "host:x", "host:65536", "host:-1", "host:\u0661", "host:0000001"),
        *("http://host:1", "unix:///a:1", "host/a:1", "a b:1", "a..b:1", "-a:1", "a" * 64 + ":1", "a\n:1"),
        *("1.2.3:1", "1.2.3.4.5:1", "256.1.1.1:1", "::1:1", "[::1", "[::1]", "[127.0.0.1]:1", "[]:1", "[::1%]]:1"),
        "a." * 127 + "a:1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port such as "):
        host_and_port(text)
