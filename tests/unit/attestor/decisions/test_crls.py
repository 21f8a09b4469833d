"""Which revocation lists an attestor holds, and which it hands out."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from attestor.cache import Cache, HeldX509
from attestor.decisions import crls
from attestor.decisions.crls import documents_of, fits, fitting, left_out, of_bundle, with_newest
from attestor.decisions.sync import Change
from attestor.deniallog import DenialLog
from certs.ca import NOW, make_authority
from cognomen.protocol.feed import BundleIs, CRLIs, Cursor, EntryPut, Update
from svid.bundle import Bundle
from svid.crl import CRL
from svid.errors import CRLError
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID
from tests.doubles import issuerclient
from tests.doubles.clock import FakeClock
from tests.doubles.crls import Listed, make_crl
from tests.doubles.entries import entry

ONE, TWO = make_authority("authority-1"), make_authority("authority-2")
BUNDLE = Bundle(trust_domain=TrustDomain("example.org"), x509_authorities=(ONE.certificate, TWO.certificate))
SOMEBODY = (1000, 1)
ONLY_TWO = replace(BUNDLE, x509_authorities=(TWO.certificate,))
OF_ONE, NEWER, OF_TWO = make_crl(ONE), make_crl(ONE, Listed(number=2, serials=(5,))), make_crl(TWO)

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")


def hold(*documents: bytes, bundle: Bundle = BUNDLE) -> tuple[CRL, ...]:
    held: tuple[CRL, ...] = ()
    for document in documents:
        held = with_newest(held, document, bundle, at=NOW)
    return held


def test_the_newest_list_of_each_authority_is_held() -> None:
    assert {crl.der for crl in hold(OF_ONE, OF_TWO, NEWER)} == {NEWER, OF_TWO}


def test_the_same_list_again_changes_nothing() -> None:
    held = hold(OF_ONE, OF_TWO)
    assert with_newest(held, OF_ONE, BUNDLE, at=NOW) is held


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"", "in DER"),
        (OF_ONE, "CRL number: expected more than 2, found 1"),
        (make_crl(ONE, Listed(number=2)), "CRL number: expected more than 2, found 2"),
        (make_crl(make_authority("authority-3")), "issuer: expected an X.509 authority"),
        (make_crl(ONE, Listed(number=3), signer=TWO), "signature"),
        (make_crl(ONE, Listed(number=3, others=(UNKNOWN,), others_critical=True)), "unknown critical extension"),
        (make_crl(ONE, Listed(number=3, this_update=NOW + timedelta(minutes=1))), "thisUpdate"),
    ],
)
def test_an_unreadable_foreign_or_older_list_or_one_with_more_in_it_than_we_know_is_not_taken(
    document: bytes, found: str
) -> None:
    with pytest.raises(CRLError, match=found):
        hold(NEWER, document)


def test_a_list_goes_with_its_authority() -> None:
    assert [crl.der for crl in of_bundle(hold(OF_ONE, OF_TWO), ONLY_TWO)] == [OF_TWO]


def test_a_list_whose_end_did_not_come_is_none() -> None:
    parts: list[Update] = [
        CRLIs(document=b"a", more=True),
        BundleIs(bundle=BUNDLE),
        CRLIs(document=b"b"),
        CRLIs(document=b"c", more=True),
    ]
    assert list(documents_of(parts)) == [b"ab"]


def test_where_all_are_too_much_the_largest_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold(NEWER, OF_TWO)
    assert fitting(held) == held
    monkeypatch.setattr(crls, "MOST_BYTES", len(NEWER))
    assert [crl.der for crl in fitting(held)] == [OF_TWO]


def test_of_an_authority_whose_list_is_too_large_the_one_before_stays_with_workloads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = hold(OF_ONE, OF_TWO), hold(make_crl(ONE, Listed(number=3, serials=tuple(range(1, 99)))), OF_TWO)
    monkeypatch.setattr(crls, "MOST_BYTES", len(OF_ONE) + len(OF_TWO) + 20)  # signatures differ in length
    assert {crl.der for crl in fitting(after, before)} == {OF_ONE, OF_TWO}
    assert [crl.der for crl in fitting(after)] == [OF_TWO]
    monkeypatch.setattr(crls, "MOST_BYTES", len(OF_TWO))
    assert [crl.der for crl in fitting(after, before)] == [OF_TWO]


def test_the_list_of_an_authority_whose_svids_are_served_is_not_the_one_that_stays_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = hold(make_crl(ONE, Listed(number=3, serials=tuple(range(1, 99)))), OF_TWO)
    large = held[0].der
    monkeypatch.setattr(crls, "MOST_BYTES", len(large))
    assert not fits(held)
    assert [crl.der for crl in fitting(held)] == [OF_TWO]
    assert [crl.der for crl in fitting(held, serving={held[0].authority_key_id.hex()})] == [large]


def test_which_lists_workloads_lack_is_said_by_authority() -> None:
    before, after = hold(OF_ONE, OF_TWO), hold(NEWER, OF_TWO)
    one, two = (crl.authority_key_id.hex() for crl in after)
    assert left_out(after, after) == ""
    told = left_out(after, before[:1])
    assert told.endswith(f"workloads have an older list of authority {one}, no list of authority {two}")


class TestCache:
    async def test_the_list_comes_along_when_svids_of_another_authority_are_served(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = FakeClock(NOW)
        old, new = (issuerclient.Authority(TrustDomain("example.org"), clock, name=name) for name in ("a", "b"))
        cache = Cache(replace(BUNDLE, x509_authorities=(old.certificate, new.certificate)), DenialLog())
        one = entry("web")
        cache.apply(Change(cursor=Cursor(incarnation="1", number=1), snapshot=True, updates=(EntryPut(entry=one),)))
        of_old, of_new = old.crl(5), new.crl(*range(1, 99))
        monkeypatch.setattr(crls, "MOST_BYTES", len(of_new) + len(of_old) - 1)
        for document in (of_old, of_new):
            cache.take_crl(document, at=NOW)
        with cache.subscribe(frozenset(), who=SOMEBODY) as stranger:
            for authority, handed in ((old, of_old), (new, of_new), (new, of_new)):
                key = generate_private_key(KeyKind.EC_P256)
                leaf = authority.sign(one.spiffe_id, key.public_key(), ttl=timedelta(hours=1))
                svid = X509SVID(spiffe_id=one.spiffe_id, chain=(leaf,), private_key=key)
                cache.hold([HeldX509(entry=one, svid=svid, issued_at=NOW)])
                assert [crl.der for crl in cache.handed_crls] == [handed]
            async with asyncio.timeout(10):
                await stranger.changed()
            cache.hold([])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await stranger.changed()

    async def test_a_new_list_wakes_everybody_and_the_same_one_nobody(self) -> None:
        cache = self.cache()
        with cache.subscribe(frozenset(), who=SOMEBODY) as anybody:
            cache.take_crl(OF_ONE, at=NOW)
            async with asyncio.timeout(10):
                await anybody.changed()
            before = cache.view(frozenset()).trust
            cache.take_crl(OF_ONE, at=NOW)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anybody.changed()
        assert cache.view(frozenset()).trust is before
        assert [crl.der for crl in before.crls] == [OF_ONE]

    async def test_of_many_streams_some_hear_of_a_list_at_a_time_and_all_of_them_soon(self) -> None:
        cache = self.cache()
        with ExitStack() as open_streams:
            streams = [open_streams.enter_context(cache.subscribe(frozenset(), who=SOMEBODY)) for _ in range(1000)]
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                hearing = [group.create_task(stream.changed()) for stream in streams]
                await asyncio.sleep(0)
                cache.take_crl(OF_ONE, at=NOW)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert sum(one.done() for one in hearing) == 20

    def test_a_list_that_is_refused_leaves_what_is_held(self) -> None:
        cache = self.cache()
        cache.take_crl(NEWER, at=NOW)
        with pytest.raises(CRLError):
            cache.take_crl(OF_ONE, at=NOW)
        assert [crl.der for crl in cache.crls] == [NEWER]

    def test_another_bundle_drops_the_lists_of_those_that_left(self) -> None:
        cache = self.cache()
        for document in (OF_ONE, OF_TWO):
            cache.take_crl(document, at=NOW)
        cache.apply(
            Change(cursor=Cursor(incarnation="1", number=2), snapshot=False, updates=(BundleIs(bundle=ONLY_TWO),))
        )
        assert [crl.der for crl in cache.view(frozenset()).trust.crls] == [OF_TWO]

    @staticmethod
    def cache() -> Cache:
        cache = Cache(BUNDLE, DenialLog())
        cache.apply(Change(cursor=Cursor(incarnation="1", number=1), snapshot=True))
        return cache
