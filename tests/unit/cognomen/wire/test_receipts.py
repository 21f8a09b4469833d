"""What a node says of its enforcement points: who counts as enforcing a change, and which words are refused."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.receipts import MOST_BEHIND, Behind, Enforcement, Point, in_turns
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.receipts import enforcement_from_pb, enforcement_to_pb
from svid.errors import SVIDError


def behind(*numbers: int) -> tuple[Behind, ...]:
    return tuple(Behind(point=Point(0, pid, "web"), number=number) for pid, number in enumerate(numbers))


@pytest.mark.parametrize(
    ("seen", "change", "enforcing", "silent"),
    [
        (Enforcement(number=9), 9, 0, 0),
        (Enforcement(number=9, points=3, reached=3), 9, 3, 0),
        (Enforcement(number=9, points=3, reached=3), 10, 0, 0),
        (Enforcement(number=9, points=3, reached=1, behind=behind(4, 7)), 9, 1, 2),
        (Enforcement(number=9, points=3, reached=1, behind=behind(4, 7)), 7, 2, 1),
        (Enforcement(number=9, points=3, reached=1, behind=behind(4, 7)), 4, 3, 0),
        (Enforcement(number=9, points=30, reached=1, behind=behind(*[4] * 20)), 5, 1, 20),
        (Enforcement(number=9, points=30, reached=1, behind=behind(*[4] * 19, 5)), 5, 2, 19),
        (Enforcement(number=9, points=30, reached=1, behind=behind(*[4] * 20)), 4, 30, 0),
        (Enforcement(number=9, points=30, reached=1), 9, 1, 0),
    ],
)
def test_whoever_is_not_known_to_have_a_change_does_not_count(
    seen: Enforcement, change: int, enforcing: int, silent: int
) -> None:
    assert (seen.enforcing(change), len(seen.silent(change))) == (enforcing, silent)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=MOST_BEHIND), st.integers(0, 5), st.integers(0, 5))
def test_the_other_side_reads_what_was_said(numbers: list[int], reached: int, unnamed: int) -> None:
    value = Enforcement(
        number=9, points=len(numbers) + reached + unnamed, reached=reached, behind=behind(*sorted(numbers))
    )
    assert enforcement_from_pb(enforcement_to_pb(value), 9) == value


def test_whoever_has_many_takes_turns_with_the_others() -> None:
    assert in_turns(["a1", "a2", "a3", "b1", "c1", "b2"], lambda one: one[0]) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_slowest_come_first_in_whichever_order_they_were_said() -> None:
    said = enforcement_to_pb(Enforcement(number=9, points=2, behind=behind(7, 4)))
    assert [one.number for one in enforcement_from_pb(said, 9).behind] == [4, 7]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (pb.Enforcement(points=1_000_001), "points: expected at most 1000000, found 1000001"),
        (pb.Enforcement(points=1, reached=2), "points: expected at least 2 .*, found 1"),
        (pb.Enforcement(points=1, reached=1, behind=[pb.PointBehind(point="a")]), "points: expected at least 2 "),
        (pb.Enforcement(points=1, behind=[pb.PointBehind()]), "point: expected 1 to 256 bytes, found 0"),
        (pb.Enforcement(points=1, behind=[pb.PointBehind(point="a" * 257)]), "point: expected 1 to 256 bytes"),
        (pb.Enforcement(points=50, behind=[pb.PointBehind(point="a")] * 21), "behind: expected at most 20, found 21"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: pb.Enforcement, reason: str) -> None:
    with pytest.raises(SVIDError, match=reason):
        enforcement_from_pb(said, 9)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_our_error(data: bytes) -> None:
    try:
        value = enforcement_from_pb(pb.Enforcement.FromString(data), 9)
    except (DecodeError, SVIDError):
        return
    assert enforcement_from_pb(enforcement_to_pb(value), 9) == value
