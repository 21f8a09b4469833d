"""How a step of the feed changes what the attestor knows.

The issuer client receives the steps; the cache wakes those that wait for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import assert_never

from cognomen.protocol.entry import EntryID, RegistrationEntry
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
from svid.denials import Denial

__all__ = ["Change", "Diff", "diff", "keeps_svid", "needs_svid"]

_UNSIGNED = frozenset({"revision", "jwt_svid_ttl", "hint", "owner", "labels", "default", "audiences", "callers"})
_signed = attrgetter(*(one.name for one in fields(RegistrationEntry) if one.name not in _UNSIGNED))
"""What decides about an X509-SVID of an entry: all that is not known to decide nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One whole step of the feed: apply all of it, in order, then move to `cursor`.

    Args:
        snapshot: entries that it does not name are gone.
        questions: what came with it, and changes nothing.
    """

    cursor: Cursor
    snapshot: bool
    updates: tuple[Update, ...] = ()
    questions: tuple[QuestionIs, ...] = ()

    def is_news(self, at: Cursor | None) -> bool:
        """Whether it changes anything for a follower at that cursor; otherwise it only shows that the issuer is alive."""
        return self.snapshot or bool(self.updates) or self.cursor != at


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What a step changes.

    Args:
        put: the entries that are new or different, as they are from now on.
        left: the entries that are no longer ours, as they were.
        stale: the entries that stay, but whose SVID must no longer be served.
        bundle: None: unchanged.
        tainted: the authorities whose SVIDs must be replaced; None: unchanged.
        denials: credentials that were revoked before they expired.
    """

    put: tuple[RegistrationEntry, ...]
    left: tuple[RegistrationEntry, ...]
    stale: frozenset[EntryID]
    bundle: Bundle | None
    tainted: frozenset[str] | None
    denials: tuple[Denial, ...]


def diff(known: Mapping[EntryID, RegistrationEntry], change: Change) -> Diff:
    """Compare a step with what is known; for each entry, and for the bundle, its last update counts."""
    said: dict[EntryID, RegistrationEntry | None] = {}
    bundle: Bundle | None = None
    tainted = frozenset[str]() if change.snapshot else None
    denials: list[Denial] = []
    for update in change.updates:
        match update:
            case DenialsPut():
                denials += update.denials
            case EntryPut(entry=entry):
                said[entry.id] = entry
            case EntryGone(entry_id=entry_id):
                said[entry_id] = None
            case BundleIs():
                bundle = update.bundle
            case TaintedIs():
                tainted = update.authority_ids
            case CRLIs() | CheckpointIs() | SentAwayIs() | QuestionIs():
                pass  # handled elsewhere: decisions/crls, flows/keep_node, flows/follow_feed, flows/answer_questions
            case _:
                assert_never(update)
    put = tuple(entry for entry in said.values() if entry is not None and known.get(entry.id) != entry)
    return Diff(
        put=put,
        left=tuple(old for old in known.values() if said.get(old.id, None if change.snapshot else old) is None),
        stale=frozenset(entry.id for entry in put if entry.id in known and not keeps_svid(known[entry.id], entry)),
        bundle=bundle,
        tainted=tainted,
        denials=tuple(denials),
    )


def keeps_svid(old: RegistrationEntry, new: RegistrationEntry) -> bool:
    """Whether an SVID minted under `old` may be served under `new` until the next one is minted.

    It may not if the names in it changed, if other workloads get the entry from now on (they get a key that nobody else has had), or if the
    entry only observes.
    """
    is_same = (old.spiffe_id, old.dns_names, old.selectors) == (new.spiffe_id, new.dns_names, new.selectors)
    return is_same and not new.observe


def needs_svid(old: RegistrationEntry, new: RegistrationEntry) -> bool:
    """Whether an SVID minted under `old` must be replaced now that the entry is `new`, although it may be served until then (keeps_svid).

    It need not if the issuer would sign the same for the same workloads: only what is for people, for tokens, or for the order of
    identities has changed. It must if the entry changed more than once: what was changed and then changed back has ended what was signed
    before. Fewer audiences end it too (issuer/decisions/supersession).
    """
    return new.revision != old.revision + 1 or _signed(new) != _signed(old) or new.allows_less_than(old)
