"""Open an issuer's doors and run it.

What a key of the configuration means: config. How tasks are supervised: cognomen/daemon/supervisor.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from google.protobuf.descriptor_pool import Default

from cognomen.daemon import gate, unixrpc
from cognomen.daemon.caller import Caller
from cognomen.daemon.health import Health, HealthState
from cognomen.daemon.privatefile import private_directory
from cognomen.daemon.reflection import Reflection
from cognomen.daemon.supervisor import Task, stop_on_signals
from cognomen.daemon.systemd import Systemd
from cognomen.daemon.webserver import serve_pages
from cognomen.wire.pb import admin_pb2
from issuer.api.admin import AdminFlows, AdminService
from issuer.api.doors import DoorCredentials, bind, join_server, node_server
from issuer.api.join import JoinService
from issuer.api.node import NodeService
from issuer.api.status import translate
from issuer.config import IssuerConfig
from issuer.decisions.budget import Allowance
from issuer.flows.admit_call import AdmitCall
from issuer.flows.attest_node import AttestNode
from issuer.flows.await_enforcement import AwaitEnforcement
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.create_invite import CreateInvite
from issuer.flows.issue_node_svid import IssueNodeSVID
from issuer.flows.issue_svids import IssueSVIDs
from issuer.flows.keep_budgets import MintBudgets
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.readmit_node import ReadmitNode
from issuer.flows.renew_issuer_svid import IssuerIdentity, RenewIssuerSVID
from issuer.flows.renew_node import RenewNode
from issuer.flows.revoke import Revoke
from issuer.nodeattestor.join_token import JoinToken
from issuer.parts import Parts, checkpoints_of, open_parts, tasks_of
from issuer.web.health import health_pages

__all__ = ["Bound", "run"]

log = structlog.get_logger(__name__)

_STOP_SECONDS = 0.5  # for calls in flight; feeds never end by themselves
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
_ADMIN_LIMITS = gate.Limits(message_bytes=64 * 1024 * 1024, connections_per_uid=64, connections=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Where the doors listen: host:port each, ports as the system chose them."""

    node_address: str
    join_address: str


async def run(
    config: IssuerConfig,
    *,
    ready: Callable[[Bound], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    systemd: Systemd | None = None,
) -> None:
    """Run an issuer until it is told to stop.

    Args:
        ready: called once, when all doors are open.
        stop: whoever sets it ends the issuer; None: SIGTERM and SIGINT do.
        systemd: who is told, and may hold the admin socket; None: nobody.

    Raises:
        Refused: what keeps it from starting: an address that is taken, a state directory that others read, a store it cannot open.
    """
    async with contextlib.AsyncExitStack() as leaving:
        if stop is None:
            stop = asyncio.Event()
            leaving.enter_context(stop_on_signals(stop))
        parts = await open_parts(config, leaving)
        checkpoints = checkpoints_of(parts)
        leaving.push_async_callback(checkpoints.attempt)  # the last one, of all that was decided
        leaving.push_async_callback(parts.refusals.write_owed)
        credentials, own_svid = await _open_credentials(parts)
        bound = await _open_network_doors(parts, credentials, leaving)
        systemd = systemd or Systemd()
        health = await _open_admin_door(parts, bound, credentials[0], leaving, systemd)
        systemd.check_taken()
        health.set_serving(serving=True)
        log.info(
            "issuer started", trust_domain=str(config.trust_domain), node=bound.node_address, join=bound.join_address
        )
        ready(bound)
        systemd.ready()
        watchdog = Task(name="watchdog", run=partial(systemd.run_watchdog, parts.clock))
        await parts.supervisor.run([own_svid, watchdog, *tasks_of(parts, checkpoints)], stop=stop)
        systemd.stopping()
        health.set_serving(serving=False)
        log.info("issuer stopping")


async def _open_credentials(parts: Parts) -> tuple[Sequence[DoorCredentials], Task]:
    """The issuer's own SVID as the join door and the node door present it, and the task that keeps it so."""
    renew = RenewIssuerSVID(
        datastore=parts.datastore,
        issuance=parts.issuance,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.issuer_svid_ttl,
        jitter=secrets.SystemRandom().random,
        troubles=parts.troubles,
        metrics=parts.metrics,
    )
    identity = await renew()
    credentials = [DoorCredentials(identity, demand_client_certificate=demand) for demand in (False, True)]

    def present(identity: IssuerIdentity) -> None:
        for each in credentials:
            each.present(identity)

    return credentials, Task(name="issuer svid", run=partial(renew.run, identity, present), pulse=renew.pulse)


async def _open_network_doors(
    parts: Parts, credentials: Sequence[DoorCredentials], leaving: contextlib.AsyncExitStack
) -> Bound:
    node_svids = IssueNodeSVID(
        issuance=parts.issuance,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        ttl=parts.config.node_svid_ttl,
    )
    admit = AdmitCall(
        datastore=parts.datastore,
        refusals=parts.refusals,
        clones=parts.clones,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
    )
    join = join_server(_join_service(parts, node_svids))
    node = node_server(_node_service(parts, node_svids), admit)
    bound = Bound(
        join_address=bind(join, parts.config.join_address, credentials[0], key="join_address"),
        node_address=bind(node, parts.config.node_address, credentials[1], key="node_address"),
    )
    for server in (join, node):
        await server.start()
        leaving.push_async_callback(server.stop, _STOP_SECONDS)
    return bound


def _join_service(parts: Parts, node_svids: IssueNodeSVID) -> JoinService:
    join_token = JoinToken()
    attest = AttestNode(
        datastore=parts.datastore,
        attestors={join_token.name: join_token},
        node_svids=node_svids,
        refusals=parts.refusals,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
    )
    readmit = ReadmitNode(
        datastore=parts.datastore,
        node_svids=node_svids,
        refusals=parts.refusals,
        clones=parts.clones,
        clock=parts.clock,
        trust_domain=parts.config.trust_domain,
        window=parts.config.return_window,
    )
    return JoinService(attest, readmit, parts.datastore, parts.config.trust_domain)


def _node_service(parts: Parts, node_svids: IssueNodeSVID) -> NodeService:
    config = parts.config
    budgets = MintBudgets(
        entry=Allowance(burst=config.entry_svids_burst, per_second=config.entry_svids_per_second),
        node=Allowance(burst=config.node_svids_burst, per_second=config.node_svids_per_second),
        clock=parts.clock,
    )
    svids = IssueSVIDs(
        datastore=parts.datastore,
        issuance=parts.issuance,
        budgets=budgets,
        refusals=parts.refusals,
        clock=parts.clock,
        trust_domain=config.trust_domain,
        x509_ttl=config.x509_svid_ttl,
        jwt_ttl=config.jwt_svid_ttl,
        metrics=parts.metrics,
    )
    return NodeService(
        feed=parts.feed,
        svids=svids,
        renew=RenewNode(datastore=parts.datastore, node_svids=node_svids, refusals=parts.refusals),
        clock=parts.clock,
    )


async def _open_admin_door(
    parts: Parts, bound: Bound, credentials: DoorCredentials, leaving: contextlib.AsyncExitStack, systemd: Systemd
) -> HealthState:
    config = parts.config
    observe = ObserveIssuer(
        trust_domain=config.trust_domain,
        started_at=parts.clock.now(),
        clock=parts.clock,
        datastore=parts.datastore,
        feed=parts.feed,
        rotate=parts.rotate,
        guard=parts.guard,
        deferred=parts.deferred,
        svid=lambda: credentials.presented,
        troubles=parts.troubles,
        metrics=parts.metrics,
    )
    flows = AdminFlows(
        datastore=parts.datastore,
        clock=parts.clock,
        invites=CreateInvite(
            datastore=parts.datastore,
            clock=parts.clock,
            trust_domain=config.trust_domain,
            join_address=config.advertised_join_address or bound.join_address,
            node_address=config.advertised_node_address or bound.node_address,
            ttl=config.invite_ttl,
        ),
        entries=ChangeEntries(
            datastore=parts.datastore,
            clock=parts.clock,
            trust_domain=config.trust_domain,
            watch=parts.feed.watch,
            metrics=parts.metrics,
        ),
        nodes=ManageNodes(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        feed=parts.feed,
        authorities=parts.authorities,
        revoke=Revoke(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        enforcement=AwaitEnforcement(datastore=parts.datastore, clock=parts.clock, watch=parts.feed.watch),
        guard=parts.guard,
        observe=observe,
        trust_domain=config.trust_domain,
    )
    health = HealthState(_ADMIN)
    pages = serve_pages(
        health_pages(observe, health, parts.supervisor.failing), "health_address", config.health_address
    )
    await leaving.enter_async_context(pages)

    def services(caller: Caller) -> Sequence[unixrpc.Service]:
        return [AdminService(flows, caller), Health(health), Reflection([_ADMIN], Default())]

    held = systemd.take(config.admin_socket)
    if held is None:
        private_directory(config.admin_socket.parent)
    listener = gate.listen(config.admin_socket, 0o600, held=held)
    await leaving.enter_async_context(unixrpc.serve(listener, services, _ADMIN_LIMITS, translate=translate))
    return health
