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


def test_those_of_many_subjects_are_bounded_and_hide_no_other() -> None:
    troubles = Troubles(FakeClock())
    for number in range(1000):
        troubles.note("renewal", "no", subject=f"entry {number}")
    troubles.note("feed", "no")
    found = [one.what for one in troubles.all()]
    assert (len(found), found[0], found[-1]) == (101, "renewal of entry 0", "feed")


def test_a_reason_is_one_bounded_line() -> None:
    troubles = Troubles(FakeClock())
    troubles.note("feed", "a\n" + "x" * 10_000)
    assert troubles.all()[0].reason == r"a\n" + "x" * 253 + "… (10002 characters)"


def test_one_of_many_is_over_by_itself() -> None:
    troubles = Troubles(FakeClock())
    for number in range(2):
        troubles.note("renewal", "no", subject=f"entry {number}")
    troubles.over("renewal", subject="entry 0")
    troubles.over("renewal")
    assert [one.what for one in troubles.all()] == ["renewal of entry 1"]
