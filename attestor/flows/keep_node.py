"""The node in use: what it trusts and its own SVID, renewed at half-life; kept before it is used.

When half-life is: attestor/decisions/renewal. Whether the issuer's answer is good: attestor/decisions/node.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog

from attestor.decisions.node import NEW_INVITE, Node, renewed
from attestor.decisions.renewal import renew_at
from attestor.issuerclient.port import IssuerClient
from attestor.state.port import State
from cognomen.daemon.errors import Kind, Refused
from svid.backoff import Backoff
from svid.bundle import Bundle
from svid.clock import Clock
from svid.keys import KeyKind, generate_private_key, public_key_to_der

__all__ = ["KeepNode"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=500), maximum=timedelta(seconds=30))
_LOOK_SECONDS = 30.0  # how late a jump of the wall clock may be noticed


class KeepNode:
    """The one holder of the node; the feed and the renewal change it through here, one after the other.

    Args:
        jitter: gives a number in [0, 1).
    """

    def __init__(
        self, node: Node, *, state: State, client: IssuerClient, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self.node = node
        self._state = state
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._changing = asyncio.Lock()

    async def trust(self, bundle: Bundle) -> None:
        """Trust this bundle from now on; Refused (UNAVAILABLE) when it could not be kept, and the old one stays in use."""
        async with self._changing:
            if bundle != self.node.bundle:
                await self._become(replace(self.node, bundle=bundle))

    async def run(self) -> None:
        """Renew the node SVID at each half-life, for ever."""
        delays = _BACKOFF.delays(self._jitter)
        while True:
            await self._wait_for_half_life()
            try:
                await self._renew()
            except Refused as e:
                delay = next(delays).total_seconds()
                self._tell(e, delay)
                await self._clock.sleep(delay)
            else:
                delays = _BACKOFF.delays(self._jitter)

    async def _wait_for_half_life(self) -> None:
        moment = renew_at(self.node.issued_at, self.node.svid.not_after, self._jitter())
        while (left := (moment - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(left, _LOOK_SECONDS))

    async def _renew(self) -> None:
        key = generate_private_key(KeyKind.EC_P256)
        async with self._changing:
            credential = await self._client.renew(public_key_to_der(key.public_key()))
            await self._become(renewed(self.node, credential, key, now=self._clock.now()))
        log.info(
            "node SVID renewed", spiffe_id=str(self.node.svid.spiffe_id), not_after=self.node.svid.not_after.isoformat()
        )

    async def _become(self, node: Node) -> None:
        await asyncio.to_thread(self._state.save, node)
        self.node = node
        await self._client.use(node)

    def _tell(self, refused: Refused, delay: float) -> None:
        over = self._clock.now() >= self.node.svid.not_after
        tell = log.error if over or refused.kind is not Kind.UNAVAILABLE else log.warning
        tell(
            "node SVID not renewed",
            reason=refused.detail,
            hint=NEW_INVITE if over else refused.hint,
            not_after=self.node.svid.not_after.isoformat(),
            delay_seconds=round(delay, 3),
        )
