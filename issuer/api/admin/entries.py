"""The admin door's messages for registration entries."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from cognomen.protocol.durations import format_duration
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import issuer_id
from cognomen.wire.node import duration_from_pb, entry_from_pb, entry_to_pb, selector_from_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from issuer.api.admin.fields import entry_token, own_spiffe_id, page_size
from issuer.api.admin.part import Part
from issuer.api.admin.uses import silent_to_pb
from issuer.decisions.admission import Node
from issuer.decisions.filters import EntryFilter
from issuer.flows.change_entries import MAX_BATCH, Batch, Changed, How
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["EntriesPart", "changed_to_pb"]

_SLICE = 256  # entries converted before other calls get a turn
_MOST_ENTRY_BYTES = (
    32 << 20
)  # of whole entries in an answer, which has 64 MiB; the ids of the others have room beside them


class EntriesPart(Part):
    """The methods for entries."""

    async def create_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        entries = await _entries(request)
        return await changed_to_pb(
            await self._flows.entries.create(entries, how=How(strict=request.strict), actor=self._by(request))
        )

    async def update_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        entries = await _entries(request)
        how = How(let_expire=request.let_expire, strict=request.strict)
        return await changed_to_pb(await self._flows.entries.update(entries, how=how, actor=self._by(request)))

    async def delete_entries(self, request: pb.DeleteEntriesRequest) -> pb.EntriesResponse:
        ids = [EntryID(entry_id) for entry_id in request.ids]
        how = How(let_expire=request.let_expire)
        return await changed_to_pb(await self._flows.entries.delete(ids, how=how, actor=self._by(request)))

    async def apply_entries(self, request: pb.ApplyEntriesRequest) -> pb.EntriesResponse:
        batch = Batch(
            create=await _read(request.creates, "creates"),
            update=await _read(request.updates, "updates"),
            delete=[(EntryID(one.id), one.revision) for one in request.deletes],
            by_path=True,
        )
        how = How(let_expire=request.let_expire, strict=request.strict)
        work = self._flows.entries.try_out if request.dry_run else self._flows.entries.apply
        return await changed_to_pb(await work(batch, how=how, actor=self._by(request)))

    async def get_entry(self, request: pb.GetEntryRequest) -> node_pb2.Entry:
        return entry_to_pb(await self._flows.queries.get_entry(EntryID(request.id)))

    async def list_entries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        limit = page_size(request.page_size, default=1000, most=10_000)
        where = EntryFilter(
            spiffe_id=own_spiffe_id(request.spiffe_id, "spiffe_id", self._flows.trust_domain),
            parent_id=own_spiffe_id(request.parent_id, "parent_id", self._flows.trust_domain),
            selector=selector_from_pb(request.selector) if request.HasField("selector") else None,
            below=request.below,
            owner=request.owner if request.HasField("owner") else None,
            labels=tuple(sorted(request.labels.items())),
            expires_before=self._soon(request.expiring_within) if request.HasField("expiring_within") else None,
        )
        if request.HasField("unused_for"):
            groups = issuer_id(self._flows.trust_domain)
            where = replace(where, unused_since=self._before(request.unused_for), not_below=groups)
        found, token = await self._flows.queries.list_entries(where, after=entry_token(request.page_token), limit=limit)
        used, since = await self._flows.queries.last_used([entry.id for entry in found])
        silent = await self._silent(where, found)
        theirs = frozenset[SpiffeID]().union(*(parents for _, parents in silent))
        return pb.ListEntriesResponse(
            entries=await _entries_to_pb(entry for entry in found if entry.parent_id not in theirs),
            next_page_token=token,
            uses_since=time_to_pb(since),
            last_used={entry_id: time_to_pb(at) for entry_id, at in used.items()},
            not_known=await _entries_to_pb(entry for entry in found if entry.parent_id in theirs),
            not_reporting=[silent_to_pb(node) for node, _ in silent],
        )

    async def _silent(
        self, where: EntryFilter, unused: Sequence[RegistrationEntry]
    ) -> Sequence[tuple[Node, frozenset[SpiffeID]]]:
        """The nodes that may have used these entries without a report, and which of their parents each has."""
        parents = {entry.parent_id for entry in unused}
        if where.unused_since is None or not parents:  # otherwise every node is read
            return ()
        now, seen = self._flows.clock.now(), self._flows.sightings.seen
        return await self._flows.queries.silent_below(parents, since=where.unused_since, now=now, seen=seen)

    def _before(self, unused_for: Duration) -> datetime:
        """The moment since which there was no use.

        Raises:
            Refused: INVALID if uses are not kept for that long: an older one may be forgotten.
        """
        length, kept = duration_from_pb(unused_for, "unused_for"), self._flows.uses_kept
        if not timedelta() <= length <= kept:
            raise Refused(
                Kind.INVALID,
                f"unused_for: expected at most {format_duration(kept)}, for which uses are kept, found {format_duration(length)}",
                hint="the issuer's setting uses_kept says for how long; it changes nothing for what is forgotten",
            )
        return self._flows.clock.now() - length

    def _soon(self, within: Duration) -> datetime:
        try:
            return self._flows.clock.now() + within.ToTimedelta()
        except (ValueError, OverflowError) as e:
            raise Refused(Kind.INVALID, "expiring_within: too long") from e


async def _entries(request: pb.EntriesRequest) -> list[RegistrationEntry]:
    return await _read(request.entries, "entries")


async def _read(messages: Sequence[node_pb2.Entry], field: str) -> list[RegistrationEntry]:
    if len(messages) > MAX_BATCH:
        raise Refused(Kind.INVALID, f"{field}: expected at most {MAX_BATCH}, found {len(messages)}")
    entries = []
    for number, message in enumerate(messages):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        try:
            entries.append(entry_from_pb(message))
        except SVIDError as e:
            raise Refused(Kind.INVALID, f"{field}[{number}]: {e}") from e
    return entries


async def _entries_to_pb(entries: Iterable[RegistrationEntry]) -> list[node_pb2.Entry]:
    messages = []
    for number, entry in enumerate(entries):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        messages.append(entry_to_pb(entry))
    return messages


async def changed_to_pb(changed: Changed, *, room: int = _MOST_ENTRY_BYTES) -> pb.EntriesResponse:
    """Answer with the entries of a batch; once they are too large for one message, with their ids and revisions alone.

    Args:
        room: how many bytes of whole entries are enough.
    """
    entries, shortened = [], 0
    for number, entry in enumerate(changed.entries):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        message = entry_to_pb(entry) if room > 0 else node_pb2.Entry(id=entry.id, revision=entry.revision)
        shortened += room <= 0
        room -= message.ByteSize()
        entries.append(message)
    return pb.EntriesResponse(
        entries=entries,
        warnings=changed.warnings,
        change=changed.change,
        ended=changed.taken.at_once,
        superseded=changed.taken.later,
        shortened=shortened,
    )
