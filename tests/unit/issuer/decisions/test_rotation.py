"""A life of authorities in rows alone: the steps are taken as the flow takes them, the time goes by in leaps."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.errors import Kind, Refused
from issuer.decisions.authority import (
    Authority,
    AuthorityKind,
    AuthorityState,
    asked,
    intended,
    is_valid,
    prepared,
    published,
    retired,
    suspected,
    tainted,
)
from issuer.decisions.interventions import (
    check_activation,
    check_preparation,
    check_revocation,
    check_taint,
    takes_over,
)
from issuer.decisions.rotation import (
    Circumstances,
    Step,
    StepKind,
    activation,
    is_orphan,
    next_step,
    successor,
    why_not_yet,
)
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW

LIFETIME = timedelta(days=14)
SPREAD = timedelta(minutes=10)
DAY = timedelta(days=1)


@dataclass
class Life:
    """The rows of one kind of authority and the time; JWT's are set up once and left alone."""

    now: datetime = NOW
    rows: dict[KeyID, Authority] = field(default_factory=dict)
    change: int = 0
    acknowledged: int | None = None
    is_clock_trusted: bool = True
    revoked: set[KeyID] = field(default_factory=set)

    def circumstances(self) -> Circumstances:
        return Circumstances(
            now=self.now, spread=SPREAD, acknowledged=self.acknowledged, is_clock_trusted=self.is_clock_trusted
        )

    def due(self) -> Step | None:
        return next_step(tuple(self.rows.values()), self.circumstances())

    def take(self, step: Step) -> None:
        row = step.authority
        match step.kind:
            case StepKind.INTEND:
                row = intended(step.authority_kind, KeyID(f"k{len(self.rows)}"), now=self.now, ttl=LIFETIME)
            case StepKind.PREPARE:
                assert row is not None
                row = prepared(row, public_key=b"key", chain=[b"certificate"], roots=[b"certificate"])
            case StepKind.PUBLISH:
                assert row is not None
                self.change += 1
                row = published(row, change=self.change, now=self.now)
            case StepKind.ACTIVATE:
                assert row is not None
                self.activate(row)
                return
            case StepKind.RETIRE:
                assert row is not None
                row = retired(row)
        assert row is not None
        self.rows[row.key_id] = row

    def activate(self, row: Authority) -> None:
        for after in activation(tuple(self.rows.values()), row, now=self.now):
            self.rows[after.key_id] = after

    def prepare(self, kind: AuthorityKind) -> None:
        """As an operator does, down to the publication."""
        check_preparation(self.rows.values(), kind)
        row = intended(kind, KeyID(f"k{len(self.rows)}"), now=self.now, ttl=LIFETIME)
        self.change += 1
        self.rows[row.key_id] = published(
            prepared(row, public_key=b"key", chain=[b"certificate"], roots=[b"certificate"]),
            change=self.change,
            now=self.now,
        )

    def intervene(self, act: str, which: int) -> None:
        """Do what an operator asks of one of the X.509 authorities in the bundle; what is refused changes nothing."""
        rows = tuple(self.rows.values())
        mine = [row for row in rows if row.kind is AuthorityKind.X509 and row.is_published]
        row, keys = mine[which % len(mine)], frozenset(self.rows)
        with refused_for_a_reason():
            match act:
                case "prepare":
                    self.prepare(AuthorityKind.X509)
                case "activate":
                    check_activation(row, has_key=True, now=self.now)
                    self.activate(row)
                case _:
                    check_taint(row) if act == "taint" else check_revocation(row, rows, unreplaced=1, at_once=True)
                    following = takes_over(row, rows, keys=keys, now=self.now)
                    if following is not None:
                        self.activate(following)
                    if act == "taint":
                        self.rows[row.key_id] = tainted(self.rows[row.key_id], change=self.change, now=self.now)
                    else:
                        self.rows[row.key_id] = retired(self.rows[row.key_id])
                        self.revoked.add(row.key_id)

    def go_on(self, by: timedelta = timedelta()) -> list[StepKind]:
        """Let that time pass, take all steps that are due, and sign something of an hour with what is active."""
        self.now += by
        taken = []
        while (step := self.due()) is not None:
            taken.append(step.kind)
            assert len(taken) < 50, taken
            self.take(step)
        for kind in AuthorityKind:
            for row in self.of(kind, AuthorityState.ACTIVE):
                self.sign(row, timedelta(hours=1))
        return taken

    def sign(self, row: Authority, ttl: timedelta) -> None:
        end = min(self.now + ttl, row.not_after)
        last = end if row.last_not_after is None else max(end, row.last_not_after)
        self.rows[row.key_id] = Authority(
            **{name: getattr(row, name) for name in Authority.__slots__ if name != "last_not_after"},
            last_not_after=last,
        )

    def of(self, kind: AuthorityKind, state: AuthorityState) -> list[Authority]:
        return [row for row in self.rows.values() if row.kind is kind and row.state is state]

    def waits(self, row: Authority) -> str:
        return why_not_yet(row, self.rows.values(), self.circumstances())

    def one(self, state: AuthorityState, kind: AuthorityKind = AuthorityKind.X509) -> Authority:
        (row,) = self.of(kind, state)
        return row


@contextlib.contextmanager
def refused_for_a_reason() -> Iterator[None]:
    """What an operator asks may be refused, but never because the step is not in the table of an authority's life."""
    try:
        yield
    except Refused as refused:
        if refused.kind is Kind.INTERNAL:
            raise


@pytest.fixture
def life() -> Life:
    started = Life()
    started.go_on()
    return started


def test_a_new_issuer_comes_to_one_active_and_one_next_of_each_kind() -> None:
    life = Life()
    assert life.go_on() == 2 * [
        StepKind.INTEND, StepKind.PREPARE, StepKind.PUBLISH, StepKind.ACTIVATE,
        StepKind.INTEND, StepKind.PREPARE, StepKind.PUBLISH,
    ]  # fmt: skip
    for kind in AuthorityKind:
        life.one(AuthorityState.ACTIVE, kind)
        life.one(AuthorityState.NEXT, kind)


def test_the_example_at_the_head_of_rotation_is_what_happens() -> None:
    life, seen = Life(), list[tuple[int, str]]()
    for day in range(14):
        life.now = NOW + day * DAY + timedelta(seconds=31 if day in {7, 13} else 0)
        if day in {6, 12}:
            life.sign(life.one(AuthorityState.ACTIVE), DAY)
        before = dict(life.rows)
        life.go_on()
        mine = [row for row in life.rows.values() if row.kind is AuthorityKind.X509]
        for name, row in zip("ABCD", mine, strict=False):
            if row.key_id not in before or before[row.key_id].state is not row.state:
                seen.append((day, f"{name} {row.state}"))
    assert seen == [
        (0, "A active"), (0, "B next"),
        (6, "A old"), (6, "B active"), (6, "C next"),
        (7, "A retired"),
        (12, "B old"), (12, "C active"), (12, "D next"),
        (13, "B retired"),
    ]  # fmt: skip


def test_the_next_one_signs_from_day_6_and_another_is_published(life: Life) -> None:
    assert life.go_on(6 * DAY - timedelta(seconds=1)) == []
    following = life.one(AuthorityState.NEXT)
    assert life.go_on(timedelta(seconds=1)) == 2 * [
        StepKind.ACTIVATE,
        StepKind.INTEND,
        StepKind.PREPARE,
        StepKind.PUBLISH,
    ]
    assert life.one(AuthorityState.ACTIVE).key_id == following.key_id
    assert life.one(AuthorityState.NEXT).published_at == life.now


def test_an_old_one_stays_in_the_bundle_until_what_it_signed_last_is_over(life: Life) -> None:
    first = life.one(AuthorityState.ACTIVE)
    life.now += 6 * DAY - timedelta(hours=1)
    life.sign(first, DAY)
    life.go_on(timedelta(hours=1))
    end = life.one(AuthorityState.OLD).last_not_after
    assert end == NOW + 6 * DAY + timedelta(hours=23)
    assert StepKind.RETIRE not in life.go_on(end + timedelta(seconds=29) - life.now)
    assert StepKind.RETIRE in life.go_on(timedelta(seconds=1))
    assert life.rows[first.key_id].state is AuthorityState.RETIRED


def test_one_that_signed_nothing_is_retired_at_once() -> None:
    life = Life()
    while (step := life.due()) is not None:
        life.take(step)
    life.now += 6 * DAY
    while (step := life.due()) is not None:
        life.take(step)
    assert len(life.of(AuthorityKind.X509, AuthorityState.RETIRED)) == 1


def test_the_spread_time_is_waited_for_even_when_an_operator_asks(life: Life) -> None:
    following = life.one(AuthorityState.NEXT)
    life.rows[following.key_id] = asked(following, now=life.now)
    assert "the spread time" in life.waits(life.one(AuthorityState.NEXT))
    assert life.go_on(SPREAD - timedelta(seconds=1)) == []
    assert StepKind.ACTIVATE in life.go_on(timedelta(seconds=1))
    assert life.one(AuthorityState.ACTIVE).key_id == following.key_id


def test_asking_again_makes_nothing_later(life: Life) -> None:
    once = asked(life.one(AuthorityState.NEXT), now=life.now)
    assert asked(once, now=life.now + DAY) == once


def test_an_attestor_that_has_not_acknowledged_is_waited_for(life: Life) -> None:
    life.acknowledged = 0
    assert life.go_on(6 * DAY) == []
    assert "every connected attestor" in life.waits(life.one(AuthorityState.NEXT))
    life.acknowledged = life.change
    assert StepKind.ACTIVATE in life.go_on()


def test_an_attestor_that_never_acknowledges_holds_nobody_up_for_more_than_a_day(life: Life) -> None:
    life.acknowledged = 0
    assert life.go_on(7 * DAY - timedelta(seconds=1)) == []
    assert StepKind.ACTIVATE in life.go_on(timedelta(seconds=1))


def test_without_an_active_one_the_next_signs_at_once(life: Life) -> None:
    life.acknowledged = 0
    active = life.one(AuthorityState.ACTIVE)
    life.rows[active.key_id] = replace(active, not_after=life.now, last_not_after=life.now)
    assert life.go_on() == [StepKind.ACTIVATE, StepKind.INTEND, StepKind.PREPARE, StepKind.PUBLISH]


def test_an_issuer_that_was_off_for_months_begins_anew(life: Life) -> None:
    old = set(life.rows)
    life.go_on(100 * DAY)
    assert life.one(AuthorityState.ACTIVE).key_id not in old
    assert all(life.rows[key_id].state is AuthorityState.RETIRED for key_id in old)


def test_while_the_clock_is_not_trusted_all_goes_on_but_nothing_is_retired(life: Life) -> None:
    first, following = life.one(AuthorityState.ACTIVE), life.one(AuthorityState.NEXT)
    life.is_clock_trusted = False
    assert StepKind.RETIRE not in life.go_on(7 * DAY)
    assert life.one(AuthorityState.ACTIVE).key_id == following.key_id
    assert "a clock that is trusted" in life.waits(life.rows[first.key_id])
    life.is_clock_trusted = True
    assert life.waits(life.rows[first.key_id]) == ""
    assert StepKind.RETIRE in life.go_on(timedelta(seconds=1))


def test_one_whose_svids_are_valid_stays_for_them(life: Life) -> None:
    first = life.one(AuthorityState.ACTIVE)
    life.now += 6 * DAY
    life.sign(first, DAY)
    life.go_on()
    assert life.waits(life.one(AuthorityState.OLD)) == ("what it signed, until 2026-01-08T12:00:30Z")


@pytest.mark.parametrize("is_clock_trusted", [True, False])
def test_authorities_of_a_future_that_the_clock_took_back_are_made_anew(is_clock_trusted: bool) -> None:  # noqa: FBT001
    life = Life(now=NOW + timedelta(minutes=20))
    life.go_on()
    early = set(life.rows)
    life.is_clock_trusted = is_clock_trusted
    life.now = NOW
    assert StepKind.RETIRE not in life.go_on()
    for kind in AuthorityKind:
        assert is_valid(life.one(AuthorityState.ACTIVE, kind), now=NOW)
        assert life.one(AuthorityState.OLD, kind).key_id in early, "what it signed stays trusted"
        assert any(is_valid(row, now=NOW) for row in life.of(kind, AuthorityState.NEXT))
        early_next = next(row for row in life.of(kind, AuthorityState.NEXT) if row.key_id in early)
        assert "its beginning" in life.waits(early_next)


def test_one_that_was_intended_in_such_a_future_is_given_up() -> None:
    life = Life(now=NOW + timedelta(minutes=20))
    step = life.due()
    assert step is not None
    life.take(step)
    life.now = NOW
    step = life.due()
    assert step is not None
    assert step.kind is StepKind.RETIRE


def test_after_a_clock_that_was_months_ahead_those_of_before_sign_again(life: Life) -> None:
    before = life.one(AuthorityState.NEXT)
    life.is_clock_trusted = False
    life.go_on(60 * DAY)
    assert life.one(AuthorityState.ACTIVE).key_id != before.key_id
    life.now = NOW + timedelta(minutes=1)
    life.go_on()
    assert is_valid(life.one(AuthorityState.ACTIVE), now=life.now)


def test_a_clock_that_is_set_to_and_fro_makes_no_more_of_them_each_time(life: Life) -> None:
    life.is_clock_trusted = False
    counts = []
    for _ in range(10):
        life.go_on(60 * DAY)
        life.now -= 60 * DAY
        life.go_on(timedelta(minutes=1))
        counts.append(len(life.rows))
    assert counts[1:] == [counts[1]] * 9


def test_one_that_may_have_signed_what_is_not_on_the_books_does_not_sign_again(life: Life) -> None:
    first = life.one(AuthorityState.ACTIVE)
    life.sign(first, 7 * DAY)  # so that it is still in the bundle
    life.go_on(6 * DAY)
    life.rows[first.key_id] = suspected(life.rows[first.key_id])
    active = life.one(AuthorityState.ACTIVE)
    life.rows[active.key_id] = replace(active, not_after=life.now)
    life.go_on()
    assert life.one(AuthorityState.ACTIVE).key_id not in {first.key_id, active.key_id}


def test_one_with_less_than_a_day_left_does_not_sign_again(life: Life) -> None:
    first = life.one(AuthorityState.ACTIVE)
    life.is_clock_trusted = False
    life.go_on(13 * DAY + timedelta(hours=1))
    active = life.one(AuthorityState.ACTIVE)
    life.rows[active.key_id] = replace(active, not_after=life.now)
    life.go_on()
    assert life.one(AuthorityState.ACTIVE).key_id != first.key_id


def test_one_that_is_suspect_hands_over_as_soon_as_everybody_knows_the_next(life: Life) -> None:
    active = life.one(AuthorityState.ACTIVE)
    life.rows[active.key_id] = suspected(active)
    assert "the spread time" in life.waits(life.one(AuthorityState.NEXT))
    assert StepKind.ACTIVATE in life.go_on(SPREAD)


def test_an_active_one_waits_for_nothing(life: Life) -> None:
    assert life.waits(life.one(AuthorityState.ACTIVE)) == ""


def test_of_several_that_could_follow_the_one_with_the_longest_life_does(life: Life) -> None:
    life.now -= 8 * DAY
    life.go_on()
    life.now += 8 * DAY
    life.go_on()
    first, *_ = life.of(AuthorityKind.X509, AuthorityState.NEXT)
    others = [life.waits(row) for row in life.of(AuthorityKind.X509, AuthorityState.NEXT) if row != first]
    assert set(others) == {"another next one, which lasts longer and signs first"}
    for _ in range(6 * 24):
        life.go_on(timedelta(hours=1))
        assert life.one(AuthorityState.ACTIVE).not_after - life.now >= DAY


@pytest.mark.parametrize("days", [5, 10, 13])
def test_an_issuer_that_was_off_at_some_day_and_runs_through_day_14_has_one_that_signs(life: Life, days: int) -> None:
    life.now = NOW + days * DAY
    life.is_clock_trusted = False  # off for more than a day: whether the clock is right is not known
    life.go_on()
    for _ in range(10 * 24):
        life.go_on(timedelta(hours=1))
        for kind in AuthorityKind:
            assert life.one(AuthorityState.ACTIVE, kind).not_after - life.now >= DAY


def test_with_nothing_left_to_sign_a_doubtful_clock_stops_no_beginning(life: Life) -> None:
    life.is_clock_trusted = False
    life.go_on(100 * DAY)
    life.one(AuthorityState.ACTIVE)
    assert not life.of(AuthorityKind.X509, AuthorityState.RETIRED)


def test_an_authority_whose_key_could_not_be_made_for_a_day_is_given_up(life: Life) -> None:
    active = life.one(AuthorityState.NEXT)
    del life.rows[active.key_id]
    step = life.due()
    assert step is not None
    life.take(step)
    life.now += timedelta(days=1, seconds=1)
    step = life.due()
    assert step is not None
    assert step.kind is StepKind.RETIRE


def test_only_keys_of_retired_authorities_are_orphans(life: Life) -> None:
    (row, *_) = life.rows.values()
    assert not is_orphan(row.key_id, life.rows.values())
    assert not is_orphan("of nobody here", life.rows.values())
    assert is_orphan(row.key_id, [retired(row)])


def test_one_that_is_not_published_waits_for_that() -> None:
    row = intended(AuthorityKind.JWT, KeyID("k"), now=NOW, ttl=LIFETIME)
    assert Life().waits(row) == "its publication"


@given(leaps=st.lists(st.integers(min_value=1, max_value=3 * 24 * 60), min_size=1, max_size=40))
def test_whenever_it_is_looked_at_within_days_an_svid_of_a_day_fits_and_what_is_valid_stays_trusted(
    leaps: list[int],
) -> None:
    life = Life()
    life.go_on()
    for minutes in leaps:
        life.go_on(timedelta(minutes=minutes))
        for kind in AuthorityKind:
            active = life.one(AuthorityState.ACTIVE, kind)
            life.one(AuthorityState.NEXT, kind)
            assert active.not_after - life.now >= DAY or minutes > 24 * 60
            for row in _retired(life, kind):
                assert row.last_not_after is None or row.last_not_after <= life.now


def _retired(life: Life, kind: AuthorityKind) -> Iterator[Authority]:
    yield from life.of(kind, AuthorityState.RETIRED)


def test_a_tainted_one_never_signs_again(life: Life) -> None:
    first = life.one(AuthorityState.ACTIVE)
    life.sign(first, 7 * DAY)  # so that it is still in the bundle
    life.go_on(6 * DAY)
    life.rows[first.key_id] = tainted(life.rows[first.key_id], change=9, now=life.now)
    active = life.one(AuthorityState.ACTIVE)
    life.rows[active.key_id] = replace(active, not_after=life.now)
    life.go_on()
    assert life.one(AuthorityState.ACTIVE).key_id not in {first.key_id, active.key_id}


def test_a_next_one_that_is_outlived_by_what_signs_does_not_take_over_by_its_own_time(life: Life) -> None:
    shorter = life.one(AuthorityState.NEXT)
    life.go_on(5 * DAY)
    life.prepare(AuthorityKind.X509)
    longer = max(life.of(AuthorityKind.X509, AuthorityState.NEXT), key=lambda row: row.not_after)
    life.activate(longer)
    life.go_on(2 * DAY)
    assert life.one(AuthorityState.ACTIVE).key_id == longer.key_id
    assert life.one(AuthorityState.NEXT).key_id == shorter.key_id, "in reserve"


def test_a_next_one_with_little_of_its_life_left_is_joined_by_another(life: Life) -> None:
    life.go_on(5 * DAY)
    life.prepare(AuthorityKind.X509)
    life.activate(max(life.of(AuthorityKind.X509, AuthorityState.NEXT), key=lambda row: row.not_after))
    life.go_on(7 * DAY - timedelta(seconds=1))
    assert len(life.of(AuthorityKind.X509, AuthorityState.NEXT)) == 1
    assert StepKind.PUBLISH in life.go_on(timedelta(seconds=1))
    assert len(life.of(AuthorityKind.X509, AuthorityState.NEXT)) == 2


def test_an_operator_who_asks_for_the_shorter_one_gets_it(life: Life) -> None:
    shorter = life.one(AuthorityState.NEXT)
    life.go_on(5 * DAY)
    life.prepare(AuthorityKind.X509)
    life.activate(max(life.of(AuthorityKind.X509, AuthorityState.NEXT), key=lambda row: row.not_after))
    life.rows[shorter.key_id] = asked(life.rows[shorter.key_id], now=life.now)
    life.go_on()
    assert life.one(AuthorityState.ACTIVE).key_id == shorter.key_id


def test_what_could_sign_next_is_valid_and_published(life: Life) -> None:
    following = life.one(AuthorityState.NEXT)
    assert successor(life.rows.values(), AuthorityKind.X509, now=life.now) == following
    assert successor(life.rows.values(), AuthorityKind.X509, now=following.not_after) is None


ACTS = st.sampled_from(("prepare", "activate", "taint", "revoke"))


@given(acts=st.lists(st.tuples(ACTS, st.integers(0, 3), st.integers(1, 3 * 24 * 60)), min_size=1, max_size=30))
def test_whatever_operators_do_one_signs_and_one_that_can_follow_is_published(acts: list[tuple[str, int, int]]) -> None:
    life = Life()
    life.go_on()
    for act, which, minutes in acts:
        life.intervene(act, which)
        life.go_on()
        life.go_on(timedelta(minutes=minutes))
        for kind in AuthorityKind:
            active = life.one(AuthorityState.ACTIVE, kind)
            assert is_valid(active, now=life.now)
            assert active.tainted_at is None
            following = successor(life.rows.values(), kind, now=life.now)
            assert following is not None
            assert following.not_after - life.now > 2 * DAY
            for row in _retired(life, kind):
                assert row.key_id in life.revoked or row.last_not_after is None or row.last_not_after <= life.now
