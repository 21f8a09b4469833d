"""Which header lists HTTP/2 allows: one list in order, and each way to break it."""

import pytest

from cognomen.gate.fields import fault_of_request, fault_of_trailers

Fields = list[tuple[str, str]]
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "localhost")]
GOOD = [
    *PSEUDO,
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("x-bin", "AA"),
    ("x-bin", ""),
    ("x", "é \t;"),
]


def without(name: str) -> Fields:
    return [field for field in GOOD if field[0] != name]


def test_the_headers_of_a_call_are_in_order() -> None:
    assert fault_of_request(GOOD) is None
    assert fault_of_request(without(":authority")) is None


@pytest.mark.parametrize("name", [":method", ":scheme", ":path"])
def test_a_pseudo_header_that_is_missing_or_empty_is_a_fault(name: str) -> None:
    assert fault_of_request(without(name)) is not None
    assert fault_of_request([(name, ""), *without(name)]) is not None


@pytest.mark.parametrize("field", PSEUDO)
def test_a_pseudo_header_that_comes_twice_is_a_fault(field: tuple[str, str]) -> None:
    assert fault_of_request([field, *GOOD]) is not None


@pytest.mark.parametrize("name", [":status", ":protocol", ":", ":Method", ":méthode"])
def test_another_pseudo_header_is_a_fault(name: str) -> None:
    assert fault_of_request([(name, "200"), *GOOD]) is not None


def test_a_pseudo_header_behind_another_field_is_a_fault() -> None:
    assert fault_of_request([*without(":path"), (":path", "/")]) is not None


EXTRA: Fields = [
    ("X-Upper", "1"),
    ("", "1"),
    ("a b", "1"),
    ("a:b", "1"),
    ("a\0", "1"),
    ("é", "1"),
    ("connection", "close"),
    ("proxy-connection", "close"),
    ("keep-alive", "1"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("te", "trailers, deflate"),
    ("a", "NUL\0"),
    ("a", "line\rend"),
    ("a", "line\nend"),
    ("a", "last\n"),
    ("a", " before"),
    ("a", "behind\t"),
]


@pytest.mark.parametrize("field", EXTRA)
def test_a_field_that_no_message_may_have_is_a_fault_of_requests_and_trailers(field: tuple[str, str]) -> None:
    assert fault_of_request([*GOOD, field]) is not None
    assert fault_of_trailers([("x", "1"), field]) is not None


def test_trailers_without_pseudo_headers_are_in_order() -> None:
    assert fault_of_trailers([("grpc-status", "0")]) is None
    assert fault_of_trailers([(":path", "/")]) is not None


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_is_judged_alike_in_every_name(byte: int) -> None:
    allowed = chr(byte) in "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
    assert (fault_of_request([*GOOD, (f"a{chr(byte)}", "1")]) is None) == allowed
    assert (fault_of_request([*GOOD, (f"{chr(byte)}a", "1")]) is None) == allowed
