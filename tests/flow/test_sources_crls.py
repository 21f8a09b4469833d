"""A source on the socket of a plain SPIFFE agent: what its revocation lists say is what is denied."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import make_authority
from svid.errors import RevokedError
from svid.spiffeid import TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import read_x509_context
from svid.workloadapi.listed import Listed
from svid.workloadapi.sources import X509Source
from tests.doubles.crls import Listed as ListToMake
from tests.doubles.crls import make_crl, make_namesake
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


def test_the_lists_are_asked_again_once_the_attestor_that_told_of_denials_is_gone(
    tmp_path: Path, domain: TrustDomainDouble
) -> None:
    own, peer = domain.svid("/a"), domain.svid("/b")
    answer = domain.answer(own, crls=[domain.crl(peer.serial)])
    with WorkloadAPIDouble(tmp_path, denials=DenialsDouble()) as api:
        api.say("FetchX509SVID", answer)
        source = X509Source(api.socket)
        assert not source.is_denied(domain.name, peer.serial)
    with source, WorkloadAPIDouble(tmp_path):
        while not source.is_denied(domain.name, peer.serial):
            pass


def test_where_the_attestor_tells_of_denials_it_is_asked_alone(tmp_path: Path, domain: TrustDomainDouble) -> None:
    peer, denials = domain.svid("/b"), DenialsDouble()
    with WorkloadAPIDouble(tmp_path, denials=denials) as api:
        api.say("FetchX509SVID", domain.answer(domain.svid("/a"), crls=[domain.crl(peer.serial)]))
        with X509Source(api.socket) as source:
            assert not source.is_denied(domain.name, peer.serial)


NEVER = datetime(9999, 1, 1, tzinfo=UTC)


def with_bundle(domain: TrustDomainDouble, authority: x509.Certificate, crls: list[bytes]) -> pb.X509SVIDResponse:
    """An answer with these lists, and with that authority in the bundle of a federated trust domain."""
    answer = domain.answer(domain.svid("/a"), crls=crls)
    answer.federated_bundles["spiffe://evil.example"] = authority.public_bytes(Encoding.DER)
    return answer


class TestListed:
    def test_a_source_without_an_answer_denies_nobody(self, tmp_path: Path, domain: TrustDomainDouble) -> None:
        with X509Source(f"unix://{tmp_path}/nobody", timeout=None) as source:
            assert not source.is_denied(domain.name, 5)

    def test_the_newest_list_of_each_authority_counts_for_as_long_as_that_is_trusted(self) -> None:
        domain = TrustDomainDouble()
        listed, own = Listed(), domain.svid("/a")

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

    def test_a_list_that_is_foreign_is_left_out(
        self, domain: TrustDomainDouble, caplog: pytest.LogCaptureFixture
    ) -> None:
        own, other = domain.svid("/a"), TrustDomainDouble("partner.example")
        context = read_x509_context(domain.answer(own, crls=[other.crl(5), domain.crl(6)]))
        listed = Listed()
        assert not listed.is_denied(domain.name, 5, context)
        assert listed.is_denied(domain.name, 6, context)
        assert [vars(record)["reason"] for record in caplog.records] == [
            "example.org: issuer: expected an X.509 authority of example.org, found 'CN=partner.example authority-1'"
        ]

    @pytest.mark.parametrize("begins", [timedelta(days=-2), timedelta(minutes=1)])
    def test_a_list_denies_whichever_clock_is_wrong(self, domain: TrustDomainDouble, begins: timedelta) -> None:
        this_update = domain.now + begins
        crl = make_crl(
            make_authority("authority-1"),
            ListToMake(serials=(7,), this_update=this_update, next_update=this_update + timedelta(days=1)),
        )
        context = read_x509_context(domain.answer(domain.svid("/a"), crls=[crl]))
        assert Listed().is_denied(domain.name, 7, context)

    def test_a_bundle_with_our_authoritys_name_and_key_id_takes_no_list_of_ours_away(
        self, domain: TrustDomainDouble
    ) -> None:
        evil = make_namesake(domain.bundle.x509_authorities[0], "evil.example")
        empty = make_crl(make_authority("authority-1"), ListToMake(number=2**60, next_update=NEVER), signer=evil)
        for crls in ([domain.crl(7)], [domain.crl(7), empty], [empty, domain.crl(7)]):
            listed = Listed()
            for answer in (with_bundle(domain, evil.certificate, crls), domain.answer(domain.svid("/a"))):
                context = read_x509_context(answer)
                assert listed.is_denied(domain.name, 7, context)
                assert not listed.is_denied(TrustDomain("evil.example"), 7, context)

    def test_a_bundle_with_our_very_authority_takes_no_list_of_ours_away(self, domain: TrustDomainDouble) -> None:
        context = read_x509_context(with_bundle(domain, domain.bundle.x509_authorities[0], [domain.crl(7)]))
        assert Listed().is_denied(
            domain.name, 7, replace(context, bundles=dict(reversed(list(context.bundles.items()))))
        )
        assert Listed().is_denied(domain.name, 7, context)

    def test_lists_of_federated_trust_domains_are_asked_for_theirs(self, domain: TrustDomainDouble) -> None:
        own, other = domain.svid("/a"), TrustDomainDouble("partner.example", now=domain.now)
        context = read_x509_context(domain.answer(own, federated=(other,), crls=[other.crl(5)]))
        listed = Listed()
        assert listed.is_denied(other.name, 5, context)
        assert not listed.is_denied(domain.name, 5, context)
