"""The Workload API's messages: what is written is read back, what is not usable is not written."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import make_authority
from svid.bundle import Bundle
from svid.crl import CRL
from svid.errors import BundleError, SVIDError, WorkloadAPIError, X509SVIDError
from svid.jwtsvid import JWTSVID
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import (
    X509Context,
    read_jwt_bundles,
    read_jwt_svids,
    read_validation,
    read_x509_bundles,
    read_x509_context,
    write_jwt_bundles,
    write_jwt_svids,
    write_validation,
    write_x509_bundles,
    write_x509_context,
)
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.crls import make_crl
from tests.doubles.issuerclient import Authority

OWN, OTHER = TrustDomain("example.org"), TrustDomain("other.org")
CLOCK = FakeClock()
AUTHORITIES = {trust_domain: Authority(trust_domain, CLOCK) for trust_domain in (OWN, OTHER)}
BUNDLES = {
    trust_domain: Bundle(
        trust_domain=trust_domain,
        x509_authorities=(authority.certificate,),
        jwt_authorities={authority.kid: authority.jwt_key.public_key()},
    )
    for trust_domain, authority in AUTHORITIES.items()
}
HOUR = timedelta(hours=1)


def x509(name: str, hint: str = "") -> X509SVID:
    key = generate_private_key(KeyKind.EC_P256)
    spiffe_id = SpiffeID.from_segments(OWN, name)
    leaf = AUTHORITIES[OWN].sign(spiffe_id, key.public_key(), ttl=HOUR)
    return X509SVID(spiffe_id=spiffe_id, chain=(leaf,), private_key=key, hint=hint)


A, B = x509("a", "first"), x509("b")


def token(name: str = "a") -> str:
    return AUTHORITIES[OWN].token(SpiffeID.from_segments(OWN, name), ["db"], ttl=HOUR)


def chains(context: X509Context) -> list[tuple[SpiffeID, bytes, bytes, str]]:
    return [(svid.spiffe_id, svid.chain_der(), svid.key_der(), svid.hint) for svid in context.svids]


def response(**changes: object) -> pb.X509SVIDResponse:
    message = write_x509_context(X509Context(svids=(A, B), bundles={OWN: BUNDLES[OWN]}))
    for field, value in changes.items():
        setattr(message.svids[0], field, value)
    return message


@pytest.mark.clause("WA-18")
def test_an_x509_context_is_read_as_it_was_written() -> None:
    written = X509Context(svids=(A, B), bundles=BUNDLES)
    read = read_x509_context(write_x509_context(written))
    assert chains(read) == chains(written)
    assert {name: bundle.x509_authorities for name, bundle in read.bundles.items()} == {
        name: bundle.x509_authorities for name, bundle in BUNDLES.items()
    }


def test_revocation_lists_are_read_as_they_were_written_and_a_broken_one_keeps_no_identity_back() -> None:
    crls = tuple(CRL.from_der(make_crl(make_authority(name))) for name in ("authority-1", "authority-2"))
    message = write_x509_context(X509Context(svids=(A,), bundles=BUNDLES, crls=crls))
    assert list(message.crl) == [crl.der for crl in crls]
    message.crl.insert(1, b"no list")
    read = read_x509_context(message)
    assert (read.crls, len(read.svids)) == (crls, 1)
    assert list(write_x509_bundles(BUNDLES, crls=crls).crl) == [crl.der for crl in crls]
    assert read_x509_context(write_x509_context(X509Context(svids=(A,), bundles=BUNDLES))).crls == ()


@pytest.mark.clause("WA-25")
def test_foreign_bundles_are_keyed_by_the_trust_domains_spiffe_id() -> None:
    message = write_x509_context(X509Context(svids=(A,), bundles=BUNDLES))
    assert list(message.federated_bundles) == ["spiffe://other.org"]


def test_a_foreign_bundle_without_authorities_is_left_out() -> None:
    bundles = {OWN: BUNDLES[OWN], OTHER: Bundle(trust_domain=OTHER)}
    assert not write_x509_context(X509Context(svids=(A,), bundles=bundles)).federated_bundles
    assert list(write_x509_bundles(bundles).bundles) == ["spiffe://example.org"]


@pytest.mark.clause("WA-17")
@pytest.mark.parametrize(
    "context",
    [
        X509Context(svids=(), bundles=BUNDLES),
        X509Context(svids=(A,), bundles={}),
        X509Context(svids=(A,), bundles={OWN: Bundle(trust_domain=OWN)}),
        X509Context(svids=(X509SVID(spiffe_id=A.spiffe_id, chain=(), private_key=A.private_key),), bundles=BUNDLES),
    ],
    ids=["no SVID", "no bundle", "an empty bundle", "an empty chain"],
)
def test_an_x509_answer_without_a_mandatory_field_is_not_written(context: X509Context) -> None:
    with pytest.raises(WorkloadAPIError):
        write_x509_context(context)


@pytest.mark.clause("WA-14")
@pytest.mark.parametrize("field", ["spiffe_id", "x509_svid", "x509_svid_key", "bundle"])
def test_an_x509_answer_without_a_mandatory_field_is_not_read(field: str) -> None:
    empty = "" if field == "spiffe_id" else b""
    with pytest.raises(WorkloadAPIError, match=field):
        read_x509_context(response(**{field: empty}))


def test_an_x509_answer_without_svids_is_not_read() -> None:
    with pytest.raises(WorkloadAPIError, match="svids"):
        read_x509_context(pb.X509SVIDResponse())


def test_an_svid_that_is_called_by_another_name_than_its_leafs_is_not_read() -> None:
    with pytest.raises(X509SVIDError, match=r"svids\.spiffe_id"):
        read_x509_context(response(spiffe_id="spiffe://example.org/b"))


@pytest.mark.clause("WA-20")
def test_of_two_svids_with_one_hint_the_first_is_read() -> None:
    message = response()
    message.svids[1].hint = "first"
    assert [svid.hint for svid in read_x509_context(message).svids] == ["first"]


def test_a_foreign_bundle_that_is_none_does_not_keep_the_rest_from_being_read() -> None:
    message = response()
    message.federated_bundles["spiffe://other.org"] = b"garbage"
    message.federated_bundles["Not A Trust Domain"] = b""
    assert list(read_x509_context(message).bundles) == [OWN]


def test_x509_bundles_are_read_as_they_were_written() -> None:
    read = read_x509_bundles(write_x509_bundles(BUNDLES))
    assert {name: bundle.x509_authorities for name, bundle in read.items()} == {
        name: bundle.x509_authorities for name, bundle in BUNDLES.items()
    }


@pytest.mark.clause("WA-31", "WA-32")
def test_jwt_bundles_are_read_as_they_were_written_and_hold_nothing_else() -> None:
    message = write_jwt_bundles(BUNDLES)
    read = read_jwt_bundles(message)
    assert {name: bundle.jwt_authorities for name, bundle in read.items()} == {
        name: bundle.jwt_authorities for name, bundle in BUNDLES.items()
    }
    for document in message.bundles.values():
        assert {(jwk["use"], "kid" in jwk) for jwk in json.loads(document)["keys"]} == {("jwt-svid", True)}


def test_a_jwt_bundle_without_keys_is_written_as_an_empty_set() -> None:
    message = write_jwt_bundles({OWN: Bundle(trust_domain=OWN)})
    assert dict(message.bundles) == {"spiffe://example.org": b'{"keys":[]}'}


def test_no_bundle_is_no_answer() -> None:
    for write in (write_x509_bundles, write_jwt_bundles):
        with pytest.raises(WorkloadAPIError):
            write({})
    with pytest.raises(WorkloadAPIError):
        read_x509_bundles(pb.X509BundlesResponse())
    with pytest.raises(WorkloadAPIError):
        read_jwt_bundles(pb.JWTBundlesResponse())


def test_bundles_of_which_none_can_be_read_are_refused() -> None:
    with pytest.raises(BundleError):
        read_jwt_bundles(pb.JWTBundlesResponse(bundles={"spiffe://example.org": b"garbage"}))


@pytest.mark.clause("WA-29")
def test_jwt_svids_are_read_as_they_were_written() -> None:
    tokens = [(SpiffeID.from_segments(OWN, name), token(name), hint) for name, hint in (("a", "h"), ("b", ""))]
    read = read_jwt_svids(write_jwt_svids(tokens))
    assert [(svid.spiffe_id, svid.token, svid.hint) for svid in read] == tokens


def test_of_two_jwt_svids_with_one_hint_the_first_is_read() -> None:
    tokens = [(SpiffeID.from_segments(OWN, name), token(name), "h") for name in ("a", "b")]
    assert [svid.spiffe_id.path for svid in read_jwt_svids(write_jwt_svids(tokens))] == ["/a"]


@pytest.mark.parametrize("tokens", [[], [(SpiffeID.from_segments(OWN, "a"), "", "")]], ids=["none", "an empty token"])
def test_a_jwt_answer_without_a_mandatory_field_is_not_written(tokens: list[tuple[SpiffeID, str, str]]) -> None:
    with pytest.raises(WorkloadAPIError):
        write_jwt_svids(tokens)


@pytest.mark.parametrize(
    "message",
    [
        pb.JWTSVIDResponse(),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a")]),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(svid=token())]),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/b", svid=token())]),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid="abc")]),
    ],
    ids=["none", "no token", "no ID", "another ID", "no JWT"],
)
def test_a_jwt_answer_that_is_no_use_is_not_read(message: pb.JWTSVIDResponse) -> None:
    with pytest.raises(SVIDError):
        read_jwt_svids(message)


@pytest.mark.clause("WA-35", "WA-36")
def test_a_validation_is_read_as_it_was_written() -> None:
    written = JWTSVID.parse_insecure(token())
    read = read_validation(write_validation(written))
    assert read.spiffe_id == written.spiffe_id
    assert dict(read.claims) == {**written.claims, "aud": ["db"]}


def test_a_validation_without_claims_is_not_read() -> None:
    with pytest.raises(WorkloadAPIError, match="claims"):
        read_validation(pb.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/a"))


@pytest.mark.parametrize("field", ["x509_svid", "x509_svid_key", "bundle"])
@given(document=st.binary(min_size=1, max_size=200))
def test_garbage_is_refused_as_such(field: str, document: bytes) -> None:
    with pytest.raises(SVIDError):
        read_x509_context(response(**{field: document}))
