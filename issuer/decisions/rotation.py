"""Which step of an authority is due, and what an authority waits for.

An authority is intended, then next, active, old and retired (authoritylife). `next_step` looks at all rows and at the time, and names one
step or none. The flow takes that step and asks again. Each step may be repeated without harm, so after a crash the rows alone say how to
go on. Once no step is due, this holds for each kind of authority:

* One is active and valid, and at least one is next that has more than 1/7 of its life left.
* An authority signs only what ends within its own life. It is to hand over when 1/7 of that is left, so an SVID of a day fits.
* The active one was known before it signed: it was published for the spread time, and each connected attestor acknowledged it, or did
  not for 1/14 of a lifetime. There are two exceptions: nothing else can sign, or an operator activates it.
* The bundle holds it until everything that it signed has expired, unless an operator revokes or forgets it.

Only retiring needs a clock that is trusted, because it destroys something. An authority that signs too early does no harm, and one that
never signs ends the trust domain. An authority that is not valid now, because the clock was set, is ignored until it is valid again.

Example: lifetimes of 14 days, SVIDs of one day, nobody is away.

    day 0   A is made, and signs at once because nothing else can; B is made and published
    day 6   B has been known for 3/7 of its life and signs; A is old; C is made and published
    day 7   the last SVID of A has expired, 30 seconds ago: A is retired
    day 12  C signs; B is old; D is made and published
    day 13  B is retired, a day before it expires

So a node that was away for less than 6 days trusts what signs when it comes back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.validity import BACKDATE
from issuer.decisions.authority import (
    Authority,
    AuthorityKind,
    AuthorityState,
    activated,
    is_valid,
    lifetime_of,
    postponed,
    replaced,
)

__all__ = [
    "Circumstances",
    "Step",
    "StepKind",
    "activation",
    "is_orphan",
    "next_step",
    "signs",
    "signs_at",
    "successor",
    "why_not_yet",
]

_PATIENCE = 1 / 14  # of a lifetime: how long an attestor that does not acknowledge holds everybody up
_ATTEMPTS_FOR = 1 / 14  # of a lifetime: how long a key that could not be made or certified is tried again
_WORTH_IT = 1 / 14  # of a lifetime: how much of it one that signed before must have left to sign again
_HANDS_OVER = 1 / 7  # of a lifetime: how much of it one has left when its successor signs: of 14 days, from day 12


class StepKind(StrEnum):
    """What to do with an authority."""

    INTEND = "intend"  # write a row with a new key id
    PREPARE = "prepare"  # make the key if it does not exist, have it certified, complete the row
    PUBLISH = "publish"  # into the bundle
    ACTIVATE = "activate"  # let it sign, in place of the one that signs now
    RETIRE = "retire"  # out of the bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is due; each may be repeated without harm.

    Args:
        authority: the row it is about; None: INTEND makes it.
    """

    kind: StepKind
    authority_kind: AuthorityKind
    authority: Authority | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a step may depend on, besides the rows.

    Args:
        spread: how long an authority is in the bundle before it signs.
        acknowledged: the last change that every connected attestor has; None: nobody is connected.
        is_clock_trusted: whether an authority that seems to be over may be retired.
    """

    now: datetime
    spread: timedelta
    acknowledged: int | None = None
    is_clock_trusted: bool = True


def next_step(authorities: Sequence[Authority], at: Circumstances) -> Step | None:
    """The one step that is due, if any: each kind has one active authority, and one next that is published."""
    for kind in AuthorityKind:
        step = _next_step_of(kind, [a for a in authorities if a.kind is kind], at)
        if step is not None:
            return step
    return None


def _next_step_of(kind: AuthorityKind, mine: Sequence[Authority], at: Circumstances) -> Step | None:
    def step(what: StepKind, authority: Authority | None = None) -> Step:
        return Step(kind=what, authority_kind=kind, authority=authority)

    usable = [a for a in mine if is_valid(a, now=at.now)]
    following = _following(usable)
    signing = _first(usable, AuthorityState.ACTIVE)
    former = _former(usable, at.now)
    if signing is None:  # nothing can be signed, so do not wait for anything
        successor = former or following
        if successor is not None:
            return step(StepKind.ACTIVATE, successor)
    elif former is not None and _stood_in(signing, former, at):
        return step(StepKind.ACTIVATE, former)
    if (coming := _first(mine, AuthorityState.INTENDED)) is not None:
        return step(_step_of_intended(coming, at.now), coming)
    if following is None or _hands_over_at(following) <= at.now:
        return step(StepKind.INTEND)  # one with too little time left does not count as a next one
    over = next((a for a in mine if _is_over(a, at.now)), None)
    if over is not None and at.is_clock_trusted:
        return step(StepKind.RETIRE, over)
    return None if _waits_for(following, signing, at) else step(StepKind.ACTIVATE, following)


def _step_of_intended(coming: Authority, now: datetime) -> StepKind:
    if not coming.not_before <= now <= coming.not_before + BACKDATE + lifetime_of(coming) * _ATTEMPTS_FOR:
        return StepKind.RETIRE  # too much of its life is over, or it began in a future that the clock took back
    return StepKind.PUBLISH if coming.public_key else StepKind.PREPARE


def activation(authorities: Iterable[Authority], authority: Authority, *, now: datetime) -> tuple[Authority, ...]:
    """The rows that change when this one signs: itself, the one that it replaces, and the next ones that it outlives.

    Those are in reserve from then on: a shorter one must not take over at once, only because its time came before.
    """
    mine = [a for a in authorities if a.kind is authority.kind and a.key_id != authority.key_id]
    signing = activated(authority, now=now)
    return (
        *(replaced(a) for a in mine if a.state is AuthorityState.ACTIVE),
        *(
            postponed(a, until=_hands_over_at(signing))
            for a in mine
            if a.state is AuthorityState.NEXT and a.not_after <= signing.not_after
        ),
        signing,
    )


def signs(authority: Authority, *, now: datetime) -> bool:
    """Whether it is the one that signs."""
    return authority.state is AuthorityState.ACTIVE and is_valid(authority, now=now)


def successor(authorities: Iterable[Authority], kind: AuthorityKind, *, now: datetime) -> Authority | None:
    """The next one that could sign now, whatever it waits for; None: no next one is published and valid."""
    return _following(a for a in authorities if a.kind is kind and is_valid(a, now=now))


def why_not_yet(authority: Authority, authorities: Iterable[Authority], at: Circumstances) -> str:
    """What a next authority waits for before it signs, or an old one before it leaves the bundle; empty: nothing."""
    match authority.state:
        case AuthorityState.INTENDED:
            return "its publication"
        case AuthorityState.NEXT:
            usable = [a for a in authorities if a.kind is authority.kind and is_valid(a, now=at.now)]
            if authority in usable and authority != _following(usable):
                return "another next one, which lasts longer and signs first"
            return _waits_for(authority, _first(usable, AuthorityState.ACTIVE), at)
        case AuthorityState.OLD:
            return _stays_for(authority, at)
        case _:
            return ""


def _waits_for(authority: Authority, signing: Authority | None, at: Circumstances) -> str:
    if at.now < authority.not_before:
        return f"its beginning, {moment_in_words(authority.not_before)}"
    activate_at = _planned_at(authority, signing)
    if at.now < activate_at:
        return f"its time, {moment_in_words(activate_at)}"
    known_at = _published_at(authority) + at.spread
    if at.now < known_at:
        return f"the spread time, until {moment_in_words(known_at)}"
    latest = max(activate_at, known_at) + lifetime_of(authority) * _PATIENCE
    if at.acknowledged is not None and at.acknowledged < authority.published_change and at.now < latest:
        return f"every connected attestor to acknowledge it, until {moment_in_words(latest)} at the latest"
    return ""


def signs_at(authority: Authority, authorities: Iterable[Authority], *, spread: timedelta, now: datetime) -> datetime:
    """When a published authority signs, if nothing hastens or delays it; if it signs or signed: since when.

    Args:
        spread: how long an authority is in the bundle before it signs.
    """
    if authority.state is not AuthorityState.NEXT:
        return authority.activated_at or _published_at(authority)
    usable = (a for a in authorities if a.kind is authority.kind and is_valid(a, now=now))
    planned_at = _planned_at(authority, _first(usable, AuthorityState.ACTIVE))
    return max(planned_at, _published_at(authority) + spread, authority.not_before)


def _published_at(authority: Authority) -> datetime:
    return authority.published_at or authority.not_before


def _planned_at(authority: Authority, signing: Authority | None) -> datetime:
    """When a next authority is planned to sign; before that, if the one that signs must hand over before."""
    activate_at = authority.activate_at or _published_at(authority)
    return activate_at if signing is None else min(activate_at, _hands_over_at(signing))


def _hands_over_at(signing: Authority) -> datetime:
    """From when on its successor is to sign, no matter when the successor was planned to.

    If it is suspect: at once. Otherwise: while everything that it signs still ends within its own life. That may be soon if the issuer was
    off when this authority should have begun to sign.
    """
    return signing.not_before if signing.is_suspect else signing.not_after - lifetime_of(signing) * _HANDS_OVER


def _stays_for(authority: Authority, at: Circumstances) -> str:
    if not _is_over(authority, at.now):
        end = authority.last_not_after or authority.not_after
        return f"what it signed, until {moment_in_words(end + BACKDATE)}"
    return "" if at.is_clock_trusted else "a clock that is trusted, as status says; nothing is lost by waiting"


def is_orphan(key_id: str, authorities: Iterable[Authority]) -> bool:
    """Whether this is the key of an authority that will never sign again, left behind by a crash."""
    return any(a.key_id == key_id and a.state is AuthorityState.RETIRED for a in authorities)


def _first(mine: Iterable[Authority], state: AuthorityState) -> Authority | None:
    return next((a for a in mine if a.state is state), None)


def _following(usable: Iterable[Authority]) -> Authority | None:
    """The next one; if there are several, because the clock was set back and forth, the one that lasts longest."""
    return max((a for a in usable if a.state is AuthorityState.NEXT), key=lambda a: a.not_after, default=None)


def _former(usable: Iterable[Authority], now: datetime) -> Authority | None:
    """The one that signed before and is the best to sign again, if its successors became invalid when the clock was set.

    Everybody knows it already. And if the clock is set back and forth, the same two take turns, and no more are made.
    """
    worth_it = [
        a
        for a in usable
        if a.state is AuthorityState.OLD
        and not a.is_suspect
        and a.tainted_at is None
        and now + lifetime_of(a) * _WORTH_IT <= a.not_after
    ]
    return max(worth_it, key=lambda a: a.not_after, default=None)


def _stood_in(signing: Authority, former: Authority, at: Circumstances) -> bool:
    """Whether the one that signs was made only because a slow clock placed a former one in the future: no node that was away knows it."""
    if signing.activated_at is None or signing.published_at is None or former.activated_at is None:
        return False
    return signing.activated_at < former.activated_at and signing.activated_at < signing.published_at + at.spread


def _is_over(authority: Authority, now: datetime) -> bool:
    """Whether nothing that it signed is still valid, even for verifiers whose clocks lag, and it will sign nothing more."""
    match authority.state:
        case AuthorityState.OLD:
            return authority.last_not_after is None or authority.last_not_after + BACKDATE <= now
        case AuthorityState.NEXT:
            return authority.not_after <= now
        case _:
            return False
