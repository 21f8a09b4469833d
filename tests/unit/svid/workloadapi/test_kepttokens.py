"""svid/workloadapi/kepttokens: which token is given while the Workload API cannot be asked."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from svid.errors import JWTSVIDError, WorkloadAPIError
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from svid.workloadapi.kepttokens import KeptTokens, TokenKey, token_key
from tests.doubles.clock import FakeClock

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
LIFE = 5 * MINUTE
KEY = token_key("db", None)


@dataclass
class World:
    """A Workload API that a test takes away, and what was asked of it, with which patience."""

    clock: FakeClock = field(default_factory=FakeClock)
    error: Exception | None = None
    asked: list[timedelta | None] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.kept = KeptTokens(self.clock, lambda svid: svid.token in self.denied)

    def ask(self, longest: timedelta | None) -> JWTSVID:
        self.asked.append(longest)
        if self.error is not None:
            raise self.error
        return self.token(f"token-{len(self.asked)}")

    def token(self, text: str, age: timedelta = timedelta(), life: timedelta = LIFE) -> JWTSVID:
        issued = self.clock.now() - age
        return JWTSVID(
            token=text,
            spiffe_id=SpiffeID.parse("spiffe://example.org/a"),
            audiences=("db",),
            issued_at=issued,
            expires_at=issued + life,
            claims={},
        )

    def fetch(self, key: TokenKey = KEY) -> str:
        return self.kept.fetch(key, self.ask).token

    def fail(self, code: str = "UNAVAILABLE") -> None:
        self.error = WorkloadAPIError("away", code=code)


@pytest.fixture
def world() -> World:
    return World()


def test_the_workload_api_is_asked_each_time_while_it_answers(world: World) -> None:
    assert [world.fetch() for _ in range(3)] == ["token-1", "token-2", "token-3"]
    assert world.asked == [None, SECOND, SECOND]


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "ABORTED"]
)
def test_while_it_cannot_be_asked_the_last_token_is_given_until_a_tenth_of_its_life_is_left(
    world: World, code: str
) -> None:
    world.fetch()
    world.fail(code)
    world.clock.advance(LIFE - 31 * SECOND)
    assert world.fetch() == "token-1"
    world.clock.advance(SECOND)
    with pytest.raises(WorkloadAPIError, match="away"):
        world.fetch()


def test_a_token_that_ends_while_it_is_asked_for_another_is_not_given(world: World) -> None:
    world.fetch()
    world.fail()

    def ask_long(longest: timedelta | None) -> JWTSVID:
        world.denied.add("token-1")
        return world.ask(longest)

    with pytest.raises(WorkloadAPIError, match="away"):
        world.kept.fetch(KEY, ask_long)


def test_a_token_of_an_identity_that_another_thread_heard_is_gone_is_not_given(world: World) -> None:
    world.fetch()

    def ask_long(longest: timedelta | None) -> JWTSVID:
        world.fail("PERMISSION_DENIED")
        with pytest.raises(WorkloadAPIError):
            world.fetch()
        world.fail()
        return world.ask(longest)

    with pytest.raises(WorkloadAPIError, match="away"):
        world.kept.fetch(KEY, ask_long)


def test_who_cannot_be_asked_is_left_alone_for_a_while(world: World) -> None:
    world.fetch()
    world.fail()
    world.fetch()
    assert len(world.asked) == 2
    for _ in range(100):
        world.fetch()
    assert len(world.asked) == 2
    world.clock.advance(5)
    world.error = None
    assert [world.fetch(), world.fetch()] == ["token-3", "token-4"]


def test_another_audience_or_identity_has_no_token_and_is_asked_for_at_once(world: World) -> None:
    world.fetch()
    world.fail()
    world.fetch()
    for key in (token_key("queue", None), token_key(["db", "queue"], None), token_key("db", "spiffe://example.org/b")):
        with pytest.raises(WorkloadAPIError, match="away"):
            world.fetch(key)
    assert world.asked[2:] == [None] * 3
    assert world.fetch(token_key(("db",), None)) == "token-1"


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "UNAUTHENTICATED"])
def test_a_refusal_is_a_refusal(world: World, code: str) -> None:
    world.fetch()
    world.fail(code)
    with pytest.raises(WorkloadAPIError) as caught:
        world.fetch()
    assert caught.value.code == code


def test_an_answer_that_is_none_is_no_absence(world: World) -> None:
    world.fetch()
    world.error = JWTSVIDError("sub: expected another")
    with pytest.raises(JWTSVIDError):
        world.fetch()


def test_with_its_identity_a_token_goes(world: World) -> None:
    one, other = token_key("db", "spiffe://example.org/a"), token_key("db", "spiffe://example.org/b")
    for key in (KEY, one, other):
        world.fetch(key)
    world.fail("PERMISSION_DENIED")
    with pytest.raises(WorkloadAPIError):
        world.fetch(one)
    world.fail()
    for key in (KEY, one):  # the default identity may be that one
        with pytest.raises(WorkloadAPIError, match="away"):
            world.fetch(key)
    assert world.fetch(other) == "token-3"
    world.clock.advance(MINUTE)
    world.fail("PERMISSION_DENIED")
    with pytest.raises(WorkloadAPIError):
        world.fetch(KEY)
    world.fail()
    with pytest.raises(WorkloadAPIError, match="away"):
        world.fetch(other)


def test_a_token_that_is_revoked_is_not_given(world: World) -> None:
    world.fetch()
    world.fail()
    assert world.fetch() == "token-1"
    world.denied.add("token-1")
    with pytest.raises(WorkloadAPIError, match="away"):
        world.fetch()


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_wall_clock_that_jumps_changes_nothing(world: World, jump: timedelta) -> None:
    world.fetch()
    world.fail()
    world.clock.jump(jump)
    world.clock.advance(LIFE - 31 * SECOND)
    assert world.fetch() == "token-1"
    world.clock.advance(SECOND)
    with pytest.raises(WorkloadAPIError):
        world.fetch()


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_by_a_wall_clock_that_is_wrong_a_token_counts_for_half_of_its_life(world: World, jump: timedelta) -> None:
    token = world.token("token")
    world.clock.jump(jump)
    world.kept.fetch(KEY, lambda _: token)
    world.fail()
    world.clock.advance(LIFE / 2 - 31 * SECOND)
    assert world.fetch() == "token"
    world.clock.advance(SECOND)
    with pytest.raises(WorkloadAPIError):
        world.fetch()


def test_a_token_that_was_old_when_it_came_counts_for_what_was_left(world: World) -> None:
    world.kept.fetch(KEY, lambda _: world.token("token", age=2 * MINUTE))
    world.fail()
    world.clock.advance(3 * MINUTE - 31 * SECOND)
    assert world.fetch() == "token"
    world.clock.advance(SECOND)
    with pytest.raises(WorkloadAPIError):
        world.fetch()


def test_no_more_than_256_are_kept_and_the_least_used_go(world: World) -> None:
    first = token_key("0", None)
    for number in range(256):
        world.fetch(token_key(str(number), None))
    world.fetch(first)
    world.fetch(token_key("one more", None))
    world.fail()
    assert world.fetch(first) == "token-257"
    with pytest.raises(WorkloadAPIError):
        world.fetch(token_key("1", None))
    assert world.fetch(token_key("2", None)) == "token-3"
