"""What whoever holds checkpoints of an issuer can tell from them without its record: which to keep, and which contradict each other.

An attestor is such a witness: the issuer cannot change what it holds. cognomen/protocol/auditlog compares checkpoints with the record.
"""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cognomen.protocol.auditlog import Checkpoint, Mark

__all__ = ["Heard", "contradiction", "thinned"]

_FRESH = timedelta(hours=8)
_PERIODS = (
    (timedelta(days=2), timedelta(hours=1)),
    (timedelta(days=60), timedelta(days=1)),
    (timedelta.max, timedelta(days=30)),
)
"""Up to which age the first is kept of each period of that length."""

_MOST_OLD = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A checkpoint that is held.

    Args:
        at: when it was heard, by the clock of whoever holds it: the time in the checkpoint is the word of its signer.
    """

    checkpoint: Checkpoint
    at: datetime


def thinned(held: Sequence[Heard], *, newest: int, now: datetime, per_hour: int = 1) -> list[Heard]:
    """Which of these to keep, oldest first: the newest, and of the older ones fewer the older they are, but never none.

    Of the older ones the first of each hour, day or 30 days is kept, and the first in it with which an incarnation ended. So a record
    that is rewritten contradicts something that is kept, however long ago that was. Nothing that is heard later takes the place of
    the first ones, and nothing in a checkpoint but its incarnation counts: somebody with the checkpoint key cannot make us forget them.

    Args:
        held: in the order in which they were heard.
        newest: how many of the newest to keep in any case.
        now: by the same clock as the times at which they were heard.
        per_hour: how many to keep of each of the last hours: the first ones.
    """
    old: list[Heard] = []
    firsts: Counter[tuple[timedelta, int]] = Counter()
    ended: set[tuple[timedelta, int]] = set()
    for one, following in pairwise(held[: 1 - newest or None]):
        age = now - one.at
        period, most = _period(one.at, age), per_hour if age <= _FRESH else 1
        firsts[period] += 1
        is_end = following.checkpoint.incarnation != one.checkpoint.incarnation and period not in ended
        if is_end:
            ended.add(period)
        if is_end or firsts[period] <= most:
            old.append(one)
    return [*_middle_left_out(old), *held[-newest:]]


def contradiction(held: Iterable[Checkpoint], heard: Checkpoint) -> str:
    """Say why a checkpoint cannot be of the record of those that are held; empty: it can.

    Of one record and one incarnation, equally many rows end with the same hash, the rows become more with time, and each checkpoint
    but the first names the one before it. A restore begins a new incarnation, which may have fewer rows: its first checkpoint names the
    last one in the backup, up to which it is the record that was backed up. An incarnation that ended does not come back. Because each
    names the one before, none lies between the two: a restore from a row there, or from before the first, is made up. One from a row
    after the newest, or between two that are not neighbours, may be honest: others were signed while nobody listened.

    Args:
        held: in the order in which they were heard, signatures checked.
    """
    return next(_contradictions(list(held), heard), "")


def _contradictions(known: Sequence[Checkpoint], heard: Checkpoint) -> Iterator[str]:
    before = heard.previous
    if before is not None and (
        before.count > heard.count or (before.count == heard.count and before.head != heard.head)
    ):
        yield f"{heard.count} rows, and {before.count} in the checkpoint before, which it names: the record was cut off or rewritten"
    if not known:
        return
    if known[-1].public_key != heard.public_key:
        yield f"expected the checkpoint key {known[-1].key_thumbprint}, found {heard.key_thumbprint}"
    same = sorted((one for one in known if one.incarnation == heard.incarnation), key=lambda one: one.count)
    if same:
        yield from _of_its_incarnation(same, heard)
        if known[-1].incarnation != heard.incarnation:
            yield "its incarnation had ended before, in a restore: an older state of the issuer is in use again"
    elif before is not None:
        heads = {mark.head for one in known for mark in _marks(one) if mark.count == before.count}
        if heads and before.head not in heads:
            yield f"row {before.count}, from which a restored record goes on, had another hash before: it was rewritten"
        elif not heads and not _may_have_signed(known, before.count):
            yield f"row {before.count}, from which a restored record goes on, had no checkpoint before: it was made up"
    if before is None and any(one.previous is not None for one in known):
        yield "expected the checkpoint before it by name, found none: the issuer's checkpoints were removed"


def _of_its_incarnation(same: Sequence[Checkpoint], heard: Checkpoint) -> Iterator[str]:
    """Compare with those of its incarnation, by their number of rows."""
    before = heard.previous
    heads = {mark.count: mark.head for one in same for mark in _marks(one)}
    if heads.get(heard.count, heard.head) != heard.head:
        yield f"row {heard.count} had another hash before: the record was rewritten"
    if before is not None and heads.get(before.count, before.head) != before.head:
        yield f"row {before.count}, of the checkpoint before, had another hash before: the record was rewritten"
    if before is not None and _is_between(same, before.count):
        yield f"row {before.count}, of the checkpoint before, had no checkpoint before: the record was rewritten"
    earlier = same[: bisect.bisect_left([one.count for one in same], heard.count)]
    if earlier and before is not None and before.count < earlier[-1].count:
        yield f"the checkpoint of {earlier[-1].count} rows is not known any more: the record was cut off or rewritten"
    # One that arrives late is named by a later one, and older by its own account.
    if same[-1].count > heard.count and (same[-1].at < heard.at or heard.count not in heads):
        yield f"{heard.count} rows, after {same[-1].count} before: the record was cut off"


def _may_have_signed(known: Iterable[Checkpoint], count: int) -> bool:
    """Whether an incarnation of those that are held may have signed a checkpoint of so many rows that is not held.

    The first ones of an incarnation may be missing, too, unless its first one is held: that names the last one of an earlier incarnation.
    """
    incarnations: dict[str, list[Checkpoint]] = {}
    for one in known:
        incarnations.setdefault(one.incarnation, []).append(one)
    earlier: set[Mark] = set()
    for own in incarnations.values():
        begin = min(own, key=lambda one: one.count).previous
        comes_before = begin is not None and count < begin.count
        if not _is_between(own, count) and not (comes_before and begin in earlier):
            return True
        earlier.update(mark for one in own for mark in _marks(one))
    return False


def _is_between(same: Sequence[Checkpoint], count: int) -> bool:
    """Whether a row lies between two neighbours of an incarnation, or before its first one, so that no checkpoint ended there.

    A release that did not name the one before left several without it, of which one may be the first.
    """
    unnamed = sum(one.previous is None for one in same)
    return any(
        one.previous.count < count < one.count if one.previous is not None else unnamed == 1 and count < one.count
        for one in same
    )


def _marks(checkpoint: Checkpoint) -> Iterator[Mark]:
    """What it says about its record."""
    if checkpoint.previous is not None:
        yield checkpoint.previous
    yield Mark(count=checkpoint.count, head=checkpoint.head)


def _period(at: datetime, age: timedelta) -> tuple[timedelta, int]:
    """Its length and its number."""
    length = next(length for up_to, length in _PERIODS if age <= up_to)
    return length, int(at.timestamp() // length.total_seconds())


def _middle_left_out(old: list[Heard]) -> list[Heard]:
    """A bound if our own clock jumps, too."""
    half = _MOST_OLD // 2
    return old if len(old) <= _MOST_OLD else [*old[:half], *old[-half:]]
