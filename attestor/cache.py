"""What this attestor holds: its entries, their SVIDs, the bundle, what is denied, and who waits for a change of them.

Decided here: who is woken. Not decided here: what a step of the feed changes (decisions/sync), who matches which entry (decisions/match),
what is minted when (flows/renew_svids). Belongs to one event loop; no method awaits.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from attestor.decisions.clocks import Reading
from attestor.decisions.crls import fits, fitting, of_bundle, with_newest
from attestor.decisions.match import Index
from attestor.decisions.minted import authority_of_x509
from attestor.decisions.sync import Change, diff, keeps_svid
from attestor.decisions.update import Trust
from attestor.deniallog import DenialLog
from cognomen.daemon.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from svid.bundle import Bundle
from svid.crl import CRL
from svid.entry import EntryID, RegistrationEntry
from svid.selector import Selector
from svid.x509svid import X509SVID

__all__ = ["Cache", "HeldX509", "Subscription", "View"]

_NEVER = datetime.max.replace(tzinfo=UTC)
_WAKE_COMPARISONS = 10_000  # more than that, and everybody is woken rather than looked at
_LEAST_AT_ONCE, _MOST_TURNS = 8, 50  # of the streams that hear of a revocation list
_TURN_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldX509:
    """One minted identity, and the entry as it was then."""

    entry: RegistrationEntry
    svid: X509SVID
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What matches a caller now: entries in match order, the SVIDs that are there already, and what vouches for them."""

    entries: tuple[RegistrationEntry, ...]
    svids: Mapping[EntryID, HeldX509]
    trust: Trust


class Subscription:
    """Somebody who waits for changes that may concern these selectors; changes that nobody waited for count as one."""

    def __init__(self, selectors: frozenset[Selector], who: tuple[int, int] | None) -> None:
        self.selectors = selectors
        self.who = who
        self._woken = asyncio.Event()

    async def changed(self) -> None:
        """Return after a change since the last return, at once if there was one already."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """Something changed."""
        self._woken.set()


class Cache:
    """Entries, SVIDs and bundle of this node, and the denials of its trust domain. No SVID in it is denied.

    Args:
        bundle: what the node trusts until the feed says otherwise.
        denials: None: nothing is denied yet.
    """

    def __init__(self, bundle: Bundle, denials: DenialLog | None = None) -> None:
        self._trust = Trust(bundle=bundle)
        self._crls: tuple[CRL, ...] = ()
        self.denials = DenialLog() if denials is None else denials
        self.tainted = frozenset[str]()
        """The authorities whose SVIDs are to be replaced, by what the SVIDs name them."""
        self.cursor: Cursor | None = None
        self._synchronised = asyncio.Event()
        self.changed = asyncio.Event()
        """Set at each change of entries or SVIDs; whoever mints waits for it and clears it."""
        self._entries: dict[EntryID, RegistrationEntry] = {}
        self._svids: dict[EntryID, HeldX509] = {}
        self._denied: set[EntryID] = set()
        self._index = Index()
        self._facts: Counter[str] = Counter()
        self._needed: frozenset[str] | None = None
        self._subscriptions: set[Subscription] = set()
        self._entries_end = self._svids_end = _NEVER
        """Before it, none of them ends."""

    @property
    def synchronised(self) -> bool:
        """Whether a complete snapshot has come since the start."""
        return self._synchronised.is_set()

    async def wait_synchronised(self) -> None:
        """Return as soon as it has."""
        await self._synchronised.wait()

    @property
    def bundle(self) -> Bundle:
        """The bundle, the same object until there is another."""
        return self._trust.bundle

    @property
    def crls(self) -> tuple[CRL, ...]:
        """The newest revocation list of each authority in the bundle that has said one."""
        return self._crls

    @property
    def handed_crls(self) -> tuple[CRL, ...]:
        """Those that workloads are handed: as many of them as fit."""
        return self._trust.crls

    @property
    def entries(self) -> Mapping[EntryID, RegistrationEntry]:
        """All entries, live."""
        return MappingProxyType(self._entries)

    @property
    def svids(self) -> Mapping[EntryID, HeldX509]:
        """All SVIDs, live."""
        return MappingProxyType(self._svids)

    def view(self, selectors: frozenset[Selector]) -> View:
        """What matches these selectors.

        Raises:
            Refused: UNAVAILABLE before the first complete snapshot.
        """
        if not self.synchronised:
            raise Refused(Kind.UNAVAILABLE, "not synchronised with the issuer yet")
        entries = self._index.match(selectors)
        svids = {entry.id: self._svids[entry.id] for entry in entries if entry.id in self._svids}
        return View(entries=entries, svids=svids, trust=self._trust)

    def needed_facts(self) -> frozenset[str]:
        """The keys of selectors that any entry uses, as `type:key` (`unix:sha256`)."""
        if self._needed is None:
            self._needed = frozenset(self._facts)
        return self._needed

    @contextmanager
    def subscribe(
        self, selectors: frozenset[Selector], *, who: tuple[int, int] | None = None
    ) -> Iterator[Subscription]:
        """Be woken at changes, and have the matching entries minted before others, while the block runs.

        Args:
            who: the uid and pid of the process, for `callers`.
        """
        subscription = Subscription(selectors, who)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return len(self._subscriptions)

    @property
    def callers(self) -> Counter[tuple[int, int]]:
        """How many streams each process holds open, by uid and pid."""
        return Counter(one.who for one in self._subscriptions if one.who is not None)

    def wanted(self) -> frozenset[EntryID]:
        """The entries that match a subscriber."""
        callers = {subscription.selectors for subscription in self._subscriptions}
        return frozenset(entry.id for selectors in callers for entry in self._index.match(selectors))

    def apply(self, change: Change) -> None:
        """Apply one whole step of the feed; nothing awaits in between, so that nobody is served by a part of it."""
        step = diff(self._entries, change)
        denied = self._take_denied_out() if self.denials.put(step.denials, change.cursor) else ()
        needed = self.needed_facts()
        # What comes has no SVID yet, so that it is no news to anybody: one wave for the entry, and one for its SVID, would be one too many.
        changed = [entry for entry in step.put if entry.id in self._entries]
        touched = [*step.left, *changed, *(self._entries[entry.id] for entry in changed), *denied]
        for entry in step.left:
            self._remove(entry)
        for entry in step.put:
            self._put_entry(entry)
        for entry_id in step.stale:
            self._svids.pop(entry_id, None)
        # Callers were not looked at for a fact that no entry needed: one that needs it may concern any of them.
        concerns_all = not self.synchronised or not self.needed_facts() <= needed
        self.cursor = change.cursor
        self._synchronised.set()
        if step.tainted is not None:
            self.tainted = step.tainted
        if step.bundle is not None and step.bundle != self.bundle:
            self._crls = of_bundle(self._crls, step.bundle)
            self._trust = Trust(bundle=step.bundle, crls=self._fitting())
            concerns_all = True
        self._wake(None if concerns_all else touched)

    def take_crl(self, document: bytes, *, at: datetime) -> None:
        """Hold a revocation list instead of the one before it.

        Raises:
            CRLError: it cannot be read, is of no authority of the bundle, or older than the one held.
        """
        crls = with_newest(self._crls, document, self.bundle, at=at)
        if crls is not self._crls:
            self._crls = crls
            self._trust = Trust(bundle=self.bundle, crls=self._fitting())
            self._wake_in_turns(tuple(self._subscriptions))

    def hold(self, minted: Iterable[HeldX509]) -> None:
        """Take minted SVIDs; one whose entry has left or become another meanwhile is dropped, and one that was denied."""
        taken = []
        for held in minted:
            entry = self._entries.get(held.entry.id)
            if held.svid.serial in self.denials:
                self._denied.add(held.entry.id)
            elif entry is not None and keeps_svid(held.entry, entry):
                self._svids[entry.id] = held
                self._denied.discard(entry.id)
                self._svids_end = min(self._svids_end, held.svid.not_after)
                taken.append(entry)
        others = self._trust.crls if fits(self._crls) else self._fitting()
        if others != self._trust.crls:
            self._trust = Trust(bundle=self.bundle, crls=others)
            self._wake(None)
        else:
            self._wake(taken)

    def expire(self, at: Reading) -> timedelta:
        """Drop the entries that ended by the issuer's clock, and the SVIDs that ended by both clocks.

        Returns:
            How long there is certainly nothing to drop again.
        """
        both = min(at.own, at.issuer)
        if at.issuer >= self._entries_end or both >= self._svids_end:
            over = [one for one in self._entries.values() if one.expires_at is not None and one.expires_at <= at.issuer]
            for entry in over:
                self._remove(entry)
            dead = [held.entry for held in self._svids.values() if held.svid.not_after <= both]
            for entry in dead:
                del self._svids[entry.id]
            if over or dead:
                self._wake([*over, *dead])
            self._entries_end = min((one.expires_at or _NEVER for one in self._entries.values()), default=_NEVER)
            self._svids_end = min((held.svid.not_after for held in self._svids.values()), default=_NEVER)
        return min(self._entries_end - at.issuer, self._svids_end - both)

    def drop(self, entry_ids: Iterable[EntryID]) -> None:
        """Take the SVIDs of these entries out of service."""
        dropped = [self._svids.pop(entry_id).entry for entry_id in entry_ids]
        if dropped:
            self._wake(dropped)

    def take_denied(self) -> frozenset[EntryID]:
        """The entries that lost an SVID to a denial since the last call, and have no other since: some may have left."""
        denied, self._denied = frozenset(self._denied), set()
        return denied

    def _fitting(self) -> tuple[CRL, ...]:
        if fits(self._crls):
            return self._crls
        return fitting(
            self._crls, self._trust.crls, serving={authority_of_x509(one.svid) for one in self._svids.values()}
        )

    def _take_denied_out(self) -> Sequence[RegistrationEntry]:
        denied = [held.entry for held in self._svids.values() if held.svid.serial in self.denials]
        for entry in denied:
            del self._svids[entry.id]
        self._denied.update(entry.id for entry in denied)
        return denied

    def _put_entry(self, entry: RegistrationEntry) -> None:
        if (old := self._entries.get(entry.id)) is not None:
            self._facts -= _facts(old)  # `-=` forgets what falls to zero
        self._entries[entry.id] = entry
        self._entries_end = min(self._entries_end, entry.expires_at or _NEVER)
        self._index.add(entry)  # instead of the old one
        self._facts += _facts(entry)
        self._needed = None

    def _remove(self, entry: RegistrationEntry) -> None:
        del self._entries[entry.id]
        self._svids.pop(entry.id, None)
        self._index.remove(entry)
        self._facts -= _facts(entry)
        self._needed = None

    def _wake(self, touched: Iterable[RegistrationEntry] | None) -> None:
        """Wake whoever these entries may concern; None: everybody."""
        self.changed.set()
        wants = None if touched is None else {entry.selectors for entry in touched}
        if wants is not None and len(wants) * len(self._subscriptions) > _WAKE_COMPARISONS:
            wants = None
        for subscription in self._subscriptions:
            if wants is None or any(selectors <= subscription.selectors for selectors in wants):
                subscription.wake()

    def _wake_in_turns(self, waiting: Sequence[Subscription], at_once: int = 0) -> None:
        """Wake everybody, some at a time: a list follows each revocation, and must not hold up who waits for an identity."""
        at_once = at_once or max(_LEAST_AT_ONCE, len(waiting) // _MOST_TURNS)
        for subscription in waiting[:at_once]:
            subscription.wake()
        if left := waiting[at_once:]:
            asyncio.get_running_loop().call_later(_TURN_SECONDS, self._wake_in_turns, left, at_once)


def _facts(entry: RegistrationEntry) -> Counter[str]:
    """Shape: {"unix:path": 1}; a value without a key of its own counts as a whole."""
    return Counter(f"{selector.type}:{selector.value.partition(':')[0]}" for selector in entry.selectors)
