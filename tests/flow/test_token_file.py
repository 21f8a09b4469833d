"""JWTSource.file at a Workload API that speaks for the test: the file follows the token, the identity and the source."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from svid.bundle import Bundle
from svid.errors import SpiffeIDError, WorkloadAPIError
from svid.wire.denials import Enforced
from svid.wire.pb import workload_pb2 as pb
from svid.workloadapi.sources import JWTSource
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.project import ROOT
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import Fail, WorkloadAPIDouble

POINT = "token file"
DENIED = Fail(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "runtime"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    return place


@pytest.fixture
def denials() -> DenialsDouble:
    return DenialsDouble()


@pytest.fixture
def api(tmp_path: Path, denials: DenialsDouble, domain: TrustDomainDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=denials) as double:
        double.say("FetchJWTBundles", domain.jwt_answer())
        double.say("FetchJWTSVID", answer(domain, 1))
        yield double


def answer(domain: TrustDomainDouble, number: int, *, lifetime: timedelta = HOUR) -> pb.JWTSVIDResponse:
    token = domain.token("/a", "cloud", jti=f"{number:032x}", lifetime=lifetime)
    return pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=token)])


def token_of(said: pb.JWTSVIDResponse) -> str:
    return said.svids[0].svid


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def until_there(path: Path) -> str:
    while True:  # pytest's timeout ends it
        try:
            return path.read_text()
        except FileNotFoundError:
            pass


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "svid-token-file"]


def test_a_token_is_in_the_file_from_the_first_moment_to_the_end_of_the_block(
    api: WorkloadAPIDouble, domain: TrustDomainDouble, place: Path
) -> None:
    with JWTSource(api.socket) as source:
        with source.file("cloud") as path:
            assert path.read_text() == token_of(answer(domain, 1))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert place in path.parents
        assert names(place) == []
        assert source.bundles
    (call,) = [call for call in api.calls if call.method == "FetchJWTSVID"]
    assert dict(call.metadata)["cognomen-fresh"] == "true"  # nobody else may have sent this one to the provider


def test_without_a_block_the_source_closes_it(api: WorkloadAPIDouble, domain: TrustDomainDouble, place: Path) -> None:
    api.say("FetchJWTSVID", answer(domain, 2))
    with JWTSource(api.socket) as source:
        one, other = source.file("cloud"), source.file("cloud", spiffe_id="spiffe://example.org/a")
        assert [Path(one).read_text(), Path(str(other)).read_text()] == [
            token_of(answer(domain, 1)),
            token_of(answer(domain, 2)),
        ]
        one.close()
        one.close()
        assert names(place) == [other.path.parent.name]
    assert names(place) == []
    assert threads() == []
    other.close()


def test_half_of_its_life_later_another_token_is_in_the_file(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    soon = TrustDomainDouble("example.org")
    first, second = answer(soon, 2, lifetime=timedelta(seconds=3)), answer(domain, 3)
    api.say("FetchJWTSVID", first, second)
    with JWTSource(api.socket) as source:
        source.fetch("cloud")
        with source.file("cloud") as path:
            while until_there(path) != token_of(second):
                pass


def test_a_revoked_token_is_gone_before_the_attestor_hears_that_it_is(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    with JWTSource(api.socket) as source:
        with source.file("cloud") as path:
            denials.deny(7)
            denials.wait_for_receipts(Enforced(epoch=denials.epoch, point=POINT))
            assert path.exists()
            denials.deny(1)
            denials.wait_for_receipts(Enforced(epoch=denials.epoch, point=POINT))
            assert not path.exists()
            api.say("FetchJWTSVID", answer(domain, 2))
            assert until_there(path) == token_of(answer(domain, 2))
        denials.wait_for_receipts(Enforced(epoch=denials.epoch, point=POINT, gone=True))


def test_it_is_gone_with_the_identity_and_back_with_it(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    with JWTSource(api.socket) as source, source.file("cloud") as path:
        told = threading.Event()
        source.subscribe(told.set)  # after the file's own
        api.say("FetchJWTBundles", DENIED)
        assert told.wait(10)
        assert not path.exists()
        api.say("FetchJWTSVID", DENIED, answer(domain, 2))
        api.say("FetchJWTBundles", domain.jwt_answer())
        assert until_there(path) == token_of(answer(domain, 2))


def test_it_is_gone_when_its_authority_has_left_the_bundle(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    (key,) = domain.bundle.jwt_authorities.values()
    later = Bundle(trust_domain=domain.name, jwt_authorities={"authority-2": key})
    with JWTSource(api.socket) as source, source.file("cloud") as path:
        told = threading.Event()
        source.subscribe(told.set)
        api.say("FetchJWTBundles", pb.JWTBundlesResponse(bundles={f"spiffe://{domain.name}": later.jwt_jwks()}))
        assert told.wait(10)
        assert not path.exists()


def test_somebody_who_removes_it_finds_it_again(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    with JWTSource(api.socket) as source, source.file("cloud") as path:
        path.unlink()
        path.parent.rmdir()
        assert until_there(path) == token_of(answer(domain, 1))


def test_without_a_token_there_is_no_file_and_no_thread(tmp_path: Path, domain: TrustDomainDouble, place: Path) -> None:
    with WorkloadAPIDouble(tmp_path) as api:
        api.say("FetchJWTBundles", domain.jwt_answer())
        api.say("FetchJWTSVID", DENIED)
        with JWTSource(api.socket) as source:
            with pytest.raises(WorkloadAPIError, match="no identity issued"):
                source.file("cloud")
            with pytest.raises(SpiffeIDError):
                source.file("cloud", spiffe_id="none")
        with pytest.raises(WorkloadAPIError, match="already closed"):
            source.file("cloud")
    assert (names(place), threads()) == ([], [])


async def test_in_asyncio_it_is_made_in_a_thread(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    async with asyncio.timeout(30):
        source = await JWTSource.connect(api.socket)
        file = await asyncio.to_thread(source.file, "cloud")
        assert file.path.read_text() == token_of(answer(domain, 1))
        await asyncio.to_thread(source.close)
    assert not file.path.exists()


def test_a_callback_may_close_the_source(api: WorkloadAPIDouble, place: Path) -> None:
    source = JWTSource(api.socket)
    source.file("cloud")
    closed = threading.Event()

    def close() -> None:
        source.close()
        closed.set()

    source.subscribe(close)
    api.say("FetchJWTBundles", DENIED)
    assert closed.wait(10)
    assert names(place) == []
    source.close()


ENDS = """
import sys
from svid import JWTSource
file = JWTSource(sys.argv[1]).file("cloud")
print(open(file).read())
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError('x')", 1), ("file.close()", 0)]
)
def test_a_program_that_ends_leaves_nothing(
    api: WorkloadAPIDouble, domain: TrustDomainDouble, place: Path, end: str, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(end=end), api.socket],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (code, token_of(answer(domain, 1)))
    assert names(place) == []
