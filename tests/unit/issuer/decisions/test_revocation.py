"""What an operator may end, and who is blocked by it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.revocation import (
    MAX_BLOCKED,
    MAX_SERIALS,
    Blocks,
    Deniable,
    Reason,
    Revocation,
    RevocationKind,
    Target,
    blocks_of,
    check_comment,
    check_room,
    check_serials,
    check_target,
    deniable_at,
    lifted,
)
from svid.denials import KEPT_FOR, OPEN_FOR
from svid.keys import KeyID
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry

SECOND = timedelta(seconds=1)
UID, TRAVEL = Selector("unix", "uid:1000"), Selector("join_token", "label:team:travel")
WEB = an_entry("/web", entry_id="web")

segments = st.lists(st.sampled_from(["a", "ab", "a0", "b", "A", "a-", "a."]), max_size=3).map(tuple)


def path(*segments: str) -> SpiffeID:
    return SpiffeID(trust_domain=TRUST_DOMAIN, path="".join(f"/{segment}" for segment in segments))


def revocation(target: Target, **fields: object) -> Revocation:
    given = Revocation(target=target, reason=Reason.UNSPECIFIED, comment="", actor="uid:0", at=NOW, number=7)
    return replace(given, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments


def credential(**fields: object) -> Credential:
    given = Credential(
        kind=CredentialKind.X509,
        serial="a1",
        spiffe_id=path("web"),
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW + SECOND,
        node_id=NodeID("n1"),
    )
    return replace(given, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments


class TestBlocks:
    @given(one=segments, named=segments)
    def test_a_spiffe_id_blocks_itself_and_with_below_all_under_it(
        self, one: tuple[str, ...], named: tuple[str, ...]
    ) -> None:
        entry = replace(WEB, spiffe_id=path(*one))
        exact = blocks_of([revocation(Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=path(*named)))])
        tree = blocks_of([revocation(Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=path(*named), below=True))])
        other = replace(WEB, spiffe_id=SpiffeID(trust_domain=TrustDomain("other.test"), path=path(*one).path))
        assert exact.entry(entry) is (one == named)
        assert tree.entry(entry) is (one[: len(named)] == named)
        assert not exact.entry(other)
        assert not tree.entry(other)
        assert not exact.node(a_node())
        assert not tree.node(a_node())

    def test_what_blocks_name_together_has_an_end(self) -> None:
        entries = Target(kind=RevocationKind.ENTRY, entry_ids=tuple(EntryID(str(n)) for n in range(1000)))
        one = Target(kind=RevocationKind.SELECTOR, selector=UID)
        almost = blocks_of([revocation(entries)] * (MAX_BLOCKED // 1000 - 1) + [revocation(one)] * 999)
        check_room(one, almost)
        for target in (replace(entries, entry_ids=entries.entry_ids[:2]), entries):
            with pytest.raises(Refused, match=f"expected blocks to name at most {MAX_BLOCKED}") as refused:
                check_room(target, almost)
            assert refused.value.kind is Kind.EXHAUSTED
            assert refused.value.hint
        check_room(Target(kind=RevocationKind.SVID, serials=("a1",) * 2), almost)

    def test_an_entry_is_blocked_by_its_own_id(self) -> None:
        blocks = blocks_of([revocation(Target(kind=RevocationKind.ENTRY, entry_ids=(EntryID("web"), EntryID("db"))))])
        assert blocks.entry(WEB)
        assert blocks.entry(replace(WEB, id=EntryID("db"), spiffe_id=path("db")))
        assert not blocks.entry(replace(WEB, id=EntryID("we")))

    def test_a_selector_blocks_entries_and_nodes_that_have_it(self) -> None:
        uid = blocks_of([revocation(Target(kind=RevocationKind.SELECTOR, selector=UID))])
        label = blocks_of([revocation(Target(kind=RevocationKind.SELECTOR, selector=TRAVEL))])
        assert (uid.entry(WEB), uid.node(a_node())) == (True, False)
        assert (label.entry(WEB), label.node(a_node())) == (False, True)
        assert uid.entry(replace(WEB, selectors=WEB.selectors | {TRAVEL}))
        assert not uid.entry(replace(WEB, selectors=frozenset({TRAVEL})))

    def test_several_revocations_block_together_and_what_is_lifted_blocks_nobody(self) -> None:
        entry = Target(kind=RevocationKind.ENTRY, entry_ids=(WEB.id,))
        spiffe_id = Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=WEB.spiffe_id)
        assert blocks_of([revocation(entry, lifted_at=NOW), revocation(spiffe_id)]).entry(WEB)
        assert blocks_of([revocation(entry), revocation(spiffe_id, lifted_at=NOW)]).entry(WEB)
        assert blocks_of([revocation(entry, lifted_at=NOW), revocation(spiffe_id, lifted_at=NOW)]) == Blocks()

    @pytest.mark.parametrize(
        "target",
        [
            Target(kind=RevocationKind.SVID, serials=("a1",)),
            Target(kind=RevocationKind.ISSUED_BEFORE, before=NOW, entry_ids=(WEB.id,), spiffe_id=WEB.spiffe_id),
            Target(kind=RevocationKind.NODE, node_ids=(NodeID("n1"),)),
            Target(kind=RevocationKind.DELETION, entry_ids=(WEB.id,)),
        ],
        ids=lambda target: target.kind,
    )
    def test_what_ends_credentials_and_no_more_blocks_nobody(self, target: Target) -> None:
        assert not target.is_block
        assert blocks_of([revocation(target)]) == Blocks()


GOOD = {
    RevocationKind.SVID: Target(kind=RevocationKind.SVID, serials=("a1",)),
    RevocationKind.ISSUED_BEFORE: Target(kind=RevocationKind.ISSUED_BEFORE, before=NOW),
    RevocationKind.ENTRY: Target(kind=RevocationKind.ENTRY, entry_ids=(WEB.id,)),
    RevocationKind.SPIFFE_ID: Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=WEB.spiffe_id),
    RevocationKind.SELECTOR: Target(kind=RevocationKind.SELECTOR, selector=UID),
    RevocationKind.NODE: Target(kind=RevocationKind.NODE, node_ids=(NodeID("n1"),)),
    RevocationKind.DELETION: Target(kind=RevocationKind.DELETION, entry_ids=(WEB.id,)),
}
FIELDS: dict[str, object] = {
    "serials": ("a1",),
    "before": NOW,
    "entry_ids": (WEB.id,),
    "node_ids": (NodeID("n1"),),
    "spiffe_id": WEB.spiffe_id,
    "below": True,
    "selector": UID,
}
WELCOME = {
    (RevocationKind.ISSUED_BEFORE, "entry_ids"),
    (RevocationKind.ISSUED_BEFORE, "node_ids"),
    (RevocationKind.ISSUED_BEFORE, "spiffe_id"),
    (RevocationKind.SPIFFE_ID, "below"),
}
ADDED = [(kind, name) for kind in GOOD for name in FIELDS if getattr(GOOD[kind], name) != FIELDS[name]]


class TestTargets:
    @pytest.mark.parametrize("kind", GOOD)
    def test_a_target_that_names_what_its_kind_needs_passes_and_an_empty_one_is_refused(
        self, kind: RevocationKind
    ) -> None:
        check_target(GOOD[kind], now=NOW)
        with pytest.raises(Refused, match=f"for a target of kind {kind}, found 0") as refused:
            check_target(Target(kind=kind), now=NOW)
        assert refused.value.kind is Kind.INVALID

    @pytest.mark.parametrize(("kind", "name"), ADDED)
    def test_what_a_kind_has_no_use_for_is_refused(self, kind: RevocationKind, name: str) -> None:
        target = replace(GOOD[kind], **{name: FIELDS[name]})  # type: ignore[arg-type]  # a field by its name
        if (kind, name) in WELCOME:
            check_target(target, now=NOW)
        else:
            with pytest.raises(Refused, match=f"{name}: expected 0 for a target of kind {kind}, found 1"):
                check_target(target, now=NOW)

    @pytest.mark.parametrize(
        ("kind", "name", "most"),
        [
            (RevocationKind.SVID, "serials", MAX_SERIALS),
            (RevocationKind.ENTRY, "entry_ids", 1000),
            (RevocationKind.NODE, "node_ids", 1000),
            (RevocationKind.ISSUED_BEFORE, "entry_ids", 1000),
            (RevocationKind.ISSUED_BEFORE, "node_ids", 1000),
        ],
    )
    def test_a_command_names_so_many_and_not_one_more(self, kind: RevocationKind, name: str, most: int) -> None:
        texts = tuple(map(str, range(most + 1)))
        check_target(replace(GOOD[kind], **{name: texts[:most]}), now=NOW)  # type: ignore[arg-type]  # a field by its name
        with pytest.raises(Refused, match=f"{name}: expected [01] to {most} for .*, found {most + 1}"):
            check_target(replace(GOOD[kind], **{name: texts}), now=NOW)  # type: ignore[arg-type]  # a field by its name

    def test_a_moment_of_the_future_is_refused_naming_both(self) -> None:
        target = replace(GOOD[RevocationKind.ISSUED_BEFORE], before=NOW + SECOND)
        with pytest.raises(Refused, match="found 2026-01-01T12:00:01Z at 2026-01-01T12:00:00Z"):
            check_target(target, now=NOW)


class TestDeniable:
    def test_what_expired_is_denied_while_a_slow_clock_accepts_it_or_a_connection_may_be_open(self) -> None:
        lagging = NOW - KEPT_FOR
        assert deniable_at(NOW) == Deniable(now=NOW, lagging=lagging, open=lagging - OPEN_FOR)


class TestComments:
    @pytest.mark.parametrize("comment", ["", "käse", "a" * 1024, "ä" * 512, "\u0e01 b"])
    def test_a_printable_comment_of_a_kibibyte_passes(self, comment: str) -> None:
        check_comment(comment)

    @pytest.mark.parametrize(
        "comment", ["a" * 1025, "ä" * 513, "\x1b[2J", "a\nb", "\0", "\x7f", "\u202e", "\u2028", "\ud800", "\x9b1m"]
    )
    def test_a_longer_one_or_one_that_steers_a_terminal_is_refused(self, comment: str) -> None:
        with pytest.raises(Refused, match="comment: expected at most 1024 printable bytes") as refused:
            check_comment(comment)
        assert refused.value.kind is Kind.INVALID


class TestSerials:
    @pytest.mark.parametrize("kind", [CredentialKind.X509, CredentialKind.JWT])
    @pytest.mark.parametrize("state", [CredentialState.INTENDED, CredentialState.ISSUED])
    def test_what_was_recorded_for_a_workload_passes(self, kind: CredentialKind, state: CredentialState) -> None:
        check_serials(["a1"], [credential(kind=kind, state=state)])

    @pytest.mark.parametrize("found", [[], [credential(serial="a2")], [credential(state=CredentialState.FAILED)]])
    def test_what_we_did_not_sign_is_not_found(self, found: list[Credential]) -> None:
        with pytest.raises(Refused, match="serial: expected one that we signed, found 'a1'") as refused:
            check_serials(["a1"], found)
        assert refused.value.kind is Kind.NOT_FOUND

    def test_what_is_shown_of_an_unknown_serial_is_short_and_printable(self) -> None:
        with pytest.raises(Refused) as refused:
            check_serials(["\x1b" * 1000], [])
        assert refused.value.detail.isprintable()
        assert len(refused.value.detail) < 400

    @pytest.mark.parametrize(
        ("kind", "hint"),
        [
            (CredentialKind.NODE, "cognomen revoke node n1"),
            (CredentialKind.ISSUER, ""),
            (CredentialKind.AUTHORITY, ""),
        ],
    )
    def test_what_is_no_workloads_is_refused_with_the_way_that_ends_it(self, kind: CredentialKind, hint: str) -> None:
        with pytest.raises(
            Refused, match=f"serial: expected a workload's credential, found a1 of the {kind}"
        ) as refused:
            check_serials(["a1"], [credential(kind=kind)])
        assert (refused.value.kind, refused.value.hint) == (Kind.INVALID, hint)


class TestLifts:
    @pytest.mark.parametrize("kind", [RevocationKind.ENTRY, RevocationKind.SPIFFE_ID, RevocationKind.SELECTOR])
    def test_a_block_is_lifted_once(self, kind: RevocationKind) -> None:
        before = revocation(GOOD[kind], denied=3, change=9)
        after = lifted(before, by="uid:7", now=NOW + SECOND)
        assert after == replace(before, lifted_at=NOW + SECOND, lifted_by="uid:7")
        with pytest.raises(Refused, match=r"found one that uid:7 lifted at 2026-01-01T12:00:01Z") as refused:
            lifted(after, by="uid:8", now=NOW + 2 * SECOND)
        assert refused.value.kind is Kind.CONFLICT

    @pytest.mark.parametrize(
        ("kind", "hint"),
        [
            (RevocationKind.SVID, "what it ended stays ended; those that still match have new ones"),
            (RevocationKind.ISSUED_BEFORE, "what it ended stays ended; those that still match have new ones"),
            (RevocationKind.DELETION, "what it ended stays ended; those that still match have new ones"),
            (RevocationKind.NODE, "a banned node stays banned"),
        ],
    )
    def test_what_blocks_nobody_cannot_be_lifted(self, kind: RevocationKind, hint: str) -> None:
        with pytest.raises(
            Refused, match=f"expected a revocation that blocks somebody, found one of {kind}"
        ) as refused:
            lifted(revocation(GOOD[kind]), by="uid:0", now=NOW)
        assert (refused.value.kind, refused.value.hint) == (Kind.INVALID, hint)


def test_reasons_have_the_names_of_rfc_5280() -> None:
    assert sorted(Reason) == [
        "affiliationChanged",
        "cessationOfOperation",
        "keyCompromise",
        "privilegeWithdrawn",
        "superseded",
        "unspecified",
    ]
