"""A source on the socket of a plain SPIFFE agent: what its revocation lists say is what is denied."""

from pathlib import Path

import pytest

from svid.errors import RevokedError
from svid.spiffeid import TrustDomain
from svid.wire.workload import read_x509_context
from svid.workloadapi.listed import Listed
from svid.workloadapi.sources import X509Source
from tests.doubles.clock import FakeClock
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble


@pytest.fixture(scope="module")
def domain() -> TrustDomainDouble:
    return TrustDomainDouble()


def test_where_nobody_tells_of_denials_the_lists_are_asked(tmp_path: Path, domain: TrustDomainDouble) -> None:
    own, peer = domain.svid("/a"), domain.svid("/b")
    with WorkloadAPIDouble(tmp_path) as api:
        api.say("FetchX509SVID", domain.answer(own, crls=[domain.crl(peer.serial)]))
        with X509Source(api.socket) as source:
            assert source.is_denied(domain.name, peer.serial)
            assert not source.is_denied(domain.name, own.serial)
            assert not source.is_denied(TrustDomain("partner.example"), peer.serial)
            assert source.svid.serial == own.serial
            api.say("FetchX509SVID", domain.answer(own, crls=[domain.crl(own.serial, number=2)]))
            while not source.is_denied(domain.name, own.serial):
                pass
            with pytest.raises(RevokedError):
                _ = source.svid
            assert not source.is_denied(domain.name, peer.serial)


def test_where_the_attestor_tells_of_denials_it_is_asked_alone(tmp_path: Path, domain: TrustDomainDouble) -> None:
    peer, denials = domain.svid("/b"), DenialsDouble()
    with WorkloadAPIDouble(tmp_path, denials=denials) as api:
        api.say("FetchX509SVID", domain.answer(domain.svid("/a"), crls=[domain.crl(peer.serial)]))
        with X509Source(api.socket) as source:
            assert not source.is_denied(domain.name, peer.serial)


class TestListed:
    def test_a_source_without_an_answer_denies_nobody(self, tmp_path: Path, domain: TrustDomainDouble) -> None:
        with X509Source(f"unix://{tmp_path}/nobody", timeout=None) as source:
            assert not source.is_denied(domain.name, 5)

    def test_the_newest_list_of_each_authority_counts_for_as_long_as_that_is_trusted(self) -> None:
        domain = TrustDomainDouble()
        listed, own = Listed(FakeClock(domain.now)), domain.svid("/a")

        def denied(*crls: bytes) -> set[int]:
            context = read_x509_context(domain.answer(own, crls=crls))
            return {number for number in range(1, 9) if listed.is_denied(domain.name, number, context)}

        assert denied(domain.crl(1, 2, number=5)) == {1, 2}
        assert denied(domain.crl(3, number=4)) == {1, 2}, "an older list brings nobody back"
        assert denied() == {1, 2}, "nor does an answer without any"
        domain.rotate()
        assert denied(domain.crl(7)) == {1, 2, 7}
        domain.drop()
        assert denied() == {7}

    def test_a_list_that_is_foreign_or_over_or_forged_is_left_out(
        self, domain: TrustDomainDouble, caplog: pytest.LogCaptureFixture
    ) -> None:
        own, other = domain.svid("/a"), TrustDomainDouble("partner.example")
        context = read_x509_context(domain.answer(own, crls=[other.crl(5), domain.crl(6)]))
        clock = FakeClock(domain.now)
        assert not Listed(clock).is_denied(domain.name, 5, context)
        assert [vars(record)["reason"] for record in caplog.records] == [
            "issuer: expected an authority that is trusted, found 'CN=partner.example authority-1'"
        ]
        clock.advance(48 * 3600)
        assert not Listed(clock).is_denied(domain.name, 6, context)

    def test_lists_of_federated_trust_domains_are_asked_for_theirs(self, domain: TrustDomainDouble) -> None:
        own, other = domain.svid("/a"), TrustDomainDouble("partner.example", now=domain.now)
        context = read_x509_context(domain.answer(own, federated=(other,), crls=[other.crl(5)]))
        listed = Listed(FakeClock(domain.now))
        assert listed.is_denied(other.name, 5, context)
        assert not listed.is_denied(domain.name, 5, context)
