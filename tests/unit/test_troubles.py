"""What fails is told, until it went well again."""

from datetime import timedelta

from cognomen.daemon.troubles import Trouble, Troubles
from tests.doubles.clock import FakeClock


def test_what_fails_again_and_again_is_one_trouble_with_its_last_reason() -> None:
    clock = FakeClock()
    troubles, start = Troubles(clock), clock.now()
    troubles.note("feed", "first")
    clock.advance(5)
    troubles.note("feed", "second")
    assert troubles.all() == [
        Trouble(what="feed", reason="second", since=start, last=start + timedelta(seconds=5), times=2)
    ]


def test_what_went_well_is_forgotten_and_nothing_else() -> None:
    troubles = Troubles(FakeClock())
    troubles.note("feed", "no")
    troubles.note("node svid renewal", "no")
    troubles.over("feed")
    troubles.over("feed")
    assert [one.what for one in troubles.all()] == ["node svid renewal"]


def test_they_are_bounded() -> None:
    troubles = Troubles(FakeClock())
    for number in range(1000):
        troubles.note(f"{number}", "no")
    assert len(troubles.all()) == 100
