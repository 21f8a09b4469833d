"""Where the Workload API is: every form of address, good and bad."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.errors import AddressError
from svid.workloadapi.address import endpoint_target

GOOD = {
    "unix:///run/api.sock": "unix:/run/api.sock",
    "unix:/run/api.sock": "unix:/run/api.sock",
    "UNIX:/run/api.sock": "unix:/run/api.sock",
    "unix:///with%20space": "unix:/with%20space",
    "unix:/" + 106 * "x": "unix:/" + 106 * "x",
    "tcp://127.0.0.1:8000": "ipv4:127.0.0.1:8000",
    "tcp://[::1]:65535": "ipv6:[::1]:65535",
    "tcp://[2001:db8:0:0::1]:1": "ipv6:[2001:db8::1]:1",
}

BAD = {
    "": "expected unix:///PATH or tcp://IP:PORT",
    "/run/api.sock": "expected unix:///PATH or tcp://IP:PORT",
    "http://127.0.0.1:8000": "expected unix:///PATH or tcp://IP:PORT",
    "unix": "expected unix:///PATH or tcp://IP:PORT",
    "unix-abstract:name": "expected unix:///PATH or tcp://IP:PORT",
    "unix:": "the absolute path of a socket",
    "unix:relative": "the absolute path of a socket",
    "unix://host/run/api.sock": "the absolute path of a socket",
    "unix://user@/run/api.sock": "the absolute path of a socket",
    "unix://": "the absolute path of a socket",
    "unix:///": "the absolute path of a socket",
    "unix:///run/api.sock?query": "the absolute path of a socket",
    "unix:///run/api.sock#fragment": "the absolute path of a socket",
    "unix:///run/api.sock\n": "the absolute path of a socket",
    "unix:///with space": "the absolute path of a socket",
    "unix:///half%2": "the absolute path of a socket",
    "unix:///n%00l": "without NUL",
    "unix:/" + 107 * "x": "at most 107 bytes, found 108",
    "tcp:127.0.0.1:8000": "an IP address and a port",
    "tcp://127.0.0.1": "an IP address and a port",
    "tcp://127.0.0.1:0": "an IP address and a port",
    "tcp://127.0.0.1:65536": "an IP address and a port",
    "tcp://127.0.0.1:8000/": "an IP address and a port",
    "tcp://127.0.0.1:8000/path": "an IP address and a port",
    "tcp://127.0.0.1:8000\n": "an IP address and a port",
    "tcp://user@127.0.0.1:8000": "an IP address and a port",
    "tcp://localhost:8000": "an IP address and a port",
    "tcp://127.0.0.1:٨": "an IP address and a port",
    "tcp://[fe80::1%eth0]:8000": "an IP address and a port",
    "tcp://127.0.0.256:8000": "expected an IP address, found '127.0.0.256'",
    "tcp://[::g]:8000": "an IP address and a port",
    "tcp://[:::]:8000": "expected an IP address, found ':::'",
    "tcp://[127.0.0.1]:8000": "brackets around an IPv6 address",
    "tcp://::1:8000": "an IP address and a port",
}


@pytest.mark.clause("WE-09", "WE-10", "WE-11")
@pytest.mark.parametrize(("address", "target"), GOOD.items())
def test_an_address_becomes_a_target(address: str, target: str) -> None:
    assert endpoint_target(address) == target


@pytest.mark.clause("WE-09", "WE-10", "WE-11")
@pytest.mark.parametrize(("address", "reason"), BAD.items())
def test_another_address_is_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(AddressError) as caught:
        endpoint_target(address)
    assert reason in str(caught.value)


@pytest.mark.clause("WE-08")
def test_what_the_caller_says_goes_before_the_environment() -> None:
    environment = {"SPIFFE_ENDPOINT_SOCKET": "unix:///of/environment"}
    assert endpoint_target(None, environment) == "unix:/of/environment"
    assert endpoint_target("unix:///of/caller", environment) == "unix:/of/caller"


@pytest.mark.clause("WE-08")
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "and SPIFFE_ENDPOINT_SOCKET is not set"),
        ({"SPIFFE_ENDPOINT_SOCKET": ""}, "SPIFFE_ENDPOINT_SOCKET: expected"),
    ],
)
def test_without_an_address_nothing_is_guessed(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        endpoint_target(None, environment)


@given(
    st.text()
    | st.text("unixtcp:/.[]%012345").map("unix:/{}".format)
    | st.text("0123456789.:[]/").map("tcp://{}".format)
)
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        target = endpoint_target(text)
    except AddressError:
        return
    assert target.startswith(("unix:/", "ipv4:", "ipv6:["))
    assert target.isascii()
    assert target.isprintable()
