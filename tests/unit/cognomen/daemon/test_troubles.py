"""What fails is told, until it went well again."""

from datetime import timedelta

import pytest

from attestor.decisions.node import way_back, way_in
from cognomen.daemon.troubles import Trouble, Troubles
from cognomen.protocol.errors import Kind, Reason, Refused
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


def test_what_lasts_is_one_trouble_however_often_somebody_looks() -> None:
    clock = FakeClock()
    troubles, start = Troubles(clock), clock.now()
    for reason in ("one", "two", "three"):
        troubles.note_lasting("backup", reason)
        clock.advance(5)
    assert troubles.all() == [
        Trouble(what="backup", reason="three", since=start, last=start + timedelta(seconds=10), times=1)
    ]
    troubles.over("backup")
    assert troubles.all() == []


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


def test_one_that_nothing_ends_is_kept_for_its_time_after_the_last_wherever_the_wall_clock_goes() -> None:
    clock = FakeClock()
    troubles = Troubles(clock)
    for _ in range(2):
        troubles.note("mint", "no", kept_for=timedelta(seconds=30))
        clock.advance(20)
    clock.jump(timedelta(days=30))
    assert [one.times for one in troubles.all()] == [2]
    clock.jump(timedelta(days=-60))
    clock.advance(10)
    assert not troubles.all()


def test_a_refusal_is_told_with_what_to_do_about_it() -> None:
    troubles = Troubles(FakeClock())
    troubles.note_refused("feed", Refused(Kind.DENIED, "node: gone", hint="look"))
    troubles.note_refused("svid", Refused(Kind.DENIED, "node: gone", hint="look"), hint="invite it")
    troubles.note_refused("mint", Refused(Kind.DENIED, "no"))
    assert [one.reason for one in troubles.all()] == ["node: gone: look", "node: gone: invite it", "no"]


def test_a_hint_is_shown_whole_because_half_a_command_is_of_no_use() -> None:
    troubles = Troubles(FakeClock())
    hint = "cognomen authority revoke KEY; " * 30
    troubles.note_refused("feed", Refused(Kind.DENIED, "x" * 1000), hint=hint)
    troubles.note("restored", "no", hint="y" * 5000)
    assert [one.reason for one in troubles.all()] == [
        f"{'x' * 256}… (1000 characters): {hint}",
        f"no: {'y' * 1024}… (5000 characters)",
    ]


@pytest.mark.parametrize("reason", [None, *Reason])
def test_no_way_back_of_a_node_is_cut_off(reason: Reason | None) -> None:
    troubles, refused = Troubles(FakeClock()), Refused(Kind.DENIED, "node: no")
    refused = refused if reason is None else refused.because(reason)
    for hint in (way_back(refused), way_in(refused)):
        troubles.note_refused("node", refused, hint=hint)
        assert troubles.all()[0].reason.endswith(hint)
