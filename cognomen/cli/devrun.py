"""Both daemons of `cognomen dev` in one process: what to do until the socket works, and after the machine was off or slept for long.

The command talks to the issuer over its admin socket, like every client. It controls both daemons, so it can at once invite a node again
that cannot come back on its own.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, timedelta
from pathlib import Path

import click
import structlog

import attestor.main
import issuer.main
from attestor.config import AttestorConfig
from cognomen.cli.admin import connect
from cognomen.cli.deventries import Identity, ensure_entries, node_of_entries
from cognomen.cli.devstate import DevState, Kept
from cognomen.cli.running import announce, endpoint
from cognomen.daemon.supervisor import stop_on_signals
from cognomen.daemon.waiting import first_of
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.validity import BACKDATE
from cognomen.wire.pb import admin_pb2 as pb
from issuer.config import IssuerConfig
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID

__all__ = ["DevDaemons"]

log = structlog.get_logger(__name__)

_READY_SECONDS = 30.0
_CALL_SECONDS = 10.0  # less than _READY_SECONDS: a call runs in a thread, and we wait for its end
_LOOK_SECONDS = 0.02
_WATCH_SECONDS = 2.0
_PATIENCE = 10  # checks in a row, while the attestor tries to come back on its own
_PATIENCE_WITH_JOINING = 15
_BANNED = "banned"  # an operator wants it to stay away


class DevDaemons:
    """Both daemons, and what to do until the socket works.

    Args:
        kept: what an earlier run kept, whose node can continue; None: the node joins.
    """

    def __init__(
        self, state: DevState, kept: Kept | None, config: IssuerConfig, socket: Path, identities: Sequence[Identity]
    ) -> None:
        self._state = state
        self._kept = kept
        self._issuer_config = config
        self._attestor_config = AttestorConfig(
            trust_domain=config.trust_domain, state_dir=state.path / "attestor", workload_socket=socket
        )
        self._identities = identities
        self._clock = SystemClock()
        self._node: SpiffeID | None = None
        self._has_worked = False

    async def run(self) -> None:
        """Run until Ctrl-C or SIGTERM, or until one of them fails."""
        stop = asyncio.Event()
        self._issuer_ready = asyncio.Event()
        self._joined: asyncio.Queue[SpiffeID] = asyncio.Queue()
        with stop_on_signals(stop):
            await _together(stop, self._issuer, self._attestor, self._prepare)

    # each gets a stop event that is never set: so it leaves the signals to us, and ends when we cancel it

    async def _issuer(self) -> None:
        await issuer.main.run(self._issuer_config, ready=lambda _: self._issuer_ready.set(), stop=asyncio.Event())

    async def _attestor(self) -> None:
        """Continue as the node of an earlier run; if that fails, now or later, join again with a fresh invite."""
        await self._issuer_ready.wait()
        await asyncio.to_thread(self._trust_clock)
        goes_on = await asyncio.to_thread(self._may_go_on) and self._kept is not None
        while True:
            try:
                invite = None if goes_on else await asyncio.to_thread(self._invite)
                await first_of(self._attest(invite), self._watch(_PATIENCE if goes_on else _PATIENCE_WITH_JOINING))
            except Refused as e:
                is_unknown = goes_on and e.kind in {Kind.NOT_FOUND, Kind.UNAUTHENTICATED}
                if not is_unknown and not self._has_worked:
                    raise
                log.warning("node refused, joining again", reason=e.detail)
                await asyncio.sleep(_WATCH_SECONDS if self._has_worked else 0)
            else:
                log.warning("node not in step, joining again")
            goes_on = False

    async def _attest(self, invite: Invite | None) -> None:
        self._node = None

        def ready(node: SpiffeID) -> None:
            self._node, self._has_worked = node, True
            self._joined.put_nowait(node)

        await attestor.main.run(self._attestor_config, invite=invite, ready=ready, stop=asyncio.Event())

    async def _watch(self, patience: int) -> None:
        """Return when the node failed `patience` checks in a row: after a long sleep its SVID and all that it trusts have expired."""
        missed = 0
        while missed < patience:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._node is not None and await asyncio.to_thread(self._is_in_step, self._node):
                missed, patience = 0, _PATIENCE
            else:
                missed += 1

    def _is_in_step(self, name: SpiffeID) -> bool:
        try:
            with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
                node = admin.get_node(pb.GetNodeRequest(id=str(name)))
        except Refused as e:
            return e.kind is Kind.UNAVAILABLE  # if the issuer cannot answer now, disturb nobody
        return node.state == _BANNED or (node.connected and self._has_valid_svid(node))

    def _may_go_on(self) -> bool:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            node = node_of_entries(admin)
        if node is not None and node.state == _BANNED:
            raise Refused(
                Kind.DENIED,
                f"node of {self._state.path}: banned",
                hint=f"start over: rm -r {self._state.path}, or name another directory with --state",
            )
        return node is not None and self._has_valid_svid(node)

    def _has_valid_svid(self, node: pb.Node) -> bool:
        left = node.svid_not_after.ToDatetime(tzinfo=UTC) - self._clock.now()
        return timedelta() < left <= self._issuer_config.node_svid_ttl + BACKDATE

    def _invite(self) -> Invite:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            node = node_of_entries(admin)
            request = pb.CreateInviteRequest(node_id="" if node is None else node.id)
            return Invite.parse(admin.create_invite(request).invite)

    def _trust_clock(self) -> None:
        """Confirm the issuer's clock after a long time off: everyone who relies on what it signs uses the clock of this machine."""
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            if admin.get_status().clock:
                admin.confirm_clock(pb.ConfirmClockRequest(comment="cognomen dev begins"))

    async def _prepare(self) -> None:
        """Bring the entries up to date, and announce the socket when the node has them."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._follow_entries()
        except TimeoutError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"socket: not ready after {_READY_SECONDS:.0f} s: the node is not in step with the issuer",
                hint=f"see the log, or start over: rm -r {self._state.path}",
            ) from e
        address = f"SPIFFE_ENDPOINT_SOCKET={endpoint(self._attestor_config.workload_socket)}"
        announce(address)
        if sys.stderr.isatty():
            click.echo(f"press Ctrl-C to stop; to try it in another terminal: {address} cognomen fetch x509", err=True)
        while True:
            await asyncio.to_thread(self._ensure_entries, await self._joined.get())

    async def _follow_entries(self) -> None:
        node = await self._joined.get()
        config = self._issuer_config
        self._state.save(
            Kept(
                trust_domain=config.trust_domain.name,
                node_address=config.node_address,
                join_address=config.join_address,
            )
        )
        change = await asyncio.to_thread(self._ensure_entries, node)
        while change and await asyncio.to_thread(self._acknowledged, node) < change:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(_LOOK_SECONDS)

    def _ensure_entries(self, node: SpiffeID) -> int:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            return ensure_entries(admin, node, self._identities)

    def _acknowledged(self, node: SpiffeID) -> int:
        with connect(self._state.admin_socket, seconds=_CALL_SECONDS) as admin:
            return admin.get_node(pb.GetNodeRequest(id=str(node))).acknowledged


async def _together(stop: asyncio.Event, *works: Callable[[], Awaitable[None]]) -> None:
    """Run all of them until `stop` is set or one fails, then end them all.

    Raises:
        Exception: the first failure.
    """
    failures: list[Exception] = []

    async def attend(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as e:  # noqa: BLE001 - raised again, without a group, once all have ended
            failures.append(e)
            stopped.cancel()

    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait())
        running = [group.create_task(attend(work)) for work in works]
        await asyncio.wait([stopped])
        for one in running:
            one.cancel()
    if failures:
        raise failures[0]
