"""The entries as a batch will leave them, read from the store as it is before the batch, or while the batch is written."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.names import issuer_id
from issuer.datastore.port import FoundEntries
from issuer.decisions import registration
from issuer.decisions.entrysteps import Step
from issuer.decisions.filters import EntryFilter
from issuer.decisions.registration import fingerprint
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["EntriesAfter"]


class EntriesAfter:
    """What is stored, with the entries of the batch in place of those that they replace.

    Args:
        entries: what is stored.
        steps: the batch.
    """

    def __init__(self, entries: FoundEntries, steps: Sequence[Step]) -> None:
        self._entries = entries
        self._done = [step for step in steps if step.action is not None]
        self._touched = {step.entry.id for step in self._done}

    @cached_property
    def fresh(self) -> Sequence[RegistrationEntry]:
        """Those of the batch, created or updated."""
        return [step.after for step in self._done if step.after is not None]

    @cached_property
    def gone_or_other(self) -> Collection[EntryID]:
        """Those that the batch deletes, or gives another SPIFFE ID, parent or selectors."""
        changed = ((step.before, step.after) for step in self._done)
        return {
            before.id
            for before, after in changed
            if before is not None and (after is None or fingerprint(before) != fingerprint(after))
        }

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        """Every entry whose parent is one of these."""
        yield from (entry for entry in self._entries.below(parents) if entry.id not in self._touched)
        for parent in set(parents):
            yield from self._fresh_below.get(parent, ())

    def groups(self, trust_domain: TrustDomain) -> Sequence[RegistrationEntry]:
        """Every node group."""
        return tuple(self.below([issuer_id(trust_domain)]))

    def alike(self, entry: RegistrationEntry, *, most: int) -> int:
        """Count entries with the parent and the selectors of this one, up to that many."""
        wanted = registration.alike(entry)
        before = [step.before for step in self._done if step.before is not None]
        replaced = sum(registration.alike(one) == wanted for one in before)
        added = sum(registration.alike(one) == wanted for one in self.fresh)
        return min(most, self._entries.alike(entry, most=most + replaced) - replaced + added)

    def each(self, where: EntryFilter, *, limit: int) -> Iterator[RegistrationEntry]:
        """Those of the first `limit` stored entries that match which the batch leaves alone, then all of the batch."""
        found = self._entries.each(where, after="", limit=limit)
        yield from (entry for entry in found if entry.id not in self._touched)
        yield from self.fresh

    @cached_property
    def _fresh_below(self) -> dict[SpiffeID, list[RegistrationEntry]]:
        found: defaultdict[SpiffeID, list[RegistrationEntry]] = defaultdict(list)
        for entry in self.fresh:
            found[entry.parent_id].append(entry)
        return dict(found)
