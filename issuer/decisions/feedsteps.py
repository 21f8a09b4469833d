"""The messages of the feed: the order in which a node gets its news, and where the news is cut.

changes decides what a change means to a node; cognomen/wire/feed, what an update looks like on the wire.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Reason
from cognomen.protocol.feed import (
    BundleIs,
    CheckpointIs,
    CRLIs,
    Cursor,
    DenialsPut,
    EntryGone,
    EntryPut,
    QuestionIs,
    SentAwayIs,
    TaintedIs,
    Update,
)
from svid.bundle import Bundle
from svid.denials import SERIAL_BYTES, Denial

__all__ = ["FeedStep", "cut", "in_order", "weight"]

_MESSAGE_UPDATES = 1000
_MESSAGE_BYTES = 256 * 1024  # an attestor waits half a minute for each: at 12 kB/s it arrives in time
_FRAME_BYTES = 16  # at most: two tags, and two lengths below 16 MiB
_DENIAL_BYTES = SERIAL_BYTES + 6  # the serial number, and the expiry as seconds, up to the year 9999
_UPDATE_DENIALS = 4096
_ID_FRAME_BYTES = 2
_CALLER_FRAME_BYTES = 3  # a tag, and a length of up to two bytes
_PART_BYTES = 64 * 1024  # of a revocation list
_ENTRY_BYTES = 1024  # of an entry without its selectors and DNS names: more than almost any entry has


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStep:
    """One message of the feed.

    Args:
        snapshot: this message and the ones before it with `more` are everything there is.
        more: the next message belongs to the same step.
    """

    cursor: Cursor
    snapshot: bool = False
    more: bool = False
    updates: tuple[Update, ...] = ()


def in_order(
    *,
    denials: Iterable[Denial] = (),
    bundle: Bundle | None = None,
    tainted: Collection[str] | None = None,
    crls: Iterable[bytes] = (),
    gone: Iterable[EntryID] = (),
    entries: Iterable[RegistrationEntry] = (),
    checkpoint: Checkpoint | None = None,
    sent_away: Reason | None = None,
) -> Iterator[Update]:
    """Put news in the order in which it is sent: what must be applied first comes first.

    1. The denials, before anything new is served.
    2. The bundle, by which the node knows its issuer and its workloads know their peers.
    3. The authorities in it that are tainted: by then the bundle vouches for what replaces their SVIDs.
    4. The revocation lists of its authorities, DER: a node takes no others.
    5. What the node loses, before what it gets.
    6. The checkpoint, which changes nothing that the node serves.
    7. Last why the node is admitted no more, if it is not.
    """
    left = iter(denials)
    while some := tuple(itertools.islice(left, _UPDATE_DENIALS)):
        yield DenialsPut(denials=some)
    if bundle is not None:
        yield BundleIs(bundle=bundle)
    if tainted is not None:
        yield TaintedIs(authority_ids=frozenset(tainted))
    for document in crls:
        yield from _in_parts(document)
    for entry_id in gone:
        yield EntryGone(entry_id=entry_id)
    for entry in entries:
        yield EntryPut(entry=entry)
    if checkpoint is not None:
        yield CheckpointIs(document=checkpoint.to_json())
    if sent_away is not None:
        yield SentAwayIs(reason=sent_away)


def cut(updates: Iterable[Update], *, before: Cursor | None, after: Cursor) -> list[FeedStep]:
    """Cut news into messages of bounded size: at least one, which may be empty.

    A revocation list is never cut between two steps: the follower would take each part for a list.

    Only the last message moves a follower from `before` to `after`. If it loses the stream in between, it gets all of them again.

    Args:
        before: the follower's cursor; None: any, because this is a snapshot.
    """
    snapshot = before is None
    *head, tail = _chunks(updates)
    steps = [
        FeedStep(cursor=before or after, snapshot=snapshot, more=snapshot or _ends_amidst(chunk), updates=chunk)
        for chunk in head
    ]
    return [*steps, FeedStep(cursor=after, snapshot=snapshot, updates=tail)]


def weight(update: Update) -> int:  # noqa: PLR0911 - one for each kind
    """Estimate how many bytes of a message an update takes; for an entry, more than almost any takes."""
    match update:
        case DenialsPut(denials=denials):
            return _FRAME_BYTES + _DENIAL_BYTES * len(denials)
        case EntryPut(entry=entry):
            selectors = sum(len(selector.value) for selector in entry.selectors)
            callers = sum(_CALLER_FRAME_BYTES + len(str(caller)) for caller in entry.callers or ())
            texts = sum(map(len, entry.dns_names)) + sum(map(len, entry.audiences or ()))
            return _ENTRY_BYTES + selectors + callers + texts
        case EntryGone(entry_id=entry_id):
            return _FRAME_BYTES + len(entry_id)
        case BundleIs(bundle=bundle):
            return _FRAME_BYTES + len(bundle.to_jwks())
        case TaintedIs(authority_ids=ids):
            return _FRAME_BYTES + sum(_ID_FRAME_BYTES + len(one) for one in ids)
        case CRLIs(document=document) | CheckpointIs(document=document):
            return _FRAME_BYTES + len(document)
        case SentAwayIs(reason=reason):
            return _FRAME_BYTES + len(reason)
        case QuestionIs(put=put, gone=gone):
            return sum(weight(EntryPut(entry=entry)) for entry in put) + sum(map(len, gone)) + _FRAME_BYTES
        case _:
            assert_never(update)


def _in_parts(document: bytes) -> Iterator[CRLIs]:
    last = max(0, len(document) - 1) // _PART_BYTES
    for part in range(last + 1):
        start = part * _PART_BYTES
        yield CRLIs(document=document[start : start + _PART_BYTES], more=part < last)


def _ends_amidst(chunk: tuple[Update, ...]) -> bool:
    """Whether the list at its end continues in the next message."""
    return isinstance(chunk[-1], CRLIs) and chunk[-1].more


def _chunks(updates: Iterable[Update]) -> Iterator[tuple[Update, ...]]:
    chunk: list[Update] = []
    size = 0
    for update in updates:
        added = weight(update)
        if chunk and (len(chunk) >= _MESSAGE_UPDATES or size + added > _MESSAGE_BYTES):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(update)
        size += added
    yield tuple(chunk)
