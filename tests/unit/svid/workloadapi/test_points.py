"""Who is told of denials, and which receipts follow."""

import queue
import threading
from collections.abc import Callable, Collection, Iterator

import pytest

from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.wire.denials import Enforced, Epoch
from svid.workloadapi.points import Points

DOMAIN = TrustDomain("example.org")


def epoch(number: int) -> Epoch:
    return Epoch(incarnation="1", number=number)


class World:
    """Points whose receipts a test takes one at a time."""

    def __init__(self) -> None:
        self.receipts: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()
        self.loses: set[str] = set()
        self.may_send = threading.Event()
        self.may_send.set()
        self.rests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.may_wake = threading.Event()
        self.may_wake.set()
        self.points = Points(self._send, rest=self._rest)
        self.points.thread.start()

    def _send(self, receipt: Enforced) -> None:
        is_lost = receipt.point in self.loses
        self.receipts.put((receipt.point, receipt.epoch.number, *(["gone"] if receipt.gone else [])))
        assert self.may_send.wait(10)
        if is_lost:
            raise WorkloadAPIError("lost", code="UNAVAILABLE")

    def _rest(self) -> float:
        self.rests.put(None)
        assert self.may_wake.wait(10)
        return 0

    def register(self, name: str, *, told: list[int] | None = None, fails: int = 0) -> Callable[[], None]:
        """Register a point that keeps what it was told, after it raised so many times."""
        failures = [None] * fails

        def hear(_: TrustDomain, numbers: Collection[int]) -> None:
            if failures:
                failures.pop()
                raise LookupError("a bug of the point's")
            if told is not None:
                told.extend(numbers)

        return self.points.register(hear, name)

    def come(self, number: int, *new: int, held: Collection[int] = range(100)) -> None:
        """Let a change come at that epoch."""
        self._epoch = epoch(number)
        self.points.tell(DOMAIN, new, held)
        self.points.reached(self._epoch)

    def next(self) -> tuple[object, ...]:
        return self.receipts.get(timeout=10)

    def is_quiet(self) -> bool:
        """Whether no receipt is due before that of a point which comes now."""
        end = self.register("the last")
        self.points.reached(self._epoch)
        found = []
        while (receipt := self.next()) != ("the last", self._epoch.number):
            found.append(receipt)
        end()
        assert self.next() == ("the last", self._epoch.number, "gone")
        return not found


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.may_send.set()
    world.may_wake.set()
    world.points.end()
    world.points.thread.join(10)
    assert not world.points.thread.is_alive()


def test_a_receipt_follows_each_epoch_once(world: World) -> None:
    told: list[int] = []
    world.register("a", told=told)
    world.come(1, 7)
    assert world.next() == ("a", 1)
    assert told == [7]
    world.come(1)
    world.come(2)
    assert world.next() == ("a", 2)


def test_a_point_hears_of_every_word_also_where_nothing_is_new(world: World) -> None:
    heard: list[tuple[int, ...]] = []
    world.points.register(lambda _, numbers: heard.append(tuple(numbers)), "a")
    world.come(1)
    world.come(2, 7)
    world.come(2)
    assert heard == [(), (7,), ()]


def test_a_point_that_raised_is_told_the_same_again_and_gives_its_receipt_then(world: World) -> None:
    told: list[int] = []
    world.register("broken", told=told, fails=2)
    world.come(1, 7)
    world.come(2, 8)
    assert world.is_quiet()
    world.come(3)
    assert told == [7, 8]
    assert world.next() == ("broken", 3)


def test_a_point_that_raises_harms_no_other(world: World) -> None:
    told: list[int] = []
    world.register("broken", fails=1)
    world.register("sound", told=told)
    world.come(1, 7)
    assert told == [7]
    assert world.next() == ("sound", 1)


def test_what_is_forgotten_meanwhile_is_not_owed_any_more(world: World) -> None:
    told: list[int] = []
    world.register("broken", told=told, fails=1)
    world.come(1, 7, 8)
    world.come(2, held={8})
    assert told == [8]
    world.register("other", told=told, fails=1)
    world.come(3, 9)
    world.come(4, held=())
    assert told == [8, 9], "of the first alone"


def test_two_points_of_one_name_give_one_receipt_when_both_have_taken_it(world: World) -> None:
    world.register("a")
    world.register("a", fails=1)
    world.come(1, 7)
    assert world.is_quiet()
    world.come(2)
    assert world.next() == ("a", 2)
    assert world.is_quiet()


def test_a_receipt_that_was_lost_is_sent_again_with_the_next_message(world: World) -> None:
    world.register("a")
    world.loses = {"a"}
    world.come(1, 7)
    assert world.next() == ("a", 1)
    world.loses = set()
    while world.receipts.empty():  # until the thread knows of the loss
        world.come(1)
    assert world.next() == ("a", 1)
    assert world.is_quiet()


def test_on_a_new_stream_every_receipt_is_sent_again(world: World) -> None:
    world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    world.points.forget_receipts()
    world.come(1)
    assert world.next() == ("a", 1)


def test_a_receipt_that_is_on_its_way_holds_up_nobody_and_only_the_latest_follows(world: World) -> None:
    told: list[int] = []
    world.register("a", told=told)
    world.may_send.clear()
    world.come(1, 1)
    assert world.next() == ("a", 1)
    for number in range(2, 50):
        world.come(number, number)
    assert told == list(range(1, 50))
    world.may_send.set()
    assert world.next() == ("a", 49)


def test_receipts_rest_before_they_go_and_what_comes_meanwhile_is_in_them(world: World) -> None:
    told: list[int] = []
    world.register("a", told=told)
    world.may_wake.clear()
    world.come(1, 1)
    world.rests.get(timeout=10)
    world.come(2, 2)
    world.register("b")
    assert told == [1, 2]
    assert world.receipts.empty()
    world.may_wake.set()
    assert {world.next(), world.next()} == {("a", 2), ("b", 2)}
    assert world.is_quiet()


def test_whoever_ends_while_receipts_rest_sends_none_of_them(world: World) -> None:
    world.register("a")
    world.may_wake.clear()
    world.come(1, 1)
    world.rests.get(timeout=10)
    world.points.end()
    world.may_wake.set()
    world.points.thread.join(10)
    assert world.receipts.empty()


def test_whoever_unregistered_hears_nothing_and_gives_no_receipt(world: World) -> None:
    told: list[int] = []
    end = world.register("a", told=told)
    end()
    end()
    world.come(1, 7)
    assert world.is_quiet()
    assert told == []


def test_a_point_of_a_name_that_another_had_gives_a_receipt_of_its_own(world: World) -> None:
    world.register("a")()
    end = world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    end()
    assert world.next() == ("a", 1, "gone")
    world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)


def test_of_two_points_of_one_name_the_last_that_leaves_is_told(world: World) -> None:
    first, second = world.register("a"), world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    first()
    world.come(2)
    assert world.next() == ("a", 2)
    second()
    assert world.next() == ("a", 2, "gone")


def test_that_a_point_left_is_told_again_where_that_was_lost(world: World) -> None:
    end = world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    world.loses = {"a"}
    end()
    assert world.next() == ("a", 1, "gone")
    world.loses = set()
    while world.receipts.empty():  # until the thread knows of the loss
        world.come(2)
    assert world.next() == ("a", 1, "gone")
    assert world.is_quiet()


def test_who_comes_back_before_the_attestor_heard_that_it_left_gives_its_receipt_again(world: World) -> None:
    end = world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    world.may_send.clear()
    world.register("b")
    world.come(2)
    while (busy := world.next()) not in {("a", 2), ("b", 2)}:
        pass
    end()
    world.register("a")
    world.come(2)
    world.may_send.set()
    rest = [world.next()] if busy == ("a", 2) else []
    assert world.next() == ("a", 2)
    assert rest in ([], [("b", 2)])
    assert world.is_quiet()


def test_that_a_point_left_is_not_told_once_it_is_back(world: World) -> None:
    end = world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    world.may_wake.clear()
    end()
    world.register("a")
    world.may_wake.set()
    assert world.next() == ("a", 1)
    assert world.is_quiet()


def test_a_point_that_leaves_before_its_receipt_went_gives_none(world: World) -> None:
    world.may_wake.clear()
    end = world.register("a")
    world.come(1)
    world.rests.get(timeout=10)
    end()
    world.may_wake.set()
    assert world.is_quiet()


def test_a_point_without_a_receipt_leaves_without_a_word(world: World) -> None:
    world.register("a", fails=1)
    end = world.register("b", fails=1)
    world.come(1, 7)
    end()
    world.come(2)
    assert world.next() == ("a", 2)
    assert world.is_quiet()


def test_a_point_that_comes_while_the_stream_stands_gives_its_receipt_at_once(world: World) -> None:
    world.register("a")
    world.come(1)
    assert world.next() == ("a", 1)
    world.register("b")
    assert world.next() == ("b", 1)
    world.points.forget_receipts()
    world.register("c")
    world.come(2)
    assert {world.next() for _ in range(3)} == {("a", 2), ("b", 2), ("c", 2)}
    assert world.is_quiet()
