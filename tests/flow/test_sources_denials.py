"""Sources that are told of denials, over a real gRPC stream on a Unix socket."""

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from svid.clock import SystemClock
from svid.errors import JWTSVIDError, RevokedError, WorkloadAPIError, X509SVIDError
from svid.source import KnowsDenials
from svid.spiffeid import TrustDomain
from svid.wire.denials import Enforced, write_denied
from svid.wire.pb import denials_pb2
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.denials import FollowedDenials
from svid.workloadapi.shareddenials import DenialsShare
from svid.workloadapi.sources import JWTSource, X509Source
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.fail import Fail
from tests.doubles.threads import side_by_side
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble

ENDED = Fail(grpc.StatusCode.OK)
SOON = timedelta(seconds=10)
SHORT = timedelta(milliseconds=300)
OTHER = TrustDomain("partner.example")


@pytest.fixture(scope="module")
def domain() -> TrustDomainDouble:
    return TrustDomainDouble()


@pytest.fixture
def denials() -> DenialsDouble:
    return DenialsDouble()


@pytest.fixture
def api(tmp_path: Path, domain: TrustDomainDouble, denials: DenialsDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=denials) as double:
        double.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        double.say("FetchJWTBundles", domain.jwt_answer())
        yield double


class Told:
    """What a source told a point to be denied, one call at a time."""

    def __init__(self, source: KnowsDenials, point: str = "the test") -> None:
        self._calls: queue.SimpleQueue[tuple[TrustDomain, set[int]]] = queue.SimpleQueue()
        self.end = source.on_denied(self._hear, point=point)

    def _hear(self, trust_domain: TrustDomain, numbers: Collection[int]) -> None:
        if numbers:
            self._calls.put((trust_domain, set(numbers)))

    def next(self) -> set[int]:
        trust_domain, numbers = self._calls.get(timeout=10)
        assert trust_domain == TrustDomain("example.org")
        return numbers

    def is_quiet(self) -> bool:
        return self._calls.empty()


def make_x509(api: WorkloadAPIDouble) -> X509Source:
    return X509Source(api.socket)


def make_jwt(api: WorkloadAPIDouble) -> JWTSource:
    return JWTSource(api.socket)


Make = Callable[[WorkloadAPIDouble], X509Source | JWTSource]
either = pytest.mark.parametrize("make", [make_x509, make_jwt])


def error_of(ask: Callable[[], object]) -> str:
    try:
        ask()
    except WorkloadAPIError as e:
        return str(e)
    return ""


# what is denied


@either
def test_a_denial_that_comes_is_in_force_before_the_callback_is_called(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble, make: Make
) -> None:
    with make(api) as source:
        assert isinstance(source, KnowsDenials)
        found: queue.SimpleQueue[bool] = queue.SimpleQueue()
        source.on_denied(lambda name, numbers: found.put(all(source.is_denied(name, n) for n in numbers)), point="a")
        assert not source.is_denied(domain.name, 7)
        denials.deny(7, 2**128 - 1)
        assert found.get(timeout=10)
        assert source.is_denied(domain.name, 7)
        assert not source.is_denied(domain.name, 8)
        assert not source.is_denied(OTHER, 7)


@either
def test_what_is_denied_when_a_source_is_made_is_in_force_at_once(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble, make: Make
) -> None:
    denials.deny(7)
    with make(api) as source:
        assert source.is_denied(domain.name, 7)
        age = source.denials_age()
        assert age is not None
        assert age >= timedelta()


@pytest.mark.clause("WE-02")
def test_both_calls_carry_the_header_of_the_workload_api(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    with X509Source(api.socket) as source:
        source.on_denied(lambda _, __: None, point="a")
        denials.wait_for_receipts(Enforced(epoch=denials.deny(7), point="a"))
    assert denials.receipt_calls
    assert {metadata["workload.spiffe.io"] for metadata in (*denials.streams, *denials.receipt_calls)} == {"true"}


def test_a_snapshot_in_many_messages_is_whole_when_the_source_is_made(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    part = replace(denials.message(1), snapshot=True, epoch=None)
    denials.opening = [write_denied(part), write_denied(replace(part, denials=denials.message(2).denials))]
    with pytest.raises(WorkloadAPIError, match="has not sent the denials yet"):
        X509Source(api.socket, timeout=SHORT)
    denials.opening.append(write_denied(replace(denials.message(3), snapshot=True)))
    api.wait_until_left("FetchX509SVID")
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        assert all(source.is_denied(domain.name, number) for number in (1, 2, 3))


async def test_connect_waits_for_the_denials(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    denials.opening = []
    with pytest.raises(WorkloadAPIError, match="has not sent the denials yet") as caught:
        await JWTSource.connect(api.socket, timeout=SHORT)
    assert caught.value.code == "UNAVAILABLE"
    denials.opening = None
    denials.deny(7)
    async with asyncio.timeout(10):
        with await X509Source.connect(api.socket) as source:
            assert source.is_denied(domain.name, 7)


def test_whoever_does_not_wait_verifies_nobody_before_it_is_known_what_is_denied(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    denials.opening = []
    with X509Source(api.socket, timeout=None) as x509, JWTSource(api.socket, timeout=None) as jwt:
        asks: list[Callable[[], object]] = [
            lambda: x509.bundles,
            lambda: x509.svid,
            lambda: jwt.bundles,
            lambda: jwt.verify(domain.token("/a", "db"), "db"),
        ]
        for ask in asks:
            while "has not answered yet" in (error := error_of(ask)):
                pass
            assert "has not sent the denials yet" in error
        x509.on_denied(lambda _, __: None, point="a")
        jwt.on_denied(lambda _, __: None, point="b")
        denials.wait_for_streams(1)
        denials.say(write_denied(replace(denials.message(7), snapshot=True)))
        denials.wait_for_receipts(*(Enforced(epoch=denials.epoch, point=point) for point in ("a", "b")))
        assert x509.is_denied(domain.name, 7)
        assert jwt.is_denied(domain.name, 7)
        assert [error_of(ask) for ask in asks] == [""] * 4


# a stream that ends


@pytest.mark.parametrize(
    "end", [ENDED, Fail(grpc.StatusCode.UNAVAILABLE), Fail(grpc.StatusCode.PERMISSION_DENIED), b"\xff\xff"]
)
def test_a_stream_that_ends_is_opened_again_and_only_what_is_new_is_told(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble, end: Fail | bytes
) -> None:
    denials.deny(1)
    with X509Source(api.socket) as source:
        told = Told(source)
        denials.say(end)
        denials.wait_for_streams(2)
        assert source.is_denied(domain.name, 1)
        denials.deny(2)
        assert told.next() == {2}
        assert told.is_quiet()


def test_a_snapshot_that_lacks_what_was_denied_before_brings_nothing_back_to_life(
    tmp_path: Path, domain: TrustDomainDouble
) -> None:
    first, second = DenialsDouble(), DenialsDouble()
    first.deny(1)
    with WorkloadAPIDouble(tmp_path, denials=first) as api:
        api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        source = X509Source(api.socket)
        told = Told(source)
    second.epoch = replace(second.epoch, incarnation="restored")
    second.deny(2)
    with source, WorkloadAPIDouble(tmp_path, denials=second):
        assert told.next() == {2}
        assert source.is_denied(domain.name, 1)
        second.wait_for_receipts(Enforced(epoch=second.epoch, point="the test"))


def test_a_message_that_cannot_be_read_costs_a_snapshot_and_nothing_that_is_held(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    denials.deny(1)
    with X509Source(api.socket) as source:
        told = Told(source)
        denials.say(denials_pb2.Denied(trust_domain="example.org", numbers=b"short"))
        denials.deny(2)
        assert told.next() == {2}
        denials.wait_for_streams(2)
        assert source.is_denied(domain.name, 1)
        denials.wait_for_receipts(Enforced(epoch=denials.epoch, point="the test"))


# another attestor


def test_an_attestor_that_falls_silent_is_left_for_whoever_has_its_socket_now(
    tmp_path: Path,
) -> None:
    stopped, running = DenialsDouble(), DenialsDouble()
    running.deny(7)
    with WorkloadAPIDouble(tmp_path, denials=stopped) as api:
        client = WorkloadAPIClient(api.socket)
        followed = FollowedDenials(client, SystemClock(), silent_after=SHORT)
        followed.start()
        followed.wait(SOON)
        (tmp_path / "api.sock").unlink()
        with WorkloadAPIDouble(tmp_path, denials=running):
            told = Told(followed)
            assert told.next() == {7}
            followed.end()
            client.close()


def test_a_silent_attestor_is_left_by_every_source_of_the_process(api: WorkloadAPIDouble) -> None:
    clock = SystemClock()
    clients = [WorkloadAPIClient(api.socket) for _ in range(2)]
    shares = [DenialsShare(client, clock, silent_after=SHORT) for client in clients]
    for client in clients:
        with pytest.raises(WorkloadAPIError) as caught:
            for _ in client.open_jwt_bundles():
                pass
        assert caught.value.code == "CANCELLED"
    for share in shares:
        share.close()


def test_a_client_that_was_closed_does_not_connect_again(api: WorkloadAPIDouble) -> None:
    client = WorkloadAPIClient(api.socket)
    client.close()
    client.reconnect()
    with pytest.raises(WorkloadAPIError, match="already closed"):
        client.fetch_jwt_svid("db")


def test_without_the_service_a_source_is_made_and_used_as_ever(tmp_path: Path, domain: TrustDomainDouble) -> None:
    with WorkloadAPIDouble(tmp_path) as api:
        api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        with X509Source(api.socket) as source:
            source.on_denied(lambda _, __: None, point="a")
            assert source.svid.spiffe_id.path == "/a"
            assert not source.is_denied(domain.name, source.svid.serial)
            assert source.denials_age() is None


def test_a_socket_that_gets_the_service_later_is_found_to_have_it(tmp_path: Path) -> None:
    denials = DenialsDouble()
    denials.deny(7)
    with WorkloadAPIDouble(tmp_path) as api:
        client = WorkloadAPIClient(api.socket)
        followed = FollowedDenials(client, SystemClock(), ask_again=timedelta(milliseconds=50))
        followed.start()
        followed.wait(SOON)
        told = Told(followed)
    with client, WorkloadAPIDouble(tmp_path, denials=denials):
        assert told.next() == {7}
        followed.end()


# receipts


def test_a_receipt_comes_only_after_the_callback_returned(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    entered, leave = threading.Event(), threading.Event()

    def linger(_: TrustDomain, __: Collection[int]) -> None:
        entered.set()
        assert leave.wait(10)

    with X509Source(api.socket) as source:
        source.on_denied(linger, point="slow")
        epoch = denials.deny(7)
        assert entered.wait(10)
        assert Enforced(epoch=epoch, point="slow") not in denials.receipts
        leave.set()
        denials.wait_for_receipts(Enforced(epoch=epoch, point="slow"))


def test_where_a_point_raised_there_is_no_receipt_until_it_has_taken_it(
    api: WorkloadAPIDouble, denials: DenialsDouble
) -> None:
    fails = [True]

    def fail(_: TrustDomain, __: Collection[int]) -> None:
        if fails:
            raise LookupError("a bug of the point's")

    with X509Source(api.socket) as source:
        source.on_denied(fail, point="broken")
        source.on_denied(lambda _, __: None, point="sound")
        before = denials.epoch
        denials.wait_for_receipts(Enforced(epoch=denials.deny(7), point="sound"))
        denials.wait_for_receipts(Enforced(epoch=denials.deny(8), point="sound"))
        assert {receipt.point for receipt in denials.receipts if receipt.epoch != before} == {"sound"}
        fails.clear()
        denials.say(write_denied(denials.message()))
        denials.wait_for_receipts(Enforced(epoch=denials.epoch, point="broken"))


def test_a_point_that_came_after_the_last_denial_gives_its_receipt_at_once_and_says_when_it_is_gone(
    api: WorkloadAPIDouble, denials: DenialsDouble
) -> None:
    denials.deny(7)
    with X509Source(api.socket) as source:
        for point in ("late", "later"):
            leave = source.on_denied(lambda _, __: None, point=point)
            denials.wait_for_receipts(Enforced(epoch=denials.epoch, point=point))
            leave()
            denials.wait_for_receipts(Enforced(epoch=denials.epoch, point=point, gone=True))


def test_receipts_are_sent_again_on_a_new_stream(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    with X509Source(api.socket) as source:
        source.on_denied(lambda _, __: None, point="a")
        denials.wait_for_receipts(Enforced(epoch=denials.deny(7), point="a"))
        before = len(denials.receipts)
        denials.say(ENDED)
        denials.wait_for_receipt_calls(before + 1)
    assert [receipt.epoch for receipt in denials.receipts[before - 1 :]] == [denials.epoch] * 2


def test_an_attestor_that_takes_no_receipts_holds_up_no_denial(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    denials.refuses_receipts = Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    with X509Source(api.socket) as source:
        told = Told(source)
        for number in range(20):
            denials.deny(number)
        seen: set[int] = set()
        while len(seen) < 20:
            seen |= told.next()
        denials.refuses_receipts = None
        denials.wait_for_receipts(Enforced(epoch=denials.deny(20), point="the test"))


# refusals


def test_our_own_svid_is_not_shown_once_it_is_revoked_until_there_is_another(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    with X509Source(api.socket) as source:
        told, serial = Told(source), source.svid.serial
        denials.deny(serial)
        assert told.next() == {serial}
        with pytest.raises(X509SVIDError, match=f"serial {serial:x} was revoked, and no newer") as caught:
            _ = source.svid
        assert isinstance(caught.value, RevokedError)
        assert source.bundles, "peers can be verified all the same"
        changed = threading.Event()
        source.subscribe(changed.set)
        api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        assert changed.wait(10)
        assert source.svid.serial != serial


def test_a_token_that_is_revoked_is_refused(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    number = 0x0123456789ABCDEF0123456789ABCDEF
    token = domain.token("/a", "db", jti=f"{number:032x}")
    with JWTSource(api.socket) as source:
        told = Told(source)
        assert source.verify(token, "db").spiffe_id.path == "/a"
        denials.deny(number)
        assert told.next() == {number}
        with pytest.raises(JWTSVIDError, match=r"jti: .* was revoked") as caught:
            source.verify(token, "db")
        assert isinstance(caught.value, RevokedError)
        for jti in (f"{number + 1:032x}", f"{number:x}", f"{number:032X}", None):
            other = domain.token("/a", "db", jti=jti)  # another's, or none of ours
            assert source.verify(other, "db").token == other


def test_a_token_of_another_trust_domain_with_a_denied_jti_is_not_meant(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    partner = TrustDomainDouble("partner.example")
    answer = domain.jwt_answer()
    answer.MergeFrom(partner.jwt_answer())
    denials.deny(7)
    with JWTSource(api.socket) as source:
        changed = threading.Event()
        source.subscribe(changed.set)
        api.say("FetchJWTBundles", answer)
        assert changed.wait(10)
        assert source.verify(partner.token("/a", "db", jti=f"{7:032x}"), "db").spiffe_id.trust_domain == OTHER
        with pytest.raises(RevokedError):
            source.verify(domain.token("/a", "db", jti=f"{7:032x}"), "db")


# one stream for all sources of a process


def test_the_sources_of_a_process_share_one_stream(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    with X509Source(api.socket) as x509, JWTSource(api.socket) as jwt:
        told = [Told(x509, "a"), Told(jwt, "b")]
        epoch = denials.deny(7)
        denials.wait_for_receipts(*(Enforced(epoch=epoch, point=point) for point in ("a", "b")))
        assert [one.next() for one in told] == [{7}, {7}]
        assert x509.is_denied(domain.name, 7)
        assert jwt.is_denied(domain.name, 7)
        assert len(denials.streams) == 1
        assert len(own_threads()) == 5


@pytest.mark.parametrize("makes", [(make_x509, make_jwt), (make_jwt, make_x509)])
def test_whichever_source_is_closed_first_is_told_no_more_and_the_other_goes_on(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble, makes: tuple[Make, Make]
) -> None:
    first, second = (make(api) for make in makes)
    leaver, stayer = Told(first, "leaver"), Told(second, "stayer")
    first.close()
    first.close()
    assert len(own_threads()) == 4
    denials.wait_for_receipts(Enforced(epoch=denials.deny(7), point="stayer"))
    assert stayer.next() == {7}
    assert leaver.is_quiet()
    assert len(denials.streams) == 1
    second.close()
    assert not own_threads()
    denials.deny(8)
    api.wait_until_left("FetchX509SVID")
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as third:
        assert third.is_denied(domain.name, 8)
        assert not second.is_denied(domain.name, 8)


def test_a_closed_source_fetches_nothing_over_the_connection_that_it_left_to_others(api: WorkloadAPIDouble) -> None:
    jwt = JWTSource(api.socket)
    with X509Source(api.socket):
        jwt.close()
        with pytest.raises(WorkloadAPIError, match="already closed"):
            jwt.fetch("db")


def test_sources_of_another_socket_or_clock_share_nothing(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble, tmp_path: Path
) -> None:
    other = DenialsDouble()
    (tmp_path / "other").mkdir()
    with WorkloadAPIDouble(tmp_path / "other", denials=other) as elsewhere:
        elsewhere.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        with X509Source(api.socket) as here, X509Source(elsewhere.socket) as there:
            told = Told(there)
            other.deny(7)
            assert told.next() == {7}
            assert not here.is_denied(domain.name, 7)
            with JWTSource(api.socket, clock=SystemClock()):
                assert len(denials.streams) == 2


def test_a_forked_child_shares_nothing_with_its_parent(api: WorkloadAPIDouble) -> None:
    """Its parent's threads are not there."""
    client = WorkloadAPIClient(api.socket)
    clock = SystemClock()
    parents = DenialsShare(client, clock)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        own = DenialsShare(client, clock).followed
        os._exit(own is not parents.followed and all(thread.is_alive() for thread in own.threads))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    for thread in parents.close():
        thread.join(10)


# threads


def test_close_ends_every_thread_and_what_is_denied_stays_denied(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    denials.deny(7)
    source = X509Source(api.socket)
    assert len(own_threads()) == 4
    source.close()
    source.close()
    assert not own_threads()
    assert source.is_denied(domain.name, 7)


def test_a_source_may_be_closed_by_two_of_its_callbacks_at_once(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    source = X509Source(api.socket)
    threads = own_threads()
    both = threading.Barrier(2)
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def close() -> None:
        both.wait(10)
        source.close()
        done.put(None)

    def close_once() -> None:
        end()
        close()

    end = source.subscribe(close_once)
    source.on_denied(lambda _, __: close(), point="a")
    api.say("FetchX509SVID", domain.answer(domain.svid("/b")))
    denials.deny(7)
    for _ in range(2):
        done.get(timeout=10)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_close_does_not_wait_for_an_attestor_that_does_not_answer_a_receipt(
    api: WorkloadAPIDouble, denials: DenialsDouble
) -> None:
    with X509Source(api.socket) as source:
        denials.holds_receipts = True
        source.on_denied(lambda _, __: None, point="a")
        denials.deny(7)
        denials.wait_for_receipt_calls(1)
        threads = own_threads()
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("ask", [lambda client: client.fetch_jwt_svid("db"), WorkloadAPIClient.open_denials])
def test_a_client_that_was_closed_says_so(api: WorkloadAPIDouble, ask: Callable[[WorkloadAPIClient], object]) -> None:
    client = WorkloadAPIClient(api.socket)
    client.close()
    with pytest.raises(WorkloadAPIError, match="already closed"):
        ask(client)


def test_many_threads_ask_and_register_while_denials_come(
    api: WorkloadAPIDouble, denials: DenialsDouble, domain: TrustDomainDouble
) -> None:
    """Once a thread was told, it never hears again that a number is not denied."""
    over = threading.Event()
    faults: list[str] = []

    with X509Source(api.socket) as source:

        def ask() -> None:
            seen: set[int] = set()
            while not over.is_set():
                now = {number for number in range(40) if source.is_denied(domain.name, number)}
                if seen - now:
                    faults.append(f"back to life: {seen - now}")
                seen = now

        def register() -> None:
            while not over.is_set():
                source.on_denied(lambda _, __: None, point="brief")()

        told = Told(source)
        with side_by_side(over, ask, ask, register):
            for number in range(40):
                denials.deny(number)
            seen: set[int] = set()
            while len(seen) < 40:
                seen |= told.next()
    assert faults == []


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("svid-")]
