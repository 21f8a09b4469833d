"""The admin door's messages for the ledger of what was issued."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.wire.node import time_from_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import choice, number, own_spiffe_id, page_size, yes_or_no
from issuer.api.admin.part import Part
from issuer.decisions.exchanged import exchanged_until
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState

__all__ = ["CredentialsPart"]


class CredentialsPart(Part):
    """The methods for credentials."""

    async def list_credentials(self, request: pb.ListCredentialsRequest) -> pb.ListCredentialsResponse:
        limit, start = page_size(request.page_size), number(request.page_token)
        if request.oldest_first:
            found = await self._flows.queries.follow_ledger(after=start, limit=limit)
            return self._page(found, limit, await self._longest_lives())
        where = LedgerFilter(
            spiffe_id=own_spiffe_id(request.spiffe_id, "spiffe_id", self._flows.trust_domain),
            below=request.below and bool(request.spiffe_id),
            owner=request.owner if request.HasField("owner") else None,
            entry_id=EntryID(request.entry_id) if request.entry_id else None,
            node_id=NodeID(request.node_id) if request.node_id else None,
            held_at=time_from_pb(request.held_at, "held_at") if request.HasField("held_at") else None,
            held_since=time_from_pb(request.held_since, "held_since") if request.HasField("held_since") else None,
            held_until=time_from_pb(request.held_until, "held_until") if request.HasField("held_until") else None,
            kind=choice(CredentialKind, request.kind, "kind"),
            state=choice(CredentialState, request.state, "state"),
            serial=request.serial or None,
            is_revoked=yes_or_no(request.revoked, "revoked"),
            ends_before=time_from_pb(request.ends_before, "ends_before") if request.HasField("ends_before") else None,
        )
        found = await self._flows.queries.list_credentials(where, before=start, limit=limit)
        return self._page(found, limit, await self._longest_lives())

    @staticmethod
    def _page(
        found: Sequence[tuple[Credential, datetime | None]], limit: int, lives: Mapping[str, timedelta]
    ) -> pb.ListCredentialsResponse:
        token = str(found[-1][0].number) if len(found) == limit else ""
        rows = (_credential(one, ended_at, lives) for one, ended_at in found)
        return pb.ListCredentialsResponse(credentials=rows, next_page_token=token)


def _credential(
    credential: Credential, ended_at: datetime | None, longest_lives: Mapping[str, timedelta]
) -> pb.Credential:
    message = pb.Credential(
        number=credential.number,
        kind=credential.kind.value,
        serial=credential.serial,
        spiffe_id=str(credential.spiffe_id),
        entry_id=credential.entry_id or "",
        entry_revision=credential.entry_revision,
        node_id=credential.node_id or "",
        authority_id=credential.authority_id,
        audiences=credential.audiences,
        issued_at=time_to_pb(credential.issued_at),
        not_after=time_to_pb(credential.not_after),
        state=credential.state.value,
        revocation=credential.revocation,
        rulebook=credential.rulebook,
    )
    if ended_at is not None:
        message.ended_at.FromDatetime(ended_at)
    if (until := exchanged_until(credential.audiences, credential.not_after, longest_lives)) is not None:
        message.exchanged_until.FromDatetime(until)
    return message
