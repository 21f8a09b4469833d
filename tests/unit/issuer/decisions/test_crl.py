"""issuer/decisions/crl: when a list is due and what it says; how it is written has the library's builder as its oracle, byte for byte."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from issuer.decisions import authority as authorities
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.crl import (
    LARGE_BYTES,
    MOST_LISTED,
    CRLDraft,
    DeniedCertificate,
    ListForm,
    SignedCRL,
    due_at,
    is_due,
    is_full,
    listed_authorities,
    next_draft,
    reason_flag,
)
from issuer.decisions.revocation import Reason
from svid.crl import CRL, MAX_CRL_BYTES
from svid.denials import KEPT_FOR
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, hash_of
from tests.doubles.issuer_values import NOW, jwt_authority, x509_authority
from tests.doubles.upstream import WithIntermediate

KEYS = {kind: generate_private_key(kind) for kind in KeyKind}
SKI = bytes(range(20))
SECOND = timedelta(seconds=1)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cognomen é")])
moments = st.integers(0, 30_000_000_000).map(lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + SECOND * seconds)
denied = st.builds(
    DeniedCertificate,
    serial=st.integers(1, 2**159 - 1),
    denied_at=moments.filter(lambda at: at.year < 2100),
    ends_at=moments,
    reason=st.sampled_from(Reason),
)
drafts = st.builds(
    CRLDraft,
    number=st.integers(0, 2**63),
    this_update=moments,
    next_update=moments,
    denied=st.lists(denied, max_size=20, unique_by=lambda one: one.serial).map(tuple),
)


def as_the_library_writes_it(draft: CRLDraft, kind: KeyKind) -> x509.CertificateRevocationList:
    begin, end = sorted((draft.this_update, draft.next_update))
    builder = x509.CertificateRevocationListBuilder().issuer_name(NAME).last_update(begin).next_update(end)
    for one in draft.denied:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.denied_at)
        if (flag := reason_flag(one.reason)) is not None:
            entry = entry.add_extension(x509.CRLReason(flag), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return (
        builder.add_extension(x509.AuthorityKeyIdentifier(SKI, None, None), critical=False)
        .add_extension(x509.CRLNumber(draft.number), critical=False)
        .sign(KEYS[kind], hash_of(kind))
    )


@given(draft=drafts, kind=st.sampled_from([KeyKind.EC_P256, KeyKind.EC_P384, KeyKind.RSA_2048]))
def test_what_is_written_is_what_the_library_writes(draft: CRLDraft, kind: KeyKind) -> None:
    begin, end = sorted((draft.this_update, draft.next_update))
    draft = CRLDraft(number=draft.number, this_update=begin, next_update=end, denied=draft.denied)
    oracle = as_the_library_writes_it(draft, kind)
    form = ListForm(kind, issuer=NAME, authority_ski=SKI)
    written = form.to_be_signed(draft)
    assert written == oracle.tbs_certlist_bytes
    assert form.signed(written, oracle.signature) == oracle.public_bytes(Encoding.DER)


def test_a_list_beyond_64_kib_is_written_as_the_library_writes_it() -> None:
    many = tuple(
        DeniedCertificate(serial=2**127 + n, denied_at=NOW, ends_at=NOW, reason=Reason.SUPERSEDED) for n in range(1500)
    )
    draft = CRLDraft(number=1, this_update=NOW, next_update=NOW + SECOND, denied=many)
    oracle = as_the_library_writes_it(draft, KeyKind.EC_P256)
    assert len(oracle.tbs_certlist_bytes) > 1 << 16
    form = ListForm(KeyKind.EC_P256, issuer=NAME, authority_ski=SKI)
    assert form.signed(form.to_be_signed(draft), oracle.signature) == oracle.public_bytes(Encoding.DER)


def test_every_reason_but_the_unspecified_one_is_said() -> None:
    flags = {reason: reason_flag(reason) for reason in Reason}
    assert {reason.value: flag.value for reason, flag in flags.items() if flag is not None} == {
        reason.value: reason.value for reason in Reason if reason is not Reason.UNSPECIFIED
    }


def one(serial: int = 1, *, ends_at: datetime = NOW + timedelta(hours=1)) -> DeniedCertificate:
    return DeniedCertificate(serial=serial, denied_at=NOW, ends_at=ends_at, reason=Reason.UNSPECIFIED)


def signed(*denied: DeniedCertificate, number: int = 7, this_update: datetime = NOW) -> SignedCRL:
    key = LocalSigningKey(KeyID("x509-1"), KEYS[KeyKind.EC_P256])
    form = ListForm(key.kind, issuer=NAME, authority_ski=SKI)
    draft = CRLDraft(number=number, this_update=this_update, next_update=NOW + timedelta(days=1), denied=denied)
    written = form.to_be_signed(draft)
    der = form.signed(written, key.sign(written))
    return SignedCRL(authority_id=key.id, number=number, this_update=this_update, der=der)


class TestDue:
    def test_an_authority_without_a_list_needs_one_even_when_nothing_ended(self) -> None:
        assert is_due(None, [], now=NOW)
        assert is_due(SignedCRL(authority_id=KeyID("x509-1"), number=7), [], now=NOW)

    def test_a_list_of_a_future_that_the_clock_took_back(self) -> None:
        assert is_due(signed(), [], now=NOW - timedelta(days=8))
        assert not is_due(signed(), [], now=NOW - SECOND), "it is valid soon"

    def test_a_list_that_says_what_it_should_is_left(self) -> None:
        assert not is_due(signed(), [], now=NOW + timedelta(days=30))
        assert not is_due(signed(one(1), one(2)), [one(2), one(1)], now=NOW)

    @pytest.mark.parametrize("listed", [[], [one(2)], [one(1), one(2)]])
    def test_a_list_that_says_something_else_is_replaced(self, listed: list[DeniedCertificate]) -> None:
        assert is_due(signed(*listed), [one(1)], now=NOW)

    def test_a_list_that_gives_another_reason_is_replaced(self) -> None:
        assert is_due(signed(one(1), one(2)), [replace(one(1), reason=Reason.KEY_COMPROMISE), one(2)], now=NOW)

    def test_a_list_that_cannot_be_read_is_replaced(self) -> None:
        bent = SignedCRL(authority_id=KeyID("x509-1"), number=7, this_update=NOW, der=b"\x30\x00")
        assert is_due(bent, [], now=NOW)

    def test_a_list_is_replaced_when_a_later_number_was_used(self) -> None:
        assert is_due(replace(signed(number=7), number=8), [], now=NOW)

    def test_an_entry_is_on_a_list_that_was_signed_after_its_certificates_end_before_it_leaves(self) -> None:
        ended = one(ends_at=NOW)
        leaves = NOW + KEPT_FOR + SECOND
        assert not is_due(signed(ended), [ended], now=leaves - SECOND)
        assert is_due(signed(ended), [ended], now=leaves)
        assert not is_due(signed(ended, this_update=NOW + SECOND), [ended], now=leaves)

    def test_a_list_begins_a_second_after_the_one_before(self) -> None:
        assert due_at(None, now=NOW) == NOW
        assert due_at(signed(), now=NOW + SECOND / 2) == NOW + SECOND
        assert due_at(signed(), now=NOW + 2 * SECOND) == NOW + 2 * SECOND

    def test_nobody_waits_for_a_list_that_was_signed_by_a_wrong_clock(self) -> None:
        assert due_at(signed(this_update=NOW + timedelta(days=1)), now=NOW) == NOW


class TestDraft:
    async def test_a_number_is_greater_than_the_last_and_not_behind_the_clock(self) -> None:
        by = (await x509_authority()).authority
        millis = int(NOW.timestamp() * 1000)
        assert next_draft(by, None, [], now=NOW).number == millis
        assert next_draft(by, signed(number=7), [], now=NOW).number == millis
        assert next_draft(by, signed(number=millis + 5), [], now=NOW).number == millis + 6

    async def test_it_holds_as_long_as_its_authority_and_begins_in_a_whole_second_that_has_come(self) -> None:
        by = (await x509_authority()).authority
        draft = next_draft(by, None, [one(9), one(3)], now=NOW + SECOND * 0.9)
        assert (draft.this_update, draft.next_update) == (NOW, by.not_after)
        assert [each.serial for each in draft.denied] == [3, 9]

    async def test_every_authority_of_the_bundle_that_signs_certificates_has_a_list(self) -> None:
        by = (await x509_authority()).authority
        prepared = authorities.intended(AuthorityKind.X509, KeyID("x509-2"), now=NOW, ttl=timedelta(days=14))
        published = authorities.published(prepared, change=1, now=NOW)
        rows = [by, prepared, published, authorities.replaced(by), authorities.retired(by), jwt_authority().authority]
        assert listed_authorities(rows, now=NOW) == [by, published, authorities.replaced(by)]
        assert listed_authorities(rows, now=by.not_after) == []

    async def test_an_authority_below_a_root_of_somebody_elses_has_none(self) -> None:
        below = (await x509_authority(upstream=WithIntermediate())).authority
        assert listed_authorities([below], now=NOW) == []


def test_what_the_form_writes_the_reader_reads() -> None:
    last = signed(one(1), one(2))
    assert set(CRL.from_der(last.der).numbers()) == {1, 2}


class TestSize:
    """Of lists whose every entry is as long as it can be: 128 bits of serial, a year that takes four digits, a reason."""

    @staticmethod
    def size(count: int) -> int:
        at = datetime(2055, 1, 1, tzinfo=UTC)
        denied = tuple(
            DeniedCertificate(serial=2**127 + number, denied_at=at, ends_at=at, reason=Reason.KEY_COMPROMISE)
            for number in range(count)
        )
        form = ListForm(KeyKind.EC_P256, issuer=NAME, authority_ski=SKI)
        return len(form.to_be_signed(CRLDraft(number=2**63, this_update=at, next_update=at, denied=denied)))

    def test_one_that_is_not_full_has_at_most_a_mebibyte(self) -> None:
        most = next(count for count in range(20_000, 30_000) if is_full(count + 1))
        assert LARGE_BYTES * 0.99 < self.size(most) <= LARGE_BYTES + 1024

    def test_the_longest_that_is_signed_can_be_read(self) -> None:
        assert MAX_CRL_BYTES * 0.99 < self.size(MOST_LISTED) <= MAX_CRL_BYTES - 200
