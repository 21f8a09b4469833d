"""The admin door: operators on the issuer's own socket. Here only words are changed; flows and queries decide.

The actor on record is the uid that the kernel names, never a field of a request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import starmap
from typing import TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from cognomen.daemon.call import only_request
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from cognomen.wire.node import (
    duration_from_pb,
    entry_from_pb,
    entry_to_pb,
    selector_from_pb,
    selector_to_pb,
    spiffe_id_from_pb,
    time_from_pb,
    time_to_pb,
)
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from issuer import queries
from issuer.api.admin_audit import list_audit, list_checkpoints
from issuer.api.admin_authorities import (
    activate_authority,
    list_authorities,
    prepare_authority,
    revoke_authority,
    rotate_authority,
    taint_authority,
)
from issuer.api.admin_revocations import blocked_to_pb, list_revocations, revocation_status, revoke
from issuer.api.admin_status import status_to_pb
from issuer.datastore.port import Datastore, EntryFilter, LedgerFilter
from issuer.decisions.admission import Node
from issuer.decisions.audit import Credential, CredentialKind, CredentialState, NodeID
from issuer.flows.await_enforcement import AwaitEnforcement
from issuer.flows.change_entries import MAX_BATCH, Changed, ChangeEntries
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.create_invite import CreateInvite
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.guard_clock import GuardClock
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.revoke import Revoke
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["AdminFlows", "AdminService"]

_MAX_NUMBER = 2**63 - 1
_MOST_BLOCKED = 100
_SLICE = 256  # entries converted before other calls have their turn

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFlows:
    """What the admin door calls."""

    datastore: Datastore
    clock: Clock
    invites: CreateInvite
    entries: ChangeEntries
    nodes: ManageNodes
    feed: FeedAttestors
    authorities: CommandAuthorities
    revoke: Revoke
    enforcement: AwaitEnforcement
    guard: GuardClock
    observe: ObserveIssuer
    trust_domain: TrustDomain


class AdminService:
    """Serves cognomen.admin.v1.Admin to one caller."""

    def __init__(self, flows: AdminFlows, caller: Caller) -> None:
        self._flows = flows
        self._actor = f"uid:{caller.uid}"

    def __mapping__(self) -> Mapping[str, Handler]:
        """The methods, by their paths."""
        methods = (
            ("CreateInvite", _unary(self._create_invite, pb.CreateInviteRequest, pb.CreateInviteResponse)),
            ("ListNodes", _unary(self._list_nodes, pb.ListNodesRequest, pb.ListNodesResponse)),
            ("GetNode", _unary(self._get_node, pb.GetNodeRequest, pb.Node)),
            ("EvictNode", _unary(self._evict_node, pb.GetNodeRequest, pb.Node)),
            ("BanNode", _unary(self._ban_node, pb.GetNodeRequest, pb.Node)),
            ("PurgeNodes", _unary(self._purge_nodes, pb.PurgeNodesRequest, pb.PurgeNodesResponse)),
            ("CreateEntries", _unary(self._create_entries, pb.EntriesRequest, pb.EntriesResponse)),
            ("UpdateEntries", _unary(self._update_entries, pb.EntriesRequest, pb.EntriesResponse)),
            ("DeleteEntries", _unary(self._delete_entries, pb.DeleteEntriesRequest, pb.EntriesResponse)),
            ("GetEntry", _unary(self._get_entry, pb.GetEntryRequest, node_pb2.Entry)),
            ("ListEntries", _unary(self._list_entries, pb.ListEntriesRequest, pb.ListEntriesResponse)),
            ("GetBundle", _unary(self._get_bundle, pb.GetBundleRequest, pb.GetBundleResponse)),
            ("ListCredentials", _unary(self._list_credentials, pb.ListCredentialsRequest, pb.ListCredentialsResponse)),
            ("ListAuthorities", _unary(self._list_authorities, pb.ListAuthoritiesRequest, pb.ListAuthoritiesResponse)),
            ("RotateAuthority", _unary(self._rotate_authority, pb.RotateAuthorityRequest, pb.ListAuthoritiesResponse)),
            (
                "PrepareAuthority",
                _unary(self._prepare_authority, pb.PrepareAuthorityRequest, pb.ListAuthoritiesResponse),
            ),
            ("ActivateAuthority", _unary(self._activate_authority, pb.AuthorityCommand, pb.ListAuthoritiesResponse)),
            ("TaintAuthority", _unary(self._taint_authority, pb.AuthorityCommand, pb.ListAuthoritiesResponse)),
            ("RevokeAuthority", _unary(self._revoke_authority, pb.AuthorityCommand, pb.ListAuthoritiesResponse)),
            ("GetStatus", _unary(self._get_status, pb.GetStatusRequest, pb.IssuerStatus)),
            ("ListAudit", _unary(self._list_audit, pb.ListAuditRequest, pb.ListAuditResponse)),
            ("ListCheckpoints", _unary(self._list_checkpoints, pb.ListCheckpointsRequest, pb.ListCheckpointsResponse)),
            ("Revoke", _unary(self._revoke, pb.RevokeRequest, pb.RevokeResponse)),
            ("LiftRevocation", _unary(self._lift_revocation, pb.GetRevocationRequest, pb.RevocationStatus)),
            ("GetRevocation", _unary(self._get_revocation, pb.GetRevocationRequest, pb.RevocationStatus)),
            ("AwaitRevocation", _unary(self._await_revocation, pb.AwaitRevocationRequest, pb.RevocationStatus)),
            ("ListRevocations", _unary(self._list_revocations, pb.ListRevocationsRequest, pb.ListRevocationsResponse)),
            ("ListBlocked", _unary(self._list_blocked, pb.ListBlockedRequest, pb.ListBlockedResponse)),
            ("ConfirmClock", _unary(self._confirm_clock, pb.ConfirmClockRequest, pb.ConfirmClockResponse)),
        )
        return {f"/cognomen.admin.v1.Admin/{name}": handler for name, handler in methods}

    async def _create_invite(self, request: pb.CreateInviteRequest) -> pb.CreateInviteResponse:
        ttl = duration_from_pb(request.ttl, "ttl") if request.HasField("ttl") else None
        node_id = (await queries.get_node(self._flows.datastore, request.node_id)).id if request.node_id else None
        made = await self._flows.invites(actor=self._actor, labels=dict(request.labels), ttl=ttl, node_id=node_id)
        return pb.CreateInviteResponse(
            invite=str(made.invite), node_spiffe_id=str(made.spiffe_id), expires_at=time_to_pb(made.expires_at)
        )

    async def _list_nodes(self, request: pb.ListNodesRequest) -> pb.ListNodesResponse:
        limit = _page_size(request.page_size, default=100, most=1000)
        found = await queries.list_nodes(self._flows.datastore, after=request.page_token, limit=limit)
        token = found[-1].id if len(found) == limit else ""
        return pb.ListNodesResponse(nodes=[self._node(node) for node in found], next_page_token=token)

    async def _get_node(self, request: pb.GetNodeRequest) -> pb.Node:
        return self._node(await queries.get_node(self._flows.datastore, request.id))

    async def _evict_node(self, request: pb.GetNodeRequest) -> pb.Node:
        node = await queries.get_node(self._flows.datastore, request.id)
        return self._node(await self._flows.nodes.evict(node.id, actor=self._actor))

    async def _ban_node(self, request: pb.GetNodeRequest) -> pb.Node:
        node = await queries.get_node(self._flows.datastore, request.id)
        return self._node(await self._flows.nodes.ban(node.id, actor=self._actor))

    async def _purge_nodes(self, request: pb.PurgeNodesRequest) -> pb.PurgeNodesResponse:
        expired_for = duration_from_pb(request.expired_for, "expired_for")
        purged = await self._flows.nodes.purge(expired_for, dry_run=request.dry_run, actor=self._actor)
        return pb.PurgeNodesResponse(nodes=[self._node(node) for node in purged])

    async def _create_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        return await _changed(await self._flows.entries.create(await _entries(request), actor=self._actor))

    async def _update_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        entries = await _entries(request)
        return await _changed(
            await self._flows.entries.update(entries, let_expire=request.let_expire, actor=self._actor)
        )

    async def _delete_entries(self, request: pb.DeleteEntriesRequest) -> pb.EntriesResponse:
        ids = [EntryID(entry_id) for entry_id in request.ids]
        return await _changed(await self._flows.entries.delete(ids, let_expire=request.let_expire, actor=self._actor))

    async def _get_entry(self, request: pb.GetEntryRequest) -> node_pb2.Entry:
        return entry_to_pb(await queries.get_entry(self._flows.datastore, EntryID(request.id)))

    async def _list_entries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        limit = _page_size(request.page_size, default=1000, most=10_000)
        where = EntryFilter(
            spiffe_id=_spiffe_id(request.spiffe_id, "spiffe_id"),
            parent_id=_spiffe_id(request.parent_id, "parent_id"),
            selector=selector_from_pb(request.selector) if request.HasField("selector") else None,
        )
        found = await queries.list_entries(self._flows.datastore, where, after=request.page_token, limit=limit)
        token = found[-1].id if len(found) == limit else ""
        return pb.ListEntriesResponse(entries=await _entries_to_pb(found), next_page_token=token)

    async def _get_bundle(self, request: pb.GetBundleRequest) -> pb.GetBundleResponse:
        del request
        bundle = await queries.get_bundle(self._flows.datastore, self._flows.trust_domain)
        return pb.GetBundleResponse(trust_domain=bundle.trust_domain.name, bundle=bundle.to_jwks())

    async def _list_credentials(self, request: pb.ListCredentialsRequest) -> pb.ListCredentialsResponse:
        limit = _page_size(request.page_size, default=100, most=1000)
        where = LedgerFilter(
            spiffe_id=_spiffe_id(request.spiffe_id, "spiffe_id"),
            entry_id=EntryID(request.entry_id) if request.entry_id else None,
            node_id=NodeID(request.node_id) if request.node_id else None,
            held_at=time_from_pb(request.held_at, "held_at") if request.HasField("held_at") else None,
            kind=_one_of(CredentialKind, request.kind, "kind"),
            state=_one_of(CredentialState, request.state, "state"),
            serial=request.serial or None,
            is_revoked=_yes_or_no(request.revoked, "revoked"),
            ends_before=time_from_pb(request.ends_before, "ends_before") if request.HasField("ends_before") else None,
        )
        before = _number(request.page_token)
        found = await queries.list_credentials(self._flows.datastore, where, before=before, limit=limit)
        token = str(found[-1][0].number) if len(found) == limit else ""
        return pb.ListCredentialsResponse(credentials=starmap(_credential, found), next_page_token=token)

    async def _list_authorities(self, request: pb.ListAuthoritiesRequest) -> pb.ListAuthoritiesResponse:
        del request
        return await list_authorities(self._flows.authorities)

    async def _rotate_authority(self, request: pb.RotateAuthorityRequest) -> pb.ListAuthoritiesResponse:
        return await rotate_authority(self._flows.authorities, request, actor=self._actor)

    async def _prepare_authority(self, request: pb.PrepareAuthorityRequest) -> pb.ListAuthoritiesResponse:
        return await prepare_authority(self._flows.authorities, request, actor=self._actor)

    async def _activate_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        return await activate_authority(self._flows.authorities, request, actor=self._actor)

    async def _taint_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        return await taint_authority(self._flows.authorities, request, actor=self._actor)

    async def _revoke_authority(self, request: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        return await revoke_authority(self._flows.authorities, request, actor=self._actor)

    async def _get_status(self, request: pb.GetStatusRequest) -> pb.IssuerStatus:
        del request
        return status_to_pb(await self._flows.observe())

    async def _list_audit(self, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        limit = _page_size(request.page_size, default=100, most=1000)
        after = min(request.after, _MAX_NUMBER)
        return await list_audit(self._flows.datastore, after=after, limit=limit, newest=request.newest)

    async def _list_checkpoints(self, request: pb.ListCheckpointsRequest) -> pb.ListCheckpointsResponse:
        limit = _page_size(request.page_size, default=100, most=1000)
        return await list_checkpoints(self._flows.datastore, limit=limit)

    async def _confirm_clock(self, request: pb.ConfirmClockRequest) -> pb.ConfirmClockResponse:
        del request
        return pb.ConfirmClockResponse(now=time_to_pb(await self._flows.guard.confirm(actor=self._actor)))

    async def _revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        return await revoke(self._flows.revoke, request, trust_domain=self._flows.trust_domain, actor=self._actor)

    async def _lift_revocation(self, request: pb.GetRevocationRequest) -> pb.RevocationStatus:
        lifted = await self._flows.revoke.lift(min(request.number, _MAX_NUMBER), actor=self._actor)
        return revocation_status(await self._flows.enforcement.look(lifted.number))

    async def _get_revocation(self, request: pb.GetRevocationRequest) -> pb.RevocationStatus:
        return revocation_status(await self._flows.enforcement.look(min(request.number, _MAX_NUMBER)))

    async def _await_revocation(self, request: pb.AwaitRevocationRequest) -> pb.RevocationStatus:
        longest = duration_from_pb(request.longest, "longest")
        number = min(request.number, _MAX_NUMBER)
        return revocation_status(await self._flows.enforcement(number, longest=longest, actor=self._actor))

    async def _list_revocations(self, request: pb.ListRevocationsRequest) -> pb.ListRevocationsResponse:
        limit = _page_size(request.page_size, default=100, most=1000)
        return await list_revocations(self._flows.revoke, before=_number(request.page_token), limit=limit)

    async def _list_blocked(self, request: pb.ListBlockedRequest) -> pb.ListBlockedResponse:
        node = await queries.get_node(self._flows.datastore, request.node_id)
        where = EntryFilter(selector=selector_from_pb(request.selector) if request.HasField("selector") else None)
        now = self._flows.clock.now()
        return blocked_to_pb(
            await queries.list_blocked(self._flows.datastore, where, node, now=now, limit=_MOST_BLOCKED)
        )

    def _node(self, node: Node) -> pb.Node:
        return pb.Node(
            id=node.id,
            spiffe_id=str(node.spiffe_id),
            attestor=node.attestor,
            selectors=[selector_to_pb(selector) for selector in sorted(node.selectors)],
            state=node.state.value,
            attested_at=time_to_pb(node.attested_at),
            current_serial=node.current_serial,
            pending_serial=node.pending_serial,
            svid_not_after=time_to_pb(node.svid_not_after),
            acknowledged=node.acknowledged,
            connected=node.id in self._flows.feed.connected,
        )


def _unary(
    answer: Callable[[RequestT], Awaitable[ReplyT]], request_type: type[RequestT], reply_type: type[ReplyT]
) -> Handler:
    async def method(stream: Stream[RequestT, ReplyT]) -> None:
        await stream.send_message(await answer(await only_request(stream)))

    return Handler(method, Cardinality.UNARY_UNARY, request_type, reply_type)


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


def _credential(credential: Credential, ended_at: datetime | None) -> pb.Credential:
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
    )
    if ended_at is not None:
        message.ended_at.FromDatetime(ended_at)
    return message


def _one_of(kind: type[_Choice], text: str, field: str) -> _Choice | None:
    try:
        return kind(text) if text else None
    except ValueError as e:
        raise Refused(Kind.INVALID, f"{field}: expected one of {', '.join(kind)}, found {text!r}") from e


def _yes_or_no(text: str, field: str) -> bool | None:
    if text not in {"", "yes", "no"}:
        raise Refused(Kind.INVALID, f"{field}: expected yes, no or nothing, found {text!r}")
    return None if not text else text == "yes"


def _page_size(asked: int, *, default: int, most: int) -> int:
    if asked > most:
        raise Refused(Kind.INVALID, f"page_size: expected at most {most}, found {asked}")
    return asked or default


def _number(token: str) -> int:
    if token and not (token.isascii() and token.isdigit() and len(token) <= 18):  # noqa: PLR2004 - fits SQLite's integers
        raise Refused(Kind.INVALID, "page_token: expected one that an earlier page gave, found another")
    return int(token or 0)


def _spiffe_id(text: str, field: str) -> SpiffeID | None:
    try:
        return spiffe_id_from_pb(text, field) if text else None
    except SVIDError as e:
        raise Refused(Kind.INVALID, str(e)) from e
