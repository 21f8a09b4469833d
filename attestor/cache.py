"""What this attestor holds: its entries, their SVIDs, the bundle and the denials; and the streams that wait for them to change.

Decided here: what wakes streams. Not decided here: which of them (streams), what a step of the feed changes (decisions/sync), which
entries match a caller (cognomen/rulebook/matching), when to mint (flows/renew_svids). The cache belongs to one event loop; no method
awaits.

An entry starts *bare*. It becomes *held* when its SVID is minted. It becomes bare again when that SVID is denied, expires, is dropped, or
is stale because the entry now means another identity or other workloads. A step of the feed removes the entry, or it expires.

What always holds:
- Every SVID belongs to an entry in the cache, and no SVID is denied: `apply` removes denied ones, `hold` does not accept them.
- `cursor` is the end of the last step that was applied completely. Nobody is served in the middle of a step.
- The index and the facts describe exactly the entries in the cache. Entries that only observe have no SVID.
- Nothing expires before `_entries_end` and `_svids_end`. They may be too early, which costs an unnecessary check, but never too late.
- The bundle is the same object until it changes, because others compare it by identity.

What wakes whom: every change wakes the minter. A stream wakes when it matches a changed entry, either as it was or as it is now. A new
entry wakes no stream, because there is nothing to serve until its SVID is minted. All streams wake at the first snapshot, when the bundle
changes, and when an entry needs a fact that callers were not checked for. A revocation list wakes all streams, a few at a time.

Example: the entry `web` for uid 1000 arrives. Only the minter wakes; when the SVID is minted, the streams of uid 1000 wake. Then `web`
changes to uid 1001. Both users' streams wake. Uid 1000 loses the identity at once, and its SVID is dropped, because another user had its
key. The minter makes a new SVID, which wakes only the streams of uid 1001.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Self

from attestor.decisions.clocks import Reading
from attestor.decisions.crls import fits, fitting, of_bundle, with_newest
from attestor.decisions.minted import authority_of_x509
from attestor.decisions.sync import Change, diff, keeps_svid, needs_svid
from attestor.decisions.update import Trust
from attestor.deniallog import DenialLog
from attestor.streams import Streams, Subscription
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.selector import Selector
from cognomen.rulebook.matching import Index
from svid.bundle import Bundle
from svid.crl import CRL
from svid.x509svid import X509SVID

__all__ = ["Cache", "HeldX509", "View"]

_NOT_SYNCHRONISED = "not synchronised with the issuer yet"
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldX509:
    """One minted identity, and the entry as it was then."""

    entry: RegistrationEntry
    svid: X509SVID
    issued_at: datetime

    def under(self, entry: RegistrationEntry) -> Self:
        """This identity under the entry as it is now, with its hint; the same, if the entry needs another SVID."""
        if needs_svid(self.entry, entry):
            return self
        svid = self.svid if self.svid.hint == entry.hint else replace(self.svid, hint=entry.hint)
        return replace(self, entry=entry, svid=svid)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What matches a caller now: the entries in match order, the SVIDs that are already minted, and what vouches for them.

    Args:
        observed: the entries that would match if they did more than observe: nothing is given for them.
    """

    entries: tuple[RegistrationEntry, ...]
    svids: Mapping[EntryID, HeldX509]
    trust: Trust
    observed: tuple[RegistrationEntry, ...] = ()


class Cache:
    """The entries, SVIDs and bundle of this node, and the denials of its trust domain. It never holds a denied SVID.

    Args:
        bundle: what the node trusts until the feed replaces it.
    """

    def __init__(self, bundle: Bundle, denials: DenialLog) -> None:
        self._trust = Trust(bundle=bundle)
        self._crls: tuple[CRL, ...] = ()
        self.denials = denials
        self.tainted = frozenset[str]()
        """The authorities whose SVIDs must be replaced, by the names that the SVIDs use."""
        self.withdrawn = ""
        """Why nobody is given an identity, whether or not a snapshot arrived; empty: the issuer did not send this node away."""
        self.cursor: Cursor | None = None
        self._synchronised = asyncio.Event()
        self._tell_serving: Callable[[bool], None] = lambda _serving: None
        self.changed = asyncio.Event()
        """Set whenever entries or SVIDs change; the minter waits for it and clears it."""
        self._entries: dict[EntryID, RegistrationEntry] = {}
        self._svids: dict[EntryID, HeldX509] = {}
        self._denied: set[EntryID] = set()
        self._index = Index()
        self._facts: Counter[str] = Counter()
        self._needed: frozenset[str] | None = None
        self.streams = Streams()
        self._entries_end = self._svids_end = _NEVER
        """None of them expires before this time."""

    @property
    def synchronised(self) -> bool:
        """Whether a complete snapshot has arrived since the start."""
        return self._synchronised.is_set()

    async def wait_synchronised(self) -> None:
        """Return as soon as a complete snapshot has arrived."""
        await self._synchronised.wait()

    @property
    def serving(self) -> bool:
        """Whether callers are given identities: a snapshot arrived, and the issuer has not sent this node away since."""
        return self.synchronised and not self.withdrawn

    def tell_serving(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` with `serving` now and after each change, in the step that changes it: no caller sees one without the other."""
        self._tell_serving = tell
        tell(self.serving)

    @property
    def bundle(self) -> Bundle:
        """The bundle: the same object until it changes."""
        return self._trust.bundle

    @property
    def crls(self) -> tuple[CRL, ...]:
        """The newest revocation list of each authority in the bundle that has published one."""
        return self._crls

    @property
    def handed_crls(self) -> tuple[CRL, ...]:
        """The lists that workloads receive: as many as fit."""
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
        """Find what matches these selectors: nothing if the issuer sent this node away, also before the first snapshot.

        Raises:
            Refused: UNAVAILABLE before the first complete snapshot.
        """
        if not self.synchronised and not self.withdrawn:
            raise Refused(Kind.UNAVAILABLE, _NOT_SYNCHRONISED)
        matched = self._index.match(selectors)
        entries = tuple(entry for entry in matched if not entry.observe)
        svids = {entry.id: self._svids[entry.id] for entry in entries if entry.id in self._svids}
        observed = tuple(entry for entry in matched if entry.observe)
        return View(entries=entries, svids=svids, trust=self._trust, observed=observed)

    def bundle_to_check_with(self) -> Bundle:
        """The bundle that vouches for what others present.

        Raises:
            Refused: UNAVAILABLE before the first complete snapshot: what was revoked meanwhile is unknown.
        """
        if not self.synchronised:
            why = f"{_NOT_SYNCHRONISED}: {self.withdrawn}" if self.withdrawn else _NOT_SYNCHRONISED
            raise Refused(Kind.UNAVAILABLE, why)
        return self._trust.bundle

    def needed_facts(self) -> frozenset[str]:
        """The keys of selectors that any entry uses, as `type:key` (`unix:sha256`)."""
        if self._needed is None:
            self._needed = frozenset(self._facts)
        return self._needed

    def subscribe(
        self, selectors: frozenset[Selector], *, who: tuple[int, int]
    ) -> AbstractContextManager[Subscription]:
        """While the block runs, wake at changes and have the matching entries minted before others.

        Args:
            who: the uid and pid of the process.
        """
        return self.streams.open(selectors, who=who)

    def wanted(self) -> frozenset[EntryID]:
        """The entries that match a subscriber."""
        return frozenset(entry.id for selectors in self.streams.wanted for entry in self._index.match(selectors))

    def apply(self, change: Change) -> None:
        """Apply one whole step of the feed; nothing awaits in between, so nobody is served a partial step."""
        step = diff(self._entries, change)
        denied = self._take_denied_out() if self.denials.put(step.denials, change.cursor) else ()
        needed = self.needed_facts()
        # A new entry wakes no stream: its SVID will, and two wakes would be one too many. One that only observes never has an SVID.
        changed = [entry for entry in step.put if entry.observe or entry.id in self._entries]
        before = [old for entry in changed if (old := self._entries.get(entry.id)) is not None]
        touched = [*step.left, *changed, *before, *denied]
        for entry in step.left:
            self._remove(entry)
        for entry in step.put:
            self._put_entry(entry)
        for entry_id in step.stale:
            self._svids.pop(entry_id, None)
        self._carry_on(step.put)
        # Callers were not checked for a fact that no entry needed, so an entry that needs it may concern any of them.
        concerns_all = not self.synchronised or not self.needed_facts() <= needed
        self.cursor = change.cursor
        if not self.serving:
            self.withdrawn = ""
            self._synchronised.set()
            self._tell_serving(self.serving)
        if step.tainted is not None:
            self.tainted = step.tainted
        if step.bundle is not None and step.bundle != self.bundle:
            self._crls = of_bundle(self._crls, step.bundle)
            self._trust = Trust(bundle=step.bundle, crls=self._fitting())
            concerns_all = True
        self._wake(None if concerns_all else touched)

    def withdraw(self, why: str) -> None:
        """Give nobody an identity any more, because the issuer sent this node away; the next snapshot ends this."""
        self.withdrawn = why
        self._tell_serving(self.serving)
        for entry in list(self._entries.values()):
            self._remove(entry)
        self.cursor = None
        self._wake(None)

    def take_crl(self, document: bytes, *, at: datetime) -> None:
        """Replace the revocation list of one authority.

        Raises:
            CRLError: it cannot be read, belongs to no authority in the bundle, or is older than the one held.
        """
        crls = with_newest(self._crls, document, self.bundle, at=at)
        if crls is not self._crls:
            self._crls = crls
            self._trust = Trust(bundle=self.bundle, crls=self._fitting())
            self.streams.wake_in_turns()

    def hold(self, minted: Iterable[HeldX509]) -> None:
        """Hold minted SVIDs; drop those that are denied, and those whose entry was removed or now means something else."""
        taken = []
        for held in minted:
            entry = self._entries.get(held.entry.id)
            if held.svid.serial in self.denials:
                self._denied.add(held.entry.id)
            elif entry is not None and keeps_svid(held.entry, entry):
                self._svids[entry.id] = held.under(entry)
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
        """Drop the entries that have expired by the issuer's clock, and the SVIDs that have expired by both clocks.

        Returns:
            For how long nothing more can expire.
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
        """The entries that lost an SVID to a denial since the last call and have no new one; some may have been removed."""
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

    def _carry_on(self, entries: Iterable[RegistrationEntry]) -> None:
        """Serve the SVIDs that need no replacement as those of the entries as they are now."""
        for entry in entries:
            if (held := self._svids.get(entry.id)) is not None:
                self._svids[entry.id] = held.under(entry)

    def _remove(self, entry: RegistrationEntry) -> None:
        del self._entries[entry.id]
        self._svids.pop(entry.id, None)
        self._index.remove(entry)
        self._facts -= _facts(entry)
        self._needed = None

    def _wake(self, touched: Iterable[RegistrationEntry] | None) -> None:
        """Wake the minter, and the streams that these entries may concern; None: all of them."""
        self.changed.set()
        self.streams.wake(touched)


def _facts(entry: RegistrationEntry) -> Counter[str]:
    """Shape: {"unix:path": 1}; a value without a key counts as a whole."""
    return Counter(f"{selector.type}:{selector.value.partition(':')[0]}" for selector in entry.selectors)
