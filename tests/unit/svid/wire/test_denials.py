"""Messages of the Denials service and values, both ways."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from svid.denials import Denial
from svid.errors import SpiffeIDError, SVIDError
from svid.spiffeid import TrustDomain
from svid.wire.denials import (
    MAX_POINT_BYTES,
    DenialsMessage,
    Enforced,
    Epoch,
    read_denied,
    read_enforced,
    write_denied,
    write_enforced,
)
from svid.wire.pb import denials_pb2 as pb

END = 1_800_000_000
LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())

epochs = st.builds(Epoch, incarnation=st.text(min_size=1), number=st.integers(0, 2**64 - 1))
denials = st.builds(
    Denial, st.integers(0, 2**128 - 1), st.integers(0, LAST).map(lambda end: datetime.fromtimestamp(end, UTC))
)
messages = st.builds(
    DenialsMessage,
    trust_domain=st.just(TrustDomain("example.org")),
    epoch=st.none() | epochs,
    snapshot=st.booleans(),
    denials=st.lists(denials, max_size=20).map(tuple),
    age=st.none() | st.timedeltas(timedelta(), timedelta(days=3_000_000)),
)


def good() -> pb.Denied:
    return pb.Denied(
        trust_domain="example.org",
        epoch=pb.Epoch(incarnation="1", number=7),
        numbers=bytes(31) + b"\1",
        ends=[END, END + 1],
        age=Duration(seconds=3),
    )


@given(messages)
def test_a_message_says_on_the_other_side_what_it_said_here(value: DenialsMessage) -> None:
    assert read_denied(pb.Denied.FromString(write_denied(value).SerializeToString())) == value


def test_numbers_are_sixteen_bytes_each_and_each_has_its_end() -> None:
    end = datetime.fromtimestamp(END, UTC)
    assert read_denied(good()).denials == (Denial(0, end), Denial(1, end + timedelta(seconds=1)))


def test_a_message_with_more_to_come_has_no_epoch_yet() -> None:
    message = good()
    message.more = True
    assert read_denied(message).epoch is None
    assert read_denied(message).more


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("numbers", bytes(31), "numbers: expected a multiple of 16 bytes, found 31"),
        ("numbers", bytes(16), "ends: expected one for each of 1 numbers, found 2"),
        ("numbers", b"", "ends: expected one for each of 0 numbers, found 2"),
        ("numbers", bytes(48), "ends: expected one for each of 3 numbers, found 2"),
        ("trust_domain", "", "trust domain"),
        ("trust_domain", "Example.org/a b", "trust domain"),
        ("ends", [END, -1], "ends: expected seconds since 1970"),
        ("ends", [END, LAST + 1], "ends: expected seconds since 1970"),
        ("ends", [END, 2**63 - 1], "ends: expected seconds since 1970"),
        ("epoch", pb.Epoch(), "epoch: the incarnation is missing"),
        ("age", Duration(seconds=-1), "age: expected a length of time"),
        ("age", Duration(seconds=2**63 - 1), "age: expected a length of time"),
        ("age", Duration(nanos=2**31 - 1), "age: expected a length of time"),
        ("age", Duration(nanos=10**9), "age: expected a length of time"),
    ],
)
def test_a_message_that_cannot_be_meant_is_refused(field: str, value: object, says: str) -> None:
    message = good()
    message.ClearField(field)  # type: ignore[arg-type]  # one of the table
    message.MergeFrom(pb.Denied(**{field: value}))  # type: ignore[arg-type]  # of the type that goes with it
    with pytest.raises(SVIDError, match=says):
        read_denied(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_our_error(data: bytes) -> None:
    try:
        message = pb.Denied.FromString(data)
    except DecodeError:
        return
    try:
        value = read_denied(message)
    except SVIDError:
        return
    assert read_denied(write_denied(value)) == value


def test_an_age_is_never_rounded_to_one_that_is_younger() -> None:
    message = good()
    message.age.nanos = 1
    assert read_denied(message).age == timedelta(seconds=3, microseconds=1)


@given(epochs, st.text(min_size=1, max_size=MAX_POINT_BYTES // 4), st.booleans())
def test_a_receipt_says_on_the_other_side_what_it_said_here(epoch: Epoch, point: str, gone: bool) -> None:  # noqa: FBT001 - hypothesis draws it
    value = Enforced(epoch=epoch, point=point, gone=gone)
    assert read_enforced(write_enforced(value)) == value


@pytest.mark.parametrize("point", ["", "a" * 257, "ü" * 129])
def test_a_point_without_a_name_or_with_one_that_is_too_long_is_refused(point: str) -> None:
    request = write_enforced(Enforced(epoch=Epoch(incarnation="1", number=1), point=point))
    with pytest.raises(SVIDError, match="point: expected 1 to 256 bytes"):
        read_enforced(request)


def test_a_receipt_without_an_epoch_is_refused() -> None:
    with pytest.raises(SVIDError, match="epoch: the incarnation"):
        read_enforced(pb.EnforcedRequest(point="a"))


def test_a_trust_domain_that_is_none_says_by_which_rule() -> None:
    message = good()
    message.trust_domain = "spiffe://"
    with pytest.raises(SpiffeIDError):
        read_denied(message)
