"""How far the enforcement points of a node are: which of them are named, and who hears of them how soon."""

import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from attestor.deniallog import DenialLog
from attestor.receipts import Follower, Receipts
from cognomen.daemon.caller import Caller, process_of
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import MOST_BEHIND
from svid.denials import Denial

END = datetime(2030, 1, 1, tzinfo=UTC)


def cursor(number: int) -> Cursor:
    return Cursor(incarnation="1", number=number)


class House:
    """The points of a node on which something is denied as of change 10."""

    def __init__(self) -> None:
        self.denials = DenialLog()
        self.receipts = Receipts(self.denials)
        self.deny(10)

    def deny(self, number: int) -> None:
        self.denials.put([Denial(number, END)], cursor(number))

    def follower(self, uid: int) -> Follower:
        return Follower(caller(uid))


def caller(uid: int) -> Caller:
    return replace(process_of(os.getpid()), uid=uid)


@pytest.fixture
def house() -> House:
    return House()


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
