"""What a source knows of its callers after any messages, without a server: the steps of its stream are given by hand."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.errors import SVIDError, WorkloadAPIError
from svid.spiffeid import SpiffeID
from svid.wire.callers import CallersMessage
from svid.workloadapi.callers import FollowedCallers
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect
from tests.doubles.clock import FakeClock

A, B, C = (SpiffeID.parse(f"spiffe://example.org/{name}") for name in "abc")
AGE = timedelta(seconds=3)
BAD = Discard(error=SVIDError("age: expected something else"))
LOST = Reconnect(delay=timedelta(), error=WorkloadAPIError("gone", code="UNAVAILABLE"), denied=False)
REFUSED = Reconnect(delay=timedelta(), error=WorkloadAPIError("no identity", code="PERMISSION_DENIED"), denied=True)
ABSENT = GiveUp(error=WorkloadAPIError("no such service", code="UNIMPLEMENTED"))
ASK_AGAIN = timedelta(minutes=1)

Callers = Mapping[SpiffeID, frozenset[SpiffeID] | None]
Step = CallersMessage | Discard | Reconnect | GiveUp


def says(callers: Callers, *, more: bool = False, age: timedelta | None = AGE) -> CallersMessage:
    return CallersMessage(unchanged=False, more=more, callers=callers, age=age)


STILL = CallersMessage(unchanged=True, more=False, callers={}, age=AGE)


class World:
    """The callers that a test feeds by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        client = WorkloadAPIClient("unix:///nobody/there.sock")  # which nothing calls, as nothing is started
        self.callers = FollowedCallers(client, self.clock)
        self.rings = 0
        self.callers.subscribe(self._ring)

    def _ring(self) -> None:
        self.rings += 1

    def feed(self, *given: Step) -> None:
        """Let these come; where a message cannot be read, the stream ends."""
        for step in given:
            if isinstance(step, Reconnect | GiveUp):
                self.callers.ended(step)
                continue
            try:
                self.callers.take(step if isinstance(step, Discard) else Deliver(value=step))
            except WorkloadAPIError:
                self.callers.ended(LOST)

    def refusal(self) -> WorkloadAPIError:
        with pytest.raises(WorkloadAPIError) as refused:
            self.callers.of(None)
        return refused.value


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.callers.end()


def test_nothing_is_known_before_the_first_list(world: World) -> None:
    assert (world.refusal().code, world.callers.silent_for(), world.callers.age()) == ("UNAVAILABLE", None, None)
    world.feed(says({A: frozenset({B})}, more=True))
    assert world.refusal().code == "UNAVAILABLE"
    world.feed(STILL)
    assert (world.refusal().code, world.callers.age(), world.rings) == ("UNAVAILABLE", None, 0)
    world.feed(says({A: frozenset({C})}))
    assert (world.callers.of(A), world.rings) == (frozenset({B, C}), 1)


def test_the_first_identity_is_the_default_one_and_not_declared_is_not_nobody(world: World) -> None:
    world.feed(says({B: None, A: frozenset()}))
    assert (world.callers.of(None), world.callers.of(B), world.callers.of(A)) == (None, None, frozenset())
    with pytest.raises(WorkloadAPIError, match=f"expected an identity {C}, found {B}, {A}"):
        world.callers.of(C)
    world.feed(says({}))
    assert "expected an identity None, found none" in str(world.refusal())


def test_a_list_replaces_the_one_before_it(world: World) -> None:
    world.feed(says({A: frozenset({B}), B: None}), says({A: frozenset({C})}))
    assert world.callers.of(A) == frozenset({C})
    with pytest.raises(WorkloadAPIError):
        world.callers.of(B)


def test_every_message_says_how_old_it_is(world: World) -> None:
    world.feed(says({A: None}))
    world.clock.advance(7)
    assert (world.callers.silent_for(), world.callers.age()) == (timedelta(seconds=7), timedelta(seconds=10))
    world.feed(STILL)
    assert (world.callers.silent_for(), world.callers.age()) == (timedelta(), AGE)
    world.feed(says({A: None}, age=None))
    assert (world.callers.silent_for(), world.callers.age()) == (timedelta(), None)


def test_what_is_known_outlives_its_stream_and_grows_old(world: World) -> None:
    world.feed(says({A: frozenset({B})}), says({A: frozenset()}, more=True), LOST)
    world.clock.advance(20)
    world.feed(STILL)  # on a stream that has not begun with a list
    assert (world.callers.of(A), world.callers.silent_for()) == (frozenset({B}), timedelta(seconds=20))
    world.feed(says({A: frozenset({C})}))
    assert (world.callers.of(A), world.callers.silent_for()) == (frozenset({C}), timedelta())


def test_an_identity_that_was_taken_away_has_no_callers(world: World) -> None:
    world.feed(says({A: frozenset({B})}), REFUSED)
    assert (world.refusal().code, "no identity" in str(world.refusal()), world.rings) == ("PERMISSION_DENIED", True, 2)


def test_an_attestor_without_the_service_is_named_once_and_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert world.callers.ended(ABSENT) == world.callers.ended(ABSENT) == ASK_AGAIN
    assert "does not say who may call: no such service; it has no such service: only Cognomen's" in str(world.refusal())
    assert [one.message.partition(": ")[0] for one in caplog.records] == ["everybody is refused"]
    with pytest.raises(WorkloadAPIError, match="does not say"):
        world.callers.wait(timedelta(minutes=10))  # which it does not
    world.feed(says({A: None}), ABSENT)
    assert len(caplog.records) == 2


def test_nothing_is_known_after_the_end(world: World) -> None:
    world.feed(says({A: frozenset({B})}))
    world.callers.wait(timedelta())
    world.callers.end()
    assert world.refusal().code == "CANCELLED"
    with pytest.raises(WorkloadAPIError, match="closed"):
        world.callers.wait(timedelta(minutes=10))


some = st.sampled_from([A, B, C])
steps = st.one_of(
    st.builds(says, st.dictionaries(some, st.none() | st.frozensets(some), min_size=1, max_size=2), more=st.booleans()),
    st.sampled_from([STILL, BAD, LOST, REFUSED, ABSENT]),
)


@given(st.lists(steps, max_size=30))
def test_whatever_comes_in_whatever_order_only_whole_lists_count(given: list[Step]) -> None:
    """A model: the last whole list of one stream, until it is taken away."""
    world = World()
    known: dict[SpiffeID, frozenset[SpiffeID] | None] | None = None
    coming: dict[SpiffeID, frozenset[SpiffeID] | None] = {}
    for step in given:
        world.feed(step)
        match step:
            case CallersMessage(unchanged=False):
                for one, callers in step.callers.items():
                    before = coming.get(one)
                    coming[one] = callers if before is None else before | (callers or frozenset())
                if not step.more:
                    known, coming = coming, {}
            case CallersMessage():
                pass
            case Discard():
                coming = {}
            case Reconnect() | GiveUp():
                coming = {}
                known = known if step is LOST else None
        for one in (A, B, C):
            found: object = "unknown"
            with suppress(WorkloadAPIError):
                found = world.callers.of(one)
            assert found == ("unknown" if known is None else known.get(one, "unknown"))
