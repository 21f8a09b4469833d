"""Join the attestor's parts and run them: the only place here that names adapters.

What a key of the configuration means: config. How tasks are supervised: cognomen/daemon/supervisor.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import structlog

from attestor.api.denials import Denials
from attestor.api.inspect import Inspect
from attestor.api.status import counting
from attestor.api.workload import SERVICE, WorkloadAPI, X509Writer
from attestor.cache import Cache
from attestor.config import AttestorConfig
from attestor.decisions.clocks import is_valid
from attestor.decisions.node import REJOIN, Node
from attestor.deniallog import DenialLog
from attestor.flows.compare_clocks import CompareClocks
from attestor.flows.explain_identity import ExplainIdentity
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.flows.observe_attestor import ObserveAttestor
from attestor.flows.renew_svids import RenewSVIDs
from attestor.flows.serve_denials import ServeDenials
from attestor.flows.serve_workload import ServeWorkload
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.metrics import Metrics
from attestor.nodeattestor.join_token import JoinToken
from attestor.nodeclock import NodeClock
from attestor.receipts import Receipts
from attestor.state.denialfile import DenialFile
from attestor.state.disk import DiskState
from attestor.web.health import health_pages
from attestor.workloadattestor.unix import UnixAttestor
from cognomen.daemon import gate, unixrpc
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.health import Health, HealthState
from cognomen.daemon.invite import Invite
from cognomen.daemon.privatefile import alone_in, private_directory
from cognomen.daemon.reflection import Reflection, pool_without_package
from cognomen.daemon.supervisor import Supervisor, Task, stop_on_signals
from cognomen.daemon.systemd import Systemd
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.webserver import serve_pages
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID
from svid.wire.pb import workload_pb2

__all__ = ["flow_tasks", "rejoin", "run"]

log = structlog.get_logger(__name__)


async def run(
    config: AttestorConfig,
    *,
    invite: Invite | None = None,
    ready: Callable[[SpiffeID], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    systemd: Systemd | None = None,
) -> None:
    """Run an attestor until it is told to stop.

    Args:
        invite: what admits the node; needed as long as it never joined. One that it did not join by makes it another node.
        ready: called once, with the node's SPIFFE ID, when the Workload API serves from a complete snapshot.
        stop: whoever sets it ends the attestor; None: SIGTERM and SIGINT do.
        systemd: who is told, and may hold the workload socket; None: nobody. It is told ready as soon as the socket is served,
            also while the issuer is away: whoever holds a valid node must not be killed for that.

    Raises:
        Refused: what keeps it from starting, or the issuer's refusal to let it join.
    """
    async with contextlib.AsyncExitStack() as leaving:
        if stop is None:
            stop = asyncio.Event()
            leaving.enter_context(stop_on_signals(stop))
        leaving.enter_context(alone_in(private_directory(config.state_dir), "attestor"))
        attestor = _Attestor(config, ready, systemd or Systemd())
        leaving.push_async_callback(attestor.client.close)
        pages = health_pages(lambda: attestor.flows, attestor.supervisor.failing, attestor.metrics)
        await leaving.enter_async_context(serve_pages(pages, "health_address", config.health_address))
        node = await _unless(stop, attestor.join(invite))  # it may take as long as the issuer is away
        if node is not None:
            await attestor.serve(node, stop)
        log.info("attestor stopped")


async def rejoin(config: AttestorConfig, invite: Invite, joined: Callable[[SpiffeID], None]) -> None:
    """Join with a new invite, as the node that it names, keep that, and end.

    Raises:
        Refused: EXISTS while an attestor runs on this state; INVALID for the invite by which it joined before its SVID ran out; as the
            issuer refuses.
    """
    with alone_in(private_directory(config.state_dir), "attestor"):
        attestor = _Attestor(config, joined, Systemd())
        try:
            node = await attestor.join(invite)
        finally:
            await attestor.client.close()
        if not is_valid(node.svid.not_before, node.svid.not_after, attestor.clock.read()):
            raise Refused(
                Kind.INVALID, "invite: expected a new one, found the one that this node joined by before", hint=REJOIN
            )
        joined(node.svid.spiffe_id)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, Node]) -> Node | None:
    """The work's result, or None once we are told to stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait([working, stopping])


def flow_tasks(flows: ObserveAttestor) -> Sequence[Task]:
    """What the flows of a joined node do for ever."""
    return [
        Task(name="feed", run=flows.feed.run, pulse=flows.feed.pulse),
        Task(name="acknowledgements", run=flows.feed.acknowledge, pulse=flows.feed.acknowledgements_pulse),
        Task(name="denials", run=flows.denials.run, pulse=flows.denials.pulse),
        Task(name="followers", run=flows.followers.run),
        Task(name="node svid", run=flows.node.run, pulse=flows.node.pulse),
        Task(name="svids", run=flows.renewals.run, pulse=flows.renewals.pulse),
        Task(name="jwt-svids", run=flows.jwts.run, pulse=flows.jwts.pulse),
        Task(name="clocks", run=flows.compare.run),
    ]


class _Attestor:
    """The parts that live from the start to the end."""

    def __init__(self, config: AttestorConfig, ready: Callable[[SpiffeID], None], systemd: Systemd) -> None:
        self._systemd = systemd
        self.clock = NodeClock(SystemClock())
        self.client = GRPCIssuerClient()
        self.metrics = Metrics()
        self.troubles = Troubles(self.clock)
        self.supervisor = Supervisor(clock=self.clock, troubles=self.troubles, restarts=self.metrics.task_restarts)
        self.flows: ObserveAttestor | None = None
        """None until the node has joined."""
        self._config = config
        self._ready = ready
        self._state = DiskState(config.state_dir)
        self._denial_file = DenialFile(config.state_dir)
        self._jitter = secrets.SystemRandom().random

    async def join(self, invite: Invite | None) -> Node:
        """Join, or go on as the node that was kept."""
        flow = JoinIssuer(
            trust_domain=self._config.trust_domain,
            state=self._state,
            door=self.client,
            client=self.client,
            clock=self.clock,
        )
        self._systemd.status("waits for its issuer to let it join")
        return await flow.run(invite, JoinToken(invite) if invite else None)

    async def serve(self, node: Node, stop: asyncio.Event) -> None:
        """Follow, mint, and serve workloads until the stop."""
        self.flows = flows = self._flows(node)
        cache, clock = flows.cache, self.clock
        health = HealthState(SERVICE)

        async def tell_when_ready() -> None:
            await cache.wait_synchronised()
            health.set_serving(serving=True)
            log.info("attestor ready", spiffe_id=str(node.svid.spiffe_id), socket=str(self._config.workload_socket))
            self._ready(node.svid.spiffe_id)
            self._systemd.status(f"serves as {node.svid.spiffe_id}")
            await stop.wait()

        tasks = [
            *flow_tasks(flows),
            Task(name="readiness", run=tell_when_ready),
            Task(name="watchdog", run=partial(self._systemd.run_watchdog, clock)),
        ]
        workloads = ServeWorkload(cache, attestors=[UnixAttestor(clock)], minter=flows.jwts, clock=clock)
        async with self._door(workloads, flows, health):
            self._systemd.check_taken()
            self._systemd.ready()
            self._systemd.status("accepts workloads, waits for a snapshot of its issuer")
            await self.supervisor.run(tasks, stop=stop)
            self._systemd.stopping()
            health.set_serving(serving=False)

    def _flows(self, node: Node) -> ObserveAttestor:
        """The flows of a node that joined, in the hands of the one that looks at all of them."""
        client, clock, jitter, troubles, metrics = self.client, self.clock, self._jitter, self.troubles, self.metrics
        denials = DenialLog(self._denial_file.load())
        cache = Cache(node.bundle, denials)
        keep_denials = KeepDenials(denials, store=self._denial_file, clock=clock, troubles=troubles)
        keep = KeepNode(
            node,
            state=self._state,
            door=client,
            client=client,
            clock=clock,
            jitter=jitter,
            troubles=troubles,
            metrics=metrics,
        )
        receipts = Receipts(denials)
        feed = FollowFeed(
            cache,
            keep,
            keep_denials,
            receipts,
            client=client,
            clock=clock,
            jitter=jitter,
            troubles=troubles,
            metrics=metrics,
        )
        return ObserveAttestor(
            started_at=clock.now(),
            clock=clock,
            compare=CompareClocks(clock, troubles),
            cache=cache,
            node=keep,
            feed=feed,
            denials=keep_denials,
            followers=ServeDenials(denials, receipts, age=feed.age, clock=clock),
            renewals=RenewSVIDs(cache, client=client, clock=clock, jitter=jitter, troubles=troubles, metrics=metrics),
            jwts=MintJWTs(client=client, cache=cache, clock=clock, troubles=troubles, metrics=metrics),
            troubles=troubles,
            metrics=metrics,
        )

    def _door(self, workloads: ServeWorkload, observe: ObserveAttestor, health: HealthState) -> unixrpc.Server:
        path = self._config.workload_socket
        pool = pool_without_package(workload_pb2.DESCRIPTOR)
        writer = X509Writer()
        trust_domain = observe.cache.bundle.trust_domain
        explain = ExplainIdentity(
            cache=observe.cache,
            node=lambda: observe.node.node.svid.spiffe_id,
            workloads=workloads,
            clock=self.clock,
        )

        def services(caller: Caller) -> Sequence[unixrpc.Service]:
            return [
                WorkloadAPI(workloads, caller, writer),
                Denials(observe.followers, caller, trust_domain),
                Inspect(observe, explain, caller),
                Health(health),
                Reflection([SERVICE], pool),
            ]

        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as e:
            raise Refused(
                Kind.INVALID,
                f"workload_socket: expected a directory that can be made, cannot make {path.parent}: {e.strerror}",
            ) from e
        limits = gate.Limits(connections_per_uid=self._config.connections_per_uid)
        listener = gate.listen(path, 0o666, held=self._systemd.take(path))
        return unixrpc.serve(listener, services, limits, translate=counting(observe.metrics))
