"""What a witness keeps, and what it finds out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cognomen.protocol.auditlog import Checkpoint, Mark
from cognomen.protocol.witness import Heard, contradiction, thinned
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN

KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
OTHER = LocalSigningKey(KeyID("audit-2"), generate_private_key(KeyKind.EC_P256))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def head(count: int) -> bytes:
    return count.to_bytes(32)


def a_checkpoint(count: int, *, at: datetime = NOW, incarnation: str = "a", after: int | None = None) -> Checkpoint:
    return Checkpoint(
        trust_domain=TRUST_DOMAIN,
        incarnation=incarnation,
        count=count,
        head=head(count),
        at=at,
        public_key=public_key_to_der(KEY.public_key),
        previous=None if after is None else Mark(count=after, head=head(after)),
    )


HELD = [a_checkpoint(10, at=NOW, after=9), a_checkpoint(20, at=NOW + MINUTE, after=10)]
LATER = NOW + HOUR


@pytest.mark.parametrize(
    "heard",
    [
        a_checkpoint(30, at=LATER, after=20),
        a_checkpoint(30, at=LATER, after=25),  # others were made while we were away
        a_checkpoint(20, at=LATER, after=10),
        a_checkpoint(30, at=NOW - HOUR, after=20),  # the clock was set back
        a_checkpoint(5, at=LATER, incarnation="b", after=4),  # a restore
        a_checkpoint(300, at=LATER, incarnation="b", after=25),  # one that was signed while we were away
        a_checkpoint(20, at=LATER, incarnation="b", after=10),
        a_checkpoint(20, at=LATER, incarnation="b", after=9),
        replace(a_checkpoint(20, at=LATER, incarnation="b", after=10), head=head(1)),  # other rows since the backup
        a_checkpoint(10, at=NOW, after=9),  # late: the one of 20 rows names it
    ],
)
def test_what_goes_on_from_what_is_held_contradicts_nothing(heard: Checkpoint) -> None:
    assert contradiction(HELD, heard) == ""
    assert contradiction([], heard) == ""


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (replace(a_checkpoint(20, at=LATER), head=head(1)), "row 20 had another hash before"),
        (
            replace(a_checkpoint(30, at=LATER), previous=Mark(count=20, head=head(1))),
            "row 20, of the checkpoint before",
        ),
        (
            replace(a_checkpoint(30, at=LATER), previous=Mark(count=10, head=head(1))),
            "row 10, of the checkpoint before",
        ),
        (a_checkpoint(30, at=LATER, after=10), "the checkpoint of 20 rows is not known any more"),
        (a_checkpoint(15, at=LATER, after=10), "15 rows, after 20 before: the record was cut off"),
        (a_checkpoint(15, at=NOW - HOUR, after=10), "15 rows, after 20 before: the record was cut off"),
        (a_checkpoint(30, at=LATER), "expected the checkpoint before it by name, found none"),
        (a_checkpoint(30, at=LATER, incarnation="b"), "expected the checkpoint before it by name, found none"),
        (a_checkpoint(30, at=LATER, after=31), "30 rows, and 31 in the checkpoint before"),
        (
            replace(a_checkpoint(30, at=LATER), previous=Mark(count=30, head=head(1))),
            "30 rows, and 30 in the checkpoint before",
        ),
        (
            replace(a_checkpoint(30, at=LATER, incarnation="b"), previous=Mark(count=20, head=head(1))),
            "row 20, from which a restored record goes on",
        ),
        (
            replace(a_checkpoint(30, at=LATER, incarnation="b"), previous=Mark(count=10, head=head(1))),
            "row 10, from which a restored record goes on",
        ),
        (a_checkpoint(20, at=LATER, incarnation="b", after=15), "row 15, from which a restored record goes on, had no"),
        (a_checkpoint(20, at=LATER, after=15), "row 15, of the checkpoint before, had no checkpoint before"),
        (replace(a_checkpoint(30), public_key=public_key_to_der(OTHER.public_key)), "expected the checkpoint key"),
    ],
)
def test_what_cannot_be_of_the_same_record_is_found_out(heard: Checkpoint, why: str) -> None:
    assert why in contradiction(HELD, heard)


def test_a_release_that_did_not_name_the_one_before_contradicts_nothing() -> None:
    assert contradiction([a_checkpoint(10)], a_checkpoint(20, at=LATER)) == ""


def test_an_incarnation_that_a_restore_ended_does_not_come_back() -> None:
    held = [*HELD, a_checkpoint(16, at=LATER, incarnation="b", after=10)]
    assert "an older state of the issuer is in use again" in contradiction(held, a_checkpoint(30, at=LATER, after=20))


def test_a_second_restore_from_a_backup_of_the_first_incarnation_contradicts_nothing() -> None:
    held = [*HELD, replace(a_checkpoint(20, at=LATER, incarnation="b", after=10), head=head(1))]
    assert contradiction(held, a_checkpoint(21, at=LATER + HOUR, incarnation="c", after=20)) == ""


FROM_THE_FIRST = [a_checkpoint(20), *(a_checkpoint(count, after=count - 10) for count in range(30, 200, 10))]


@pytest.mark.parametrize("row", [0, 1, 15, 19, 21, 25, 185, 189])
def test_a_restore_from_a_row_that_never_had_a_checkpoint_is_made_up(row: int) -> None:
    heard = replace(
        a_checkpoint(300, at=LATER, incarnation="b"), previous=Mark(count=row, head=bytes.fromhex("5a" * 32))
    )
    assert f"row {row}, from which a restored record goes on, had no checkpoint" in contradiction(FROM_THE_FIRST, heard)


@pytest.mark.parametrize("row", [20, 30, 180, 190, 191, 250])
def test_a_restore_from_a_row_that_may_have_had_a_checkpoint_contradicts_nothing(row: int) -> None:
    assert contradiction(FROM_THE_FIRST, a_checkpoint(300, at=LATER, incarnation="b", after=row)) == ""


@pytest.mark.parametrize("row", [105, 115, 125, 135])
def test_a_restore_from_one_of_two_incarnations_may_be_of_either(row: int) -> None:
    second = [a_checkpoint(106, incarnation="b", after=100), a_checkpoint(136, incarnation="b", after=126)]
    third = a_checkpoint(300, at=LATER, incarnation="c", after=row)
    assert bool(contradiction([*FROM_THE_FIRST, *second], third)) is (row in {105, 135})
    assert contradiction(FROM_THE_FIRST, third), "neighbours of the first"


@pytest.mark.parametrize(("began", "is_made_up"), [(100, True), (200, False)])
def test_what_an_incarnation_signed_before_it_was_heard_is_not_made_up(*, began: int, is_made_up: bool) -> None:
    second = [a_checkpoint(210, incarnation="b", after=began)]  # it began with row 100, or nobody heard how
    third = a_checkpoint(300, at=LATER, incarnation="c", after=95)
    assert bool(contradiction([*FROM_THE_FIRST, *second], third)) is is_made_up


def test_those_that_were_thinned_out_are_not_made_up() -> None:
    held = [one for one in FROM_THE_FIRST if one.count not in {50, 60, 70}]
    assert contradiction(held, a_checkpoint(300, at=LATER, incarnation="b", after=60)) == ""
    assert contradiction(held, a_checkpoint(300, at=LATER, incarnation="b", after=75)), "80 names 70"


def test_several_of_a_release_that_did_not_name_the_one_before_leave_room_for_others() -> None:
    held = [a_checkpoint(10), a_checkpoint(20), a_checkpoint(30, after=20)]
    assert contradiction(held, a_checkpoint(300, at=LATER, incarnation="b", after=15)) == ""


def heard_one_by_one(every: Iterable[Heard], *, before: Sequence[Heard] = (), newest: int = 100) -> list[Heard]:
    kept = [*before]
    for one in every:
        kept = thinned([*kept, one], newest=newest, now=one.at, per_hour=16)
    return kept


def a_heard(count: int, at: datetime, *, said: datetime | None = None, incarnation: str = "a") -> Heard:
    return Heard(checkpoint=a_checkpoint(count, at=said or at, incarnation=incarnation), at=at)


def counts(held: Sequence[Heard]) -> list[int]:
    return [one.checkpoint.count for one in held]


def test_the_newest_are_kept_and_older_ones_more_rarely_but_for_ever() -> None:
    kept = heard_one_by_one((a_heard(number, NOW + number * 6 * HOUR) for number in range(400)), newest=10)
    ages = [(kept[-1].at - one.at) // DAY for one in kept]
    assert counts(kept)[-10:] == list(range(390, 400))
    assert counts(kept)[0] == 0
    assert sum(1 for age in ages if age <= 2) == 9 + 1
    assert 57 <= sum(1 for age in ages if 2 < age <= 60) <= 60
    assert 1 <= sum(1 for age in ages if age > 60) <= 3


def test_what_was_kept_before_stays_when_it_is_thinned_again() -> None:
    every = [a_heard(number, NOW + number * 5 * MINUTE) for number in range(600)]
    kept = thinned(every, newest=100, now=every[-1].at)
    assert thinned(kept, newest=100, now=every[-1].at) == kept
    assert len(kept) < 100 + 3 + 600 * 5 // 60


def test_the_last_checkpoint_before_a_restore_is_kept() -> None:
    old = [a_heard(number, NOW + number * MINUTE) for number in range(1, 30)]
    new = [a_heard(number, NOW + (30 + number) * MINUTE, incarnation="b") for number in range(20, 150)]
    assert old[-1] in heard_one_by_one([*old, *new])


HONEST = [a_heard(number, NOW + number * 5 * MINUTE) for number in range(5 * 24 * 12)]
HELD_HONEST = heard_one_by_one(HONEST)
END = HONEST[-1].at
FAR, LONG_AGO = datetime(9000, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param([a_heard(10_000 + n, END, said=FAR + n * 31 * DAY) for n in range(400)], id="dated far ahead"),
        pytest.param([a_heard(10_000 + n, END, said=LONG_AGO + n * DAY) for n in range(400)], id="dated long ago"),
        pytest.param([a_heard(10_000 + n, END) for n in range(400)], id="dated now"),
        pytest.param([a_heard(10_000 + n, END, incarnation="ab"[n % 2]) for n in range(400)], id="alternating"),
        pytest.param([a_heard(10_000 + n, END, incarnation=f"x{n}") for n in range(400)], id="incarnations"),
    ],
)
def test_a_flood_makes_nobody_forget_what_was_heard_before_it(flood: Sequence[Heard]) -> None:
    after = heard_one_by_one(flood, before=HELD_HONEST)
    hours: dict[datetime, Heard] = {}
    for one in HONEST:
        hours.setdefault(one.at.replace(minute=0, second=0, microsecond=0), one)
    firsts = [one for one in hours.values() if END - one.at <= 2 * DAY]
    assert all(one in after for one in firsts)
    assert all(one in after for one in HONEST if END - one.at <= 8 * HOUR), "up to 16 in an hour"
    assert all(one in after for one in HELD_HONEST if END - one.at > 2 * DAY), "the first ones of days"
    assert len(after) <= 100 + len(HELD_HONEST) + 16 + 2


def test_what_a_flood_left_is_still_there_after_months() -> None:
    flood = (
        a_heard(10_000 + 40 * day + n, END + day * DAY, said=FAR, incarnation=f"{day} {n}")
        for day in range(1, 100)
        for n in range(40)
    )
    after = heard_one_by_one(flood, before=HELD_HONEST, newest=10)
    assert after[0] == HONEST[0]
    assert len(after) <= 10 + 16 + 2 * (49 + 61 + 5)


def test_a_clock_of_our_own_that_jumps_does_not_break_the_bound() -> None:
    jumps = [a_heard(number, NOW + number * 31 * DAY) for number in range(3000)]
    after = thinned(jumps, newest=100, now=jumps[-1].at)
    assert counts(after) == [*range(500), *range(2400, 3000)]
