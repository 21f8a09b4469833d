"""Where a peer is, for people."""

import pytest

from issuer.api.peers import host_of


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[::ffff:192.0.2.7]:4711", "192.0.2.7"),
        ("[fe80::1%eth0]:4711", "fe80::1%eth0"),
        ("", ""),
    ],
)
def test_the_host_of_an_address_is_shown_as_people_know_it(address: str, host: str) -> None:
    assert host_of(address) == host
