"""The admin door's messages for registration entries."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

from google.protobuf.duration_pb2 import Duration

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.wire.node import entry_from_pb, entry_to_pb, selector_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from issuer.api.admin.fields import page_size, spiffe_id
from issuer.api.admin.part import Part
from issuer.decisions.filters import EntryFilter
from issuer.flows.change_entries import MAX_BATCH, Changed
from svid.errors import SVIDError

__all__ = ["EntriesPart"]

_SLICE = 256  # entries converted before other calls get a turn


class EntriesPart(Part):
    """The methods for entries."""

    async def create_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        return await _changed(await self._flows.entries.create(await _entries(request), actor=self._by(request)))

    async def update_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        entries = await _entries(request)
        return await _changed(
            await self._flows.entries.update(entries, let_expire=request.let_expire, actor=self._by(request))
        )

    async def delete_entries(self, request: pb.DeleteEntriesRequest) -> pb.EntriesResponse:
        ids = [EntryID(entry_id) for entry_id in request.ids]
        return await _changed(
            await self._flows.entries.delete(ids, let_expire=request.let_expire, actor=self._by(request))
        )

    async def get_entry(self, request: pb.GetEntryRequest) -> node_pb2.Entry:
        return entry_to_pb(await self._flows.queries.get_entry(EntryID(request.id)))

    async def list_entries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        limit = page_size(request.page_size, default=1000, most=10_000)
        where = EntryFilter(
            spiffe_id=spiffe_id(request.spiffe_id, "spiffe_id"),
            parent_id=spiffe_id(request.parent_id, "parent_id"),
            selector=selector_from_pb(request.selector) if request.HasField("selector") else None,
            below=request.below,
            owner=request.owner if request.HasField("owner") else None,
            labels=tuple(sorted(request.labels.items())),
            expires_before=self._soon(request.expiring_within) if request.HasField("expiring_within") else None,
        )
        found, token = await self._flows.queries.list_entries(where, after=request.page_token, limit=limit)
        return pb.ListEntriesResponse(entries=await _entries_to_pb(found), next_page_token=token)

    def _soon(self, within: Duration) -> datetime:
        try:
            return self._flows.clock.now() + within.ToTimedelta()
        except (ValueError, OverflowError) as e:
            raise Refused(Kind.INVALID, "expiring_within: too long") from e


async def _entries(request: pb.EntriesRequest) -> list[RegistrationEntry]:
    if len(request.entries) > MAX_BATCH:
        raise Refused(Kind.INVALID, f"entries: expected at most {MAX_BATCH}, found {len(request.entries)}")
    entries = []
    for number, message in enumerate(request.entries):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        try:
            entries.append(entry_from_pb(message))
        except SVIDError as e:
            raise Refused(Kind.INVALID, f"entries[{number}]: {e}") from e
    return entries


async def _entries_to_pb(entries: Iterable[RegistrationEntry]) -> list[node_pb2.Entry]:
    messages = []
    for number, entry in enumerate(entries):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        messages.append(entry_to_pb(entry))
    return messages


async def _changed(changed: Changed) -> pb.EntriesResponse:
    entries = await _entries_to_pb(changed.entries)
    return pb.EntriesResponse(
        entries=entries,
        warnings=changed.warnings,
        change=changed.change,
        ended=changed.taken.at_once,
        superseded=changed.taken.later,
    )
