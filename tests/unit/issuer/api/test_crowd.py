"""Who gets room at a network door, and who must go for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.api.crowd import Crowd, CrowdLimits, FullError, KnownAddresses, address_of

LIMITS = CrowdLimits(strangers=6, per_address=3, reserved=4, nodes=5, per_node=2)
A, B, C, D, E, F, G = (bytes([10, 0, 0, n]) for n in range(7))


def crowd(known: KnownAddresses | None = None, limits: CrowdLimits = LIMITS) -> Crowd[str]:
    return Crowd(limits, known or KnownAddresses())


def entered(some: Crowd[str], address: bytes, *names: str) -> list[str | None]:
    return [some.enter(name, address) for name in names]


def test_one_address_has_its_share_and_no_more() -> None:
    some = crowd()
    entered(some, A, "a1", "a2", "a3")
    with pytest.raises(FullError, match="expected at most 3 from one address"):
        some.enter("a4", A)
    assert some.enter("b1", B) is None
    some.leave("a2")
    assert some.enter("a4", A) is None


def test_where_everything_is_taken_the_oldest_of_the_address_with_most_goes() -> None:
    some = crowd()
    entered(some, B, "b1")
    entered(some, A, "a1", "a2", "a3")
    entered(some, C, "c1", "c2")
    assert some.enter("d1", D) == "a1"
    assert set(some.waiting) == {"b1", "a2", "a3", "c1", "c2", "d1"}


def test_where_each_address_has_one_the_oldest_goes() -> None:
    some = crowd()
    for name, address in zip("abcdef", (A, B, C, D, E, F), strict=True):
        some.enter(name, address)
    assert some.enter("g", G) == "a"
    assert some.enter("h", A) == "b"


def test_an_address_that_a_node_proved_itself_from_has_room_of_its_own_at_every_door() -> None:
    known = KnownAddresses()
    nodes, joiners = crowd(known), crowd(known)
    nodes.enter("node", A)
    assert nodes.prove("node", "spiffe://x/n") is None
    nodes.leave("node")
    for some in (nodes, joiners):
        for number in range(12):
            some.enter(f"stranger {number}", bytes([11, 0, 0, number]))
        before = set(some.waiting)
        assert entered(some, A, "back 1", "back 2", "back 3", "back 4") == [None] * 4
        assert before < set(some.waiting), "no stranger had to go for it, nor can one have it go"
        some.enter("one more stranger", B)
        assert {"back 1", "back 4"} < set(some.waiting)


def test_an_address_of_many_nodes_may_dial_for_all_of_them_at_once() -> None:
    known = KnownAddresses()
    some = crowd(known, CrowdLimits(strangers=6, per_address=1, reserved=100, nodes=10))
    for number in range(5):
        some.enter(f"n{number}", A)
        some.prove(f"n{number}", f"spiffe://x/{number}")
    for number in range(5):
        some.leave(f"n{number}")
    assert entered(some, A, *(f"again {number}" for number in range(11))) == [None] * 11
    with pytest.raises(FullError):
        some.enter("one more", A)


def test_a_node_that_has_too_many_loses_its_oldest() -> None:
    some = crowd()
    for name in ("1", "2", "3"):
        some.enter(name, A)
    assert [some.prove(name, "spiffe://x/n") for name in ("1", "2", "3")] == [None, None, "1"]
    assert some.proved == ["2", "3"]
    assert some.waiting == []


def test_a_connection_by_which_a_call_was_admitted_goes_last() -> None:
    some = crowd(limits=CrowdLimits(strangers=6, per_address=3, reserved=4, nodes=5, per_node=2))
    for name in ("1", "2", "3", "4"):
        some.enter(name, A if name < "3" else B)
    assert some.prove("1", "spiffe://x/n") is None
    some.note_admitted("1")
    assert [some.prove(name, "spiffe://x/n") for name in ("2", "3")] == [None, "2"]
    some.note_admitted("3")
    assert some.prove("4", "spiffe://x/n") == "1", "the oldest, where all are in use"
    some.note_admitted("1")
    assert some.proved == ["3", "4"]


def test_nodes_have_their_share_and_no_more() -> None:
    some = crowd()
    for number in range(5):
        some.enter(f"{number}", B)
        some.prove(f"{number}", f"spiffe://x/{number}")
    some.enter("new", A)
    with pytest.raises(FullError, match="expected at most 5 of nodes"):
        some.prove("new", "spiffe://x/new")
    assert some.waiting == ["new"]


def test_who_is_not_there_may_leave() -> None:
    crowd().leave("nobody")


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "prove", "leave"]), st.integers(0, 30), st.integers(0, 8)), max_size=200
    )
)
def test_no_limit_is_ever_exceeded_and_nobody_is_lost(steps: list[tuple[str, int, int]]) -> None:
    some, there = crowd(), dict[str, bytes]()
    for step, number, address in steps:
        one, gone = f"{number}", None
        try:
            match step:
                case "enter" if one not in there:
                    gone = some.enter(one, bytes([1, 1, 1, address]))
                    there[one] = bytes([1, 1, 1, address])
                case "prove" if one in some.waiting:
                    gone = some.prove(one, f"spiffe://x/{address}")
                case "leave":
                    some.leave(one)
                    there.pop(one, None)
        except FullError:
            pass
        if gone is not None:
            del there[gone]
        assert sorted([*some.waiting, *some.proved]) == sorted(there)
        assert len(some.waiting) <= LIMITS.strangers + LIMITS.reserved
        assert len(some.proved) <= LIMITS.nodes


def test_only_the_latest_addresses_are_remembered() -> None:
    known = KnownAddresses()
    for number in range(16_385):
        known.note(number.to_bytes(4), f"spiffe://x/{number}", 1)
    assert known.nodes((0).to_bytes(4)) == 0
    assert known.nodes((1).to_bytes(4)) == 1


def test_one_node_that_comes_from_everywhere_has_nobody_else_forgotten() -> None:
    known = KnownAddresses()
    known.note(A, "spiffe://x/near", 1)
    known.note(B, "spiffe://x/far", 1)
    for number in range(20_000):
        known.note(number.to_bytes(8), "spiffe://x/far", 1)
    assert [known.nodes(one) for one in (A, B, (0).to_bytes(8), (19_999).to_bytes(8))] == [1, 0, 0, 1]


def test_an_address_of_two_nodes_is_known_for_as_long_as_one_of_them_is_known_there() -> None:
    known = KnownAddresses()
    for node in ("spiffe://x/stays", "spiffe://x/moves"):
        known.note(A, node, 1)
    for number in range(16):
        known.note(number.to_bytes(8), "spiffe://x/moves", 1)
    assert known.nodes(A) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_address_is_one_of_ipv4_or_a_64_of_ipv6(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a column of the table
    assert (address_of(one) == address_of(other)) is same
