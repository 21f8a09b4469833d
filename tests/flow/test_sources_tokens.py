"""A JWTSource whose Workload API goes away, comes back, or says that the identity is gone."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from svid.bundle import Bundle
from svid.errors import WorkloadAPIError
from svid.wire.pb import workload_pb2 as pb
from svid.workloadapi.sources import JWTSource
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import Fail, WorkloadAPIDouble

NUMBER = 7
DENIED = Fail(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")


@pytest.fixture
def denials() -> DenialsDouble:
    return DenialsDouble()


@pytest.fixture
def api(tmp_path: Path, denials: DenialsDouble, domain: TrustDomainDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=denials) as double:
        double.say("FetchJWTBundles", domain.jwt_answer())
        double.say("FetchJWTSVID", answer(domain))
        yield double


def answer(domain: TrustDomainDouble) -> pb.JWTSVIDResponse:
    token = domain.token("/a", "db", jti=f"{NUMBER:032x}")
    return pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=token)])


def test_a_token_outlives_its_attestor_and_the_next_one_is_asked_again(
    tmp_path: Path, domain: TrustDomainDouble
) -> None:
    with WorkloadAPIDouble(tmp_path) as first:
        first.say("FetchJWTBundles", domain.jwt_answer())
        first.say("FetchJWTSVID", answer(domain))
        source = JWTSource(first.socket)
        token = source.fetch("db").token
    with source:
        assert source.fetch("db").token == token
        assert source.fetch(["db"]).token == token
        with pytest.raises(WorkloadAPIError, match="expected an attestor that listens"):
            source.fetch("queue")


def test_a_stopped_attestor_costs_a_second_once(api: WorkloadAPIDouble) -> None:
    with JWTSource(api.socket) as source:
        token = source.fetch("db").token
        for _ in range(20):
            assert source.fetch("db").token == token
        assert len([call for call in api.calls if call.method == "FetchJWTSVID"]) == 2


def test_a_token_that_is_revoked_meanwhile_is_not_given(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    away = Fail(grpc.StatusCode.UNAVAILABLE, "starting")
    api.say("FetchJWTSVID", away, away)
    with JWTSource(api.socket) as source:
        told = threading.Event()
        source.on_denied(lambda _, numbers: told.set() if NUMBER in numbers else None, point="a")
        source.fetch("db")
        source.fetch("db")
        denials.deny(NUMBER)
        assert told.wait(10)
        with pytest.raises(WorkloadAPIError, match="starting"):
            source.fetch("db")


def test_a_token_whose_authority_has_left_the_bundle_is_not_given(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    (key,) = domain.bundle.jwt_authorities.values()
    later = Bundle(trust_domain=domain.name, jwt_authorities={"authority-2": key})
    with JWTSource(api.socket) as source:
        source.fetch("db")
        told = threading.Event()
        source.subscribe(told.set)
        api.say("FetchJWTBundles", pb.JWTBundlesResponse(bundles={f"spiffe://{domain.name}": later.jwt_jwks()}))
        assert told.wait(10)
        api.say("FetchJWTSVID", Fail(grpc.StatusCode.UNAVAILABLE, "busy"))
        with pytest.raises(WorkloadAPIError, match="busy"):
            source.fetch("db")


def test_without_an_identity_no_token_is_given(api: WorkloadAPIDouble) -> None:
    with JWTSource(api.socket) as source:
        source.fetch("db")
        told = threading.Event()
        source.subscribe(told.set)
        api.say("FetchJWTBundles", DENIED)
        assert told.wait(10)
        api.say("FetchJWTSVID", Fail(grpc.StatusCode.UNAVAILABLE, "going"))
        with pytest.raises(WorkloadAPIError, match="going"):
            source.fetch("db")


def test_a_closed_source_gives_none(api: WorkloadAPIDouble) -> None:
    source = JWTSource(api.socket)
    source.fetch("db")
    source.close()
    with pytest.raises(WorkloadAPIError, match="already closed"):
        source.fetch("db")


def test_a_fresh_token_is_asked_for_as_such_and_never_comes_from_the_cache(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    with JWTSource(api.socket) as source:
        source.fetch("db")
        api.say("FetchJWTSVID", answer(domain), Fail(grpc.StatusCode.UNAVAILABLE, "not now"))
        source.fetch("db", fresh=True)
        with pytest.raises(WorkloadAPIError, match="not now"):
            source.fetch("db", fresh=True)
    asked = [dict(call.metadata) for call in api.calls if call.method == "FetchJWTSVID"]
    assert [one.get("cognomen-fresh") for one in asked] == [None, "true", "true"]
