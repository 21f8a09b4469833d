"""attestor/decisions/declared: who may call the identities of a process, and how it is cut into messages."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.declared import Declared, declared_by, length, pieces
from cognomen.protocol.entry import RegistrationEntry
from svid.spiffeid import SpiffeID
from tests.doubles.workloadside import TRUST_DOMAIN, entry

A, B, C = (SpiffeID.from_segments(TRUST_DOMAIN, name) for name in "abc")
MOST_BYTES = 48 * 1024


def called(name: str, *callers: SpiffeID, path: str = "") -> RegistrationEntry:
    return replace(entry(name, "unix:uid:1", path=(path or name,)), callers=callers)


def test_each_identity_is_there_once_in_the_order_of_the_entries() -> None:
    entries = [called("b", A, C), called("a"), entry("c", "unix:uid:1", path=("c",))]
    assert declared_by(entries) == (Declared(B, (A, C)), Declared(A, ()), Declared(C, None))
    assert declared_by([]) == ()


def test_what_any_entry_of_an_identity_declares_is_declared() -> None:
    plain = entry("x", "unix:uid:1", path=("a",))
    entries = [called("1", C, path="a"), plain, called("2", B, path="a"), called("3", C, path="a")]
    assert declared_by(entries) == (Declared(A, (B, C)),)
    assert declared_by([plain, entries[0]]) == (Declared(A, (C,)),)
    assert declared_by([plain, called("2", path="a")]) == (Declared(A, ()),)


sizes = st.lists(st.none() | st.integers(0, 1024), max_size=6)


@given(sizes, st.integers(0, 1900))
def test_the_pieces_are_the_whole_and_each_fits_a_message(given: list[int | None], long: int) -> None:
    callers = tuple(
        SpiffeID(trust_domain=TRUST_DOMAIN, path=f"/{number:04}{'x' * (long if number < 100 else 0)}")
        for number in range(1024)
    )
    declared = tuple(
        Declared(SpiffeID.from_segments(TRUST_DOMAIN, f"n{number}"), None if size is None else callers[:size])
        for number, size in enumerate(given)
    )
    found: dict[SpiffeID, tuple[SpiffeID, ...] | None] = {}
    cut = list(pieces(declared))
    for piece in cut:
        assert length(piece) <= MOST_BYTES
        for one in piece:
            known = found.get(one.spiffe_id)
            found[one.spiffe_id] = one.callers if known is None else (*known, *(one.callers or ()))
    assert found == {one.spiffe_id: one.callers for one in declared}
    assert len(cut) <= length(declared) // (32 * 1024) + 1 + len(given)
