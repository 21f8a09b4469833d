"""How far the enforcement points of a node are: which of them are named, and who hears of them how soon."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from attestor.deniallog import DenialLog
from attestor.receipts import Follower, Receipts
from cognomen.gate.caller import Caller, process_of
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import MOST_BEHIND
from svid.denials import Denial

END = datetime(2030, 1, 1, tzinfo=UTC)


def cursor(number: int) -> Cursor:
    return Cursor(incarnation="1", number=number)


class House:
    """The points of a node on which something is denied as of change 10."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.denials = DenialLog()
        self.receipts = Receipts(self.denials)
        self.deny(10)

    def deny(self, number: int) -> None:
        self.denials.put([Denial(number, END)], cursor(number))

    def told(self) -> str:
        """What is to be told of it since the last time."""
        said = [
            name
            for name, event in (("caught up", self.receipts.caught_up), ("changed", self.receipts.changed))
            if event.is_set()
        ]
        self.receipts.caught_up.clear()
        self.receipts.changed.clear()
        return " and ".join(said)

    def follower(self, uid: int) -> Follower:
        return Follower(replace(self._caller, uid=uid))


@pytest.fixture
def house() -> Iterator[House]:
    me = process_of(os.getpid())
    yield House(me)
    me.process.close()


def test_a_uid_with_many_points_crowds_nobody_out_of_the_names(house: House) -> None:
    server, crowd = house.follower(1), house.follower(2)
    with house.receipts.follows(server), house.receipts.follows(crowd):
        house.receipts.take(server, "server", cursor(10))
        for number in range(2 * MOST_BEHIND):
            house.receipts.take(crowd, f"crowd {number}", cursor(0))
        house.deny(20)
        seen = house.receipts.up_to(cursor(20))
    assert (seen.points, seen.reached, len(seen.behind)) == (2 * MOST_BEHIND + 1, 0, MOST_BEHIND)
    assert [one.number for one in seen.behind] == [0] * (MOST_BEHIND - 1) + [10]
    assert seen.behind[-1].point.name == "server"
    assert seen.enforcing(10) == 1, "those that are not named may be slower than the last that is"


def test_the_slowest_of_all_is_named_however_many_uids_there_are(house: House) -> None:
    followers = [house.follower(uid) for uid in range(2 * MOST_BEHIND)]
    with ExitStack() as following:
        for uid, follower in enumerate(followers):
            following.enter_context(house.receipts.follows(follower))
            house.receipts.take(follower, "server", cursor(9 - (uid == MOST_BEHIND)))
        assert house.receipts.up_to(cursor(10)).everywhere == 8


def test_a_point_that_comes_or_goes_is_no_hurry(house: House) -> None:
    follower = house.follower(1)
    with house.receipts.follows(follower):
        house.receipts.take(follower, "server", cursor(10))
        assert house.told() == "changed"
        house.receipts.leave(follower, "server")
        assert house.told() == "changed"
        house.receipts.take(follower, "server", cursor(10))
        house.told()
    assert house.told() == "changed"


def test_a_point_that_takes_what_is_new_is_told_at_once_however_often_others_said_so(house: House) -> None:
    server, crowd = house.follower(1), house.follower(2)
    with house.receipts.follows(server), house.receipts.follows(crowd):
        house.receipts.take(server, "server", cursor(0))
        told = []
        for _ in range(12):
            house.receipts.take(crowd, "crowd", cursor(0))
            house.told()
            house.receipts.take(crowd, "crowd", cursor(10))
            told.append(house.told())
            house.receipts.leave(crowd, "crowd")
            house.told()
        assert told == ["caught up"] * 10 + ["changed"] * 2
        house.receipts.take(server, "server", cursor(10))
        assert house.told() == "caught up"
        house.receipts.take(crowd, "crowd", cursor(10))
        house.deny(20)
        house.told()
        house.receipts.take(crowd, "crowd", cursor(20))
        assert house.told() == "caught up"


def test_what_brings_a_point_nothing_is_not_told(house: House) -> None:
    follower = house.follower(1)
    with house.receipts.follows(follower):
        house.receipts.take(follower, "server", cursor(10))
        house.told()
        for number in (10, 9):
            house.receipts.take(follower, "server", cursor(number))
        house.receipts.leave(follower, "another")
        assert house.told() == ""
