"""The admin door: its flows, its socket, and the health pages beside it."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from cognomen.daemon.socketwatch import SocketWatch, WatchedSocket
from cognomen.daemon.webserver import serve_pages
from cognomen.gate import gate, unixrpc
from cognomen.gate.caller import Caller
from cognomen.gate.health import Health, HealthState
from cognomen.gate.reflection import Reflection
from cognomen.process.privatefile import private_directory
from cognomen.wire.pb import admin_pb2
from issuer.api.admin.part import AdminFlows
from issuer.api.admin.service import AdminService
from issuer.api.doors import DoorCredentials
from issuer.api.status import translate
from issuer.config import IssuerConfig, longest_lives
from issuer.flows.apply_rulebook import ApplyRulebook
from issuer.flows.await_enforcement import AwaitEnforcement
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.create_invite import CreateInvite
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.record_exports import RecordExports
from issuer.flows.revoke import Revoke
from issuer.nodeattestor.join_token import NAME as JOIN_TOKEN
from issuer.parts import Parts
from issuer.web.health import health_pages

__all__ = ["ADMIN_MODE", "Bound", "open_admin_door"]

_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
_LIMITS = gate.Limits(message_bytes=64 * 1024 * 1024, connections_per_uid=64, connections=64)
ADMIN_MODE = 0o600
"""Of the admin socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Where the doors listen, each as host:port, with ports as the system chose them."""

    node_address: str
    join_address: str


async def open_admin_door(
    parts: Parts,
    bound: Bound,
    credentials: DoorCredentials,
    leaving: contextlib.AsyncExitStack,
    held: socket.socket | None,
) -> tuple[HealthState, SocketWatch]:
    """Open the admin socket and the health pages, until `leaving` ends.

    Args:
        bound: where the other doors listen.
        credentials: the issuer's own SVID, for the health pages.
        held: the admin socket, if systemd holds it.

    Returns:
        What the admin socket says about us, and what looks whether it is still there.
    """
    config = parts.config
    observe = ObserveIssuer(
        trust_domain=config.trust_domain,
        started_at=parts.around.clock.now(),
        around=parts.around,
        datastore=parts.datastore,
        watch=parts.watch,
        outlook=parts.outlook,
        guard=parts.guard,
        deferred=parts.deferred,
        limits=parts.limits,
        feeds=lambda: parts.feed.open,
        svid=lambda: credentials.presented,
        damage=lambda: parts.check_store.damage,
        reviews=parts.review_dates,
    )
    flows = _admin_flows(parts, bound, observe)
    health = HealthState(_ADMIN)
    watches: list[SocketWatch] = []

    def failing() -> Sequence[str]:
        return [*parts.supervisor.failing(), *(line for watch in watches for line in watch.missing())]

    pages = serve_pages(health_pages(observe, health, failing), "health_address", config.health_address)
    await leaving.enter_async_context(pages)

    def services(caller: Caller) -> Sequence[unixrpc.Service]:
        served: list[unixrpc.Service] = [AdminService(flows, caller), Health(health)]
        return [*served, Reflection(served)]

    listener = held or _bind_admin(config, waits=True)
    server = unixrpc.serve(listener, services, _LIMITS, translate=translate)
    await leaving.enter_async_context(server)

    def bind_again() -> socket.socket:
        again = _bind_admin(config, waits=False)
        server.move_to(again)
        return again

    watched = WatchedSocket(
        what="admin socket",
        path=config.admin_socket,
        listener=listener,
        bind=bind_again if held is None else None,
        unit="cognomen-issuer.socket",
    )
    watches.append(SocketWatch(watched, clock=parts.around.clock, troubles=parts.around.troubles))
    return health, watches[0]


def _bind_admin(config: IssuerConfig, *, waits: bool) -> socket.socket:
    private_directory(config.admin_socket.parent)
    return gate.listen(config.admin_socket, ADMIN_MODE, waits=waits)


def _admin_flows(parts: Parts, bound: Bound, observe: ObserveIssuer) -> AdminFlows:
    config = parts.config
    return AdminFlows(
        queries=parts.queries,
        clock=parts.around.clock,
        invites=CreateInvite(
            datastore=parts.datastore,
            around=parts.around,
            trust_domain=config.trust_domain,
            join_address=config.advertised_join_address or bound.join_address,
            node_address=config.advertised_node_address or bound.node_address,
            ttl=config.invite_ttl,
            attestor=JOIN_TOKEN,
        ),
        entries=ChangeEntries(
            datastore=parts.datastore,
            around=parts.around,
            trust_domain=config.trust_domain,
            node_attestors=tuple(parts.node_attestors),
            watch=parts.watch,
        ),
        nodes=ManageNodes(datastore=parts.datastore, around=parts.around, watch=parts.watch),
        sightings=parts.sightings,
        return_window=config.return_window,
        feed=parts.feed,
        authorities=parts.authorities,
        exports=RecordExports(datastore=parts.datastore, outlook=parts.outlook, around=parts.around),
        rulebooks=ApplyRulebook(
            datastore=parts.datastore,
            around=parts.around,
            trust_domain=config.trust_domain,
            node_attestors=tuple(parts.node_attestors),
            watch=parts.watch,
            limits=parts.limits,
        ),
        agents=parts.agents,
        limits=parts.limits,
        reviews=parts.reviews,
        revoke=Revoke(datastore=parts.datastore, around=parts.around, watch=parts.watch),
        enforcement=AwaitEnforcement(datastore=parts.datastore, around=parts.around, watch=parts.watch),
        guard=parts.guard,
        observe=observe,
        trust_domain=config.trust_domain,
        uses_kept=config.uses_kept,
        jwt_issuer=config.jwt_issuer,
        longest_lives=longest_lives(config.providers.values()),
    )
