"""What a source knows of denials after any messages, without a server: the steps of its stream are given by hand."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.denials import KEPT_FOR, Denial
from svid.errors import SVIDError, WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.wire.denials import DenialsMessage, Epoch
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.denials import FollowedDenials
from svid.workloadapi.watch import Deliver, Discard, GiveUp, Reconnect
from tests.doubles.clock import FakeClock

DOMAIN = TrustDomain("example.org")
HOUR = timedelta(hours=1)
AGE = timedelta(seconds=3)
BAD = Discard(error=SVIDError("numbers: expected something else"))
LOST = Reconnect(delay=timedelta(), error=WorkloadAPIError("gone", code="UNAVAILABLE"), denied=False)
REFUSED = Reconnect(delay=timedelta(), error=WorkloadAPIError("no identity", code="PERMISSION_DENIED"), denied=True)
ABSENT = GiveUp(error=WorkloadAPIError("no such service", code="UNIMPLEMENTED"))

Step = DenialsMessage | Discard | Reconnect | GiveUp

numbers = st.integers(0, 30)
steps = st.one_of(
    st.builds(
        lambda denied, *, more, snapshot: says(*denied, more=more, snapshot=snapshot),
        st.lists(numbers, max_size=4),
        more=st.booleans(),
        snapshot=st.booleans(),
    ),
    st.sampled_from([BAD, LOST, REFUSED, ABSENT]),
)
sequences = st.lists(steps, min_size=10, max_size=30)


def says(*denied: int, snapshot: bool = False, more: bool = False, lives: timedelta = HOUR) -> DenialsMessage:
    return DenialsMessage(
        trust_domain=DOMAIN,
        epoch=None if more else Epoch(incarnation="1", number=1),
        snapshot=snapshot,
        denials=tuple(Denial(number, FakeClock().now() + lives) for number in denied),
        age=AGE,
    )


@dataclass
class World:
    """Denials that a test feeds by hand, and all that a callback was told."""

    clock: FakeClock = field(default_factory=FakeClock)
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        client = WorkloadAPIClient("unix:///nobody/there.sock")  # which nothing calls, as nothing is started
        self.denials = FollowedDenials(client, self.clock)
        self.denials.on_denied(self._hear, point="the test")

    def _hear(self, trust_domain: TrustDomain, denied: Collection[int]) -> None:
        assert all(self.denials.is_denied(trust_domain, number) for number in denied)
        self.told.extend(denied)

    def feed(self, *given: Step) -> None:
        """Let these come; where the stream is refused, it ends."""
        for step in given:
            if isinstance(step, Reconnect | GiveUp):
                self.denials.ended(step)
                continue
            try:
                self.denials.take(step if isinstance(step, Discard) else Deliver(value=step))
            except WorkloadAPIError as e:
                self.denials.ended(replace(LOST, error=e))

    def is_known(self) -> bool:
        try:
            self.denials.demand()
        except WorkloadAPIError:
            return False
        return True


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.denials.end()


@given(sequences)
def test_whatever_comes_in_whatever_order_what_was_denied_stays_denied_and_is_told_once(given: list[Step]) -> None:
    world = World()
    denied: set[int] = set()
    for step in given:
        world.feed(step)
        if isinstance(step, DenialsMessage):
            denied |= {denial.number for denial in step.denials}
        assert {number for number in range(31) if world.denials.is_denied(DOMAIN, number)} == denied
        assert not world.denials.is_denied(TrustDomain("partner.example"), 1)
    assert sorted(world.told) == sorted(denied)


@given(sequences)
def test_the_age_is_of_a_whole_snapshot_and_all_that_followed(given: list[Step]) -> None:
    """A model: one stream counts from its snapshot's last message on, and no longer than until something cannot be read."""
    world = World()
    is_whole, is_read = False, True
    heard: float | None = None
    for step in given:
        world.clock.advance(1)
        world.feed(step)
        match step:
            case Reconnect() | GiveUp():
                is_whole, is_read = False, True
            case Discard() if is_whole:
                is_whole, is_read = False, True
            case Discard():
                is_read = False
            case DenialsMessage(more=False) if not is_read:
                is_whole, is_read = False, True
            case DenialsMessage(more=False):
                is_whole = is_whole or step.snapshot
                heard = world.clock.monotonic() if is_whole else heard
        age = None if heard is None else AGE + timedelta(seconds=world.clock.monotonic() - heard)
        assert world.denials.denials_age() == age


def test_on_a_new_stream_the_age_counts_from_its_snapshot_on(world: World) -> None:
    world.feed(says(snapshot=True), LOST)
    world.clock.advance(5)
    world.feed(says(1), says(2, snapshot=True, more=True))
    assert world.denials.denials_age() == AGE + timedelta(seconds=5)
    world.feed(says(3, snapshot=True))
    assert world.denials.denials_age() == AGE


def test_nothing_is_known_before_the_last_message_of_the_snapshot(world: World) -> None:
    assert not world.is_known()
    world.feed(says(1, snapshot=True, more=True), says(2, snapshot=True, more=True))
    assert not world.is_known()
    assert world.denials.is_denied(DOMAIN, 1), "in force at once all the same"
    world.feed(says(3, snapshot=True))
    assert world.is_known()


def test_a_change_without_a_snapshot_before_is_in_force_and_makes_nothing_known(world: World) -> None:
    world.feed(says(1))
    assert world.denials.is_denied(DOMAIN, 1)
    assert not world.is_known()


def test_without_the_service_nothing_is_denied_and_that_is_known(world: World) -> None:
    world.feed(ABSENT)
    assert world.is_known()
    assert world.denials.denials_age() is None


@pytest.mark.parametrize("step", [LOST, REFUSED, GiveUp(error=WorkloadAPIError("no", code="INVALID_ARGUMENT"))])
def test_another_end_of_the_stream_does_not_say_that_nothing_is_denied(world: World, step: Reconnect | GiveUp) -> None:
    world.feed(step)
    assert not world.is_known()
    with pytest.raises(WorkloadAPIError, match=f"has not sent the denials yet: {step.error}") as caught:
        world.denials.demand()
    assert caught.value.code == "UNAVAILABLE"


def test_a_service_that_is_gone_leaves_what_it_said_and_its_age_grows(world: World) -> None:
    world.feed(says(1, snapshot=True), ABSENT)
    world.clock.advance(HOUR)
    assert world.denials.is_denied(DOMAIN, 1)
    assert world.denials.denials_age() == AGE + HOUR


def test_a_service_that_is_absent_is_asked_again_after_a_while(world: World) -> None:
    assert world.denials.ended(ABSENT) == timedelta(minutes=1)
    assert world.denials.ended(replace(LOST, delay=AGE)) == AGE


def test_a_message_that_cannot_be_read_ends_the_stream_only_after_the_rest_of_what_it_belongs_to(world: World) -> None:
    take = world.denials.take
    take(Deliver(value=says(1, snapshot=True, more=True)))
    take(BAD)
    take(Deliver(value=says(2, snapshot=True, more=True)))
    with pytest.raises(WorkloadAPIError, match="numbers: expected something else") as caught:
        take(Deliver(value=says(3, snapshot=True)))
    assert caught.value.code == "DATA_LOSS"
    assert all(world.denials.is_denied(DOMAIN, number) for number in (1, 2, 3))
    assert not world.is_known()


def test_a_change_that_cannot_be_read_ends_the_stream_at_once(world: World) -> None:
    world.feed(says(1, snapshot=True))
    with pytest.raises(WorkloadAPIError, match="numbers: expected something else"):
        world.denials.take(BAD)


def test_somebody_tells_from_a_whole_snapshot_to_the_end_of_its_stream(world: World) -> None:
    for end in (LOST, REFUSED, ABSENT, BAD):
        found = []
        for step in (says(1, snapshot=True, more=True), says(1), says(2, snapshot=True), says(3), end):
            world.feed(step)
            found.append(world.denials.is_told)
        assert found == [False, False, True, True, False]


def test_an_attestor_that_does_not_know_the_age_leaves_the_one_before(world: World) -> None:
    ageless = replace(says(1, snapshot=True), age=None)
    world.feed(ageless)
    assert world.is_known()
    assert world.denials.denials_age() is None
    world.feed(says())
    world.clock.advance(2)
    world.feed(ageless)
    assert world.denials.denials_age() == AGE + timedelta(seconds=2)


def test_what_is_long_over_is_forgotten_by_any_message_of_a_minute_later(world: World) -> None:
    world.feed(says(1, snapshot=True, lives=timedelta(seconds=1)), says(2))
    world.clock.advance(KEPT_FOR + timedelta(seconds=1))
    world.feed(says())
    assert world.denials.is_denied(DOMAIN, 1), "to the second"
    world.clock.advance(59)
    world.feed(says())
    assert world.denials.is_denied(DOMAIN, 1)
    world.clock.advance(1)
    world.feed(says())
    assert not world.denials.is_denied(DOMAIN, 1)
    assert world.denials.is_denied(DOMAIN, 2)


def test_a_wall_clock_that_is_set_forward_and_back_makes_nobody_forget(world: World) -> None:
    world.feed(says(1, snapshot=True))
    world.clock.jump(timedelta(days=8))
    world.clock.advance(61)
    world.feed(says())
    world.clock.jump(timedelta(days=-8))
    assert world.denials.is_denied(DOMAIN, 1)


@pytest.mark.parametrize("point", ["", "a" * 257, "\ud800"])
def test_a_point_without_a_name_that_can_be_sent_is_refused(world: World, point: str) -> None:
    with pytest.raises(SVIDError, match="point: "):
        world.denials.on_denied(lambda _, __: None, point=point)
