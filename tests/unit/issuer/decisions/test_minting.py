"""What one item of a mint must satisfy."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.decisions import minting
from issuer.decisions.authority import AuthorityKind, intended
from issuer.decisions.entitlement import group_ends
from issuer.decisions.minting import Granting, Holder, JWTWish, judge
from issuer.decisions.profile import Intent, JWTDraft
from issuer.decisions.revocation import Blocks
from svid.keys import KeyID, KeyKind, generate_private_key, public_key_to_der
from tests.doubles.issuer_values import NOW, a_node, an_entry

AUTHORITY = intended(AuthorityKind.JWT, KeyID("jwt-1"), now=NOW, ttl=timedelta(days=14))
WEB, DB, NODE, OTHER = EntryID("web"), EntryID("db"), NodeID("n1"), NodeID("n2")


def der(kind: KeyKind) -> bytes:
    return public_key_to_der(generate_private_key(kind).public_key())


@pytest.mark.parametrize("size", [1, 1000])
def test_a_batch_within_bounds_passes(size: int) -> None:
    minting.check_batch(size)


@pytest.mark.parametrize("size", [0, 1001])
def test_a_batch_out_of_bounds_is_refused_whole(size: int) -> None:
    with pytest.raises(Refused, match=f"items: expected 1 to 1000, found {size}"):
        minting.check_batch(size)


@pytest.mark.parametrize("kind", [KeyKind.EC_P256, KeyKind.EC_P384])
def test_elliptic_keys_are_certified(kind: KeyKind) -> None:
    data = der(kind)
    assert public_key_to_der(minting.parse_key(data)) == data


def test_an_rsa_key_is_not_certified() -> None:
    with pytest.raises(Refused, match="public_key: expected ec-p256 or ec-p384, found rsa-2048"):
        minting.parse_key(der(KeyKind.RSA_2048))


def test_a_key_of_any_size_is_not_even_parsed() -> None:
    with pytest.raises(Refused, match="public_key: expected at most 1024 bytes, found 1025"):
        minting.parse_key(bytes(1025))


@given(data=st.binary(max_size=1100))
def test_bytes_are_a_key_or_a_refusal(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        minting.parse_key(data)
    assert refused.value.kind is Kind.INVALID


def granting(*entries: RegistrationEntry, now: datetime = NOW) -> Granting:
    """How things stand for n1."""
    return Granting(
        node_id=NODE,
        parents={a_node().spiffe_id},
        parent_ends={},
        blocks=Blocks(),
        entries={entry.id: entry for entry in entries},
        authority=AUTHORITY,
        ttl=timedelta(minutes=5),
        now=now,
        holders={},
        shared=(),
        own_keys=(),
    )


def judged(entry_id: EntryID, by: Granting) -> Intent[JWTDraft] | Refused:
    wish = minting.jwt_wish(entry_id, ("db",), serial=2**127)
    assert isinstance(wish, JWTWish)
    return judge(wish, by)


def test_an_unknown_entry_and_anothers_are_refused_alike() -> None:
    foreign = an_entry(entry_id="db", parent="/cognomen/node/join_token/n2")
    refused = [judged(entry_id, granting(foreign)) for entry_id in (WEB, DB)]
    assert [(one.kind, one.detail) for one in refused if isinstance(one, Refused)] == [
        (Kind.DENIED, "entry_id: this node has no such entry")
    ] * 2


def test_an_entry_of_the_node_is_granted_until_it_is_over() -> None:
    entry = replace(an_entry(entry_id="web"), expires_at=NOW)
    granted = judged(WEB, granting(entry, now=NOW - timedelta(seconds=1)))
    assert isinstance(granted, Intent)
    assert (granted.entry, granted.node_id, granted.draft.not_after) == (entry, NODE, NOW)
    refused = judged(WEB, granting(entry))
    assert isinstance(refused, Refused)
    assert "has expired" in refused.detail


def test_nothing_is_granted_for_an_entry_that_only_observes() -> None:
    refused = judged(WEB, granting(replace(an_entry(entry_id="web"), observe=True)))
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.detail) == (
        Kind.DENIED,
        "entry_id: the entry only observes, and nothing is issued for it",
    )


def test_what_is_minted_ends_with_whatever_makes_the_entry_the_nodes() -> None:
    entry, soon = an_entry(entry_id="web"), NOW + timedelta(minutes=1)
    granted = judged(WEB, replace(granting(entry), parent_ends={entry.parent_id: soon}))
    assert isinstance(granted, Intent)
    assert granted.draft.not_after == soon


WANTED = Holder(entry_id=WEB, node_id=NODE)


@pytest.mark.parametrize("known", [None, WANTED])
def test_a_key_is_new_or_what_it_was(known: Holder | None) -> None:
    minting.check_holder(known, WANTED)


@pytest.mark.parametrize("known", [(DB, NODE), (WEB, OTHER), (None, NODE), (None, None)])
def test_a_key_certified_for_something_else_is_refused(known: tuple[EntryID | None, NodeID | None]) -> None:
    entry_id, node_id = known
    with pytest.raises(Refused, match="found one certified for another entry or node") as refused:
        minting.check_holder(Holder(entry_id=entry_id, node_id=node_id), WANTED)
    assert refused.value.kind is Kind.DENIED


@pytest.mark.parametrize("known", [(WEB, NODE), (DB, OTHER)])
def test_a_key_that_leaked_is_refused_even_to_its_holder(known: tuple[EntryID, NodeID]) -> None:
    entry_id, node_id = known
    with pytest.raises(Refused, match="found one that was revoked as compromised") as refused:
        minting.check_holder(Holder(entry_id=entry_id, node_id=node_id, is_compromised=True), WANTED)
    assert refused.value.kind is Kind.DENIED


def test_keys_under_several_entries_are_found() -> None:
    items = [(WEB, "k1"), (DB, "k1"), (WEB, "k2"), (WEB, "k2"), (DB, "k3")]
    assert minting.shared_keys(items) == {"k1"}


def test_only_the_ends_of_the_nodes_own_groups_count() -> None:
    def group(path: str, of: str, end: int | None) -> RegistrationEntry:
        made = an_entry(path, parent="/cognomen/issuer", of=of)
        return made if end is None else replace(made, expires_at=NOW + timedelta(seconds=end))

    mine = "join_token:label:team:travel"
    groups = [
        group("/a", mine, 5),
        group("/b", mine, -5),
        group("/c", mine, None),
        group("/d", "join_token:label:x:y", 1),
    ]
    assert group_ends(a_node(), groups) == (NOW - timedelta(seconds=5), NOW + timedelta(seconds=5))
