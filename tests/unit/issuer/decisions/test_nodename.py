"""What a node may be called."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID, is_node_name
from issuer.decisions.nodename import check_name, looks_like_id, names_for, posed_as

NODE = NodeID("0123456789abcdef0123456789abcdef")


def test_a_host_name_is_taken_as_it_is_and_numbered_if_it_is_not_free() -> None:
    assert list(islice(names_for("web-1.example.org", NODE), 3)) == [
        *("web-1.example.org", "web-1.example.org-2", "web-1.example.org-3"),
    ]


@pytest.mark.parametrize("said", ["", " ", "-x", ".", "a b", "a/b", "höst", "a\n", "a\x00", "spiffe://a", "a" * 254])
def test_what_no_node_may_be_called_is_replaced_by_the_short_id_and_refused_from_an_operator(said: str) -> None:
    assert next(names_for(said, NODE)) == "01234567"
    with pytest.raises(Refused, match=r"^name: expected 1 to 253 of a-z A-Z 0-9 . _ - that begin with") as refused:
        check_name(said)
    assert refused.value.kind is Kind.INVALID


@given(st.text(max_size=300), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", fullmatch=True))
def test_whatever_a_node_says_each_of_its_names_is_one_that_it_may_have(said: str, node_id: str) -> None:
    names = list(names_for(said, NodeID(node_id)))
    assert all(map(is_node_name, names))
    assert len(names) == 101
    assert len(set(names[:-1])) == 100


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("65995ced", "65995ced"),
        ("65995CED-2", "65995ced"),
        (f"{NODE}.example.org", NODE),
        ("db01.example.org", ""),
        ("web-65995ced", ""),
        ("65995ced1x", ""),
    ],
)
def test_a_name_that_begins_as_a_short_id_could_pass_for_it(name: str, beginning: str) -> None:
    assert posed_as(name) == beginning


@pytest.mark.parametrize(
    ("name", "is_like_one"),
    [("0123", True), ("0123456789abcdef", True), ("012", False), ("web", False), ("face-1", False)],
)
def test_a_name_that_people_could_take_for_an_id_is_known(name: str, *, is_like_one: bool) -> None:
    assert looks_like_id(name) is is_like_one
