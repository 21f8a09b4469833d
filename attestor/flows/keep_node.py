"""The node in use: what it trusts and its own SVID, renewed at half-life, or got back after an absence; kept before it is used.

When half-life is: attestor/decisions/renewal. Whether the issuer's answer is good: attestor/decisions/node. Which clock counts for what:
attestor/decisions/clocks.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from attestor.decisions.minted import authority_of_x509, is_vouched_for
from attestor.decisions.node import Node, renewed, way_back
from attestor.decisions.renewal import renew_in
from attestor.issuerclient.port import IssuerClient, JoinDoor
from attestor.metrics import FAILED, OK, Metrics
from attestor.nodeclock import NodeClock
from attestor.state.port import State
from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from svid.backoff import Backoff
from svid.bundle import Bundle
from svid.keys import KeyKind, generate_private_key, public_key_to_der

__all__ = ["KeepNode"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=500), maximum=timedelta(seconds=30))
_RETURN_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=1))  # nothing works meanwhile
_REFUSED_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=30))
_NOT_THIS_NODE = frozenset({Kind.UNAUTHENTICATED, Kind.DENIED})
_RENEWAL, _CHECKPOINT = "node svid renewal", "checkpoint of the issuer"
_LOOK_SECONDS = 10.0  # how late a jump of a wall clock may be noticed
_TAINTED_AGAIN = timedelta(seconds=1)  # where a renewal that was under way has brought another of a tainted authority
_LONG_SILENCE = timedelta(seconds=30)


class KeepNode:
    """The one holder of the node; the feed and the renewal change it through here, one after the other.

    Args:
        jitter: gives a number in [0, 1).
    """

    def __init__(
        self,
        node: Node,
        *,
        state: State,
        door: JoinDoor,
        client: IssuerClient,
        clock: NodeClock,
        jitter: Callable[[], float],
        troubles: Troubles | None = None,
        metrics: Metrics,
    ) -> None:
        self.node = node
        self.pulse = Pulse()
        self._troubles = troubles or Troubles(clock)
        self._metrics = metrics
        self.renewed = asyncio.Event()
        """Set whenever the node speaks with another SVID or trusts another bundle; the feed waits for it and clears it."""
        self._trusts_another = asyncio.Event()
        self._tainted = frozenset[str]()
        self._state = state
        self._door = door
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._changing = asyncio.Lock()
        at = clock.read()
        age = max(at.issuer - node.issued_at, timedelta())  # as far as it is known: it was received before we started
        self._due = at.monotonic + (self._renew_in() - age).total_seconds()

    @property
    def renew_at(self) -> datetime:
        """When its SVID is renewed next, by this node's clock."""
        return self._clock.now() + timedelta(seconds=self._due - self._clock.monotonic())

    async def trust(self, bundle: Bundle) -> None:
        """Trust this bundle from now on; Refused (UNAVAILABLE) when it could not be kept, and the old one stays in use."""
        async with self._changing:
            if bundle != self.node.bundle:
                await self._become(replace(self.node, bundle=bundle))
                self._trusts_another.set()

    def distrust(self, authority_ids: frozenset[str]) -> None:
        """Have the node SVID replaced now if one of these authorities signed it; it stays in use until then."""
        if authority_ids == self._tainted:
            return
        self._tainted = authority_ids
        if self._is_tainted:
            self._due = self._clock.monotonic()
            self._trusts_another.set()

    async def remember(self, checkpoint: bytes) -> None:
        """Keep a checkpoint of the issuer's audit chain; one that is none, or cannot be kept, is no reason to stop."""
        try:
            heard = Checkpoint.parse(checkpoint)
            heard.check_signature()
            await asyncio.to_thread(self._state.keep_checkpoint, heard)
        except ValueError as e:
            log.warning("checkpoint of the issuer not understood", reason=str(e))
            self._troubles.note(_CHECKPOINT, str(e))
        except Refused as e:
            log.warning("checkpoint of the issuer not kept", reason=e.detail, hint=e.hint)
            self._troubles.note(_CHECKPOINT, e.detail)
        else:
            self._troubles.over(_CHECKPOINT)

    async def run(self) -> None:
        """Renew the node SVID at each half-life, for ever; once it ran out, come back by its key."""
        delays = self._fresh_delays()
        while True:
            await self._wait_until_due()
            self.pulse.work()
            try:
                await self._renew()
            except Refused as e:
                which = _REFUSED_BACKOFF if e.kind in _NOT_THIS_NODE else self._patience()
                delay = next(delays[which]).total_seconds()
                self._tell(e, delay)
                self._troubles.note(_RENEWAL, e.detail)
                self._metrics.renewals.labels("node", FAILED).inc()
                rest = self._at_most_until_over(delay)
                self.pulse.rest()
                await self._clock.sleep(rest)
            else:
                self._troubles.over(_RENEWAL)
                self._metrics.renewals.labels("node", OK).inc()
                delays = self._fresh_delays()

    @property
    def _is_tainted(self) -> bool:
        return authority_of_x509(self.node.svid) in self._tainted

    @property
    def _is_vouched_for(self) -> bool:
        """Whether its authority is still in the bundle."""
        return is_vouched_for(self.node.svid, self.node.bundle, at=self._clock.read().issuer)

    @property
    def _is_over(self) -> bool:
        """Whether its SVID is not valid now, as far as we know; while the issuer is silent, our own clock counts, too."""
        at, svid = self._clock.read(), self.node.svid
        clocks = (at.issuer, at.own) if at.silent else (at.issuer,)
        return not all(svid.not_before <= now < svid.not_after for now in clocks)

    @property
    def _must_return(self) -> bool:
        """Whether the node door is closed to it: its SVID is over, or its authority has left the bundle, or the issuer's clock may say so.

        The last of these, silence does not tell.
        """
        return self._is_over or self._clock.read().silent >= _LONG_SILENCE or not self._is_vouched_for

    def _at_most_until_over(self, delay: float) -> float:
        """Sleep no longer than the SVID lives: from its end on it comes back another way, and sooner."""
        left = (self.node.svid.not_after - self._clock.read().issuer).total_seconds()
        return min(delay, left) if left > 0 else delay

    def _patience(self) -> Backoff:
        return _RETURN_BACKOFF if self._is_over else _BACKOFF

    def _fresh_delays(self) -> Mapping[Backoff, Iterator[timedelta]]:
        return {one: one.delays(self._jitter) for one in (_BACKOFF, _RETURN_BACKOFF, _REFUSED_BACKOFF)}

    async def _wait_until_due(self) -> None:
        while (left := self._due - self._clock.monotonic()) > 0:
            if self._must_return:
                return
            self._troubles.over(_RENEWAL)
            self._trusts_another.clear()
            rest = min(left, _LOOK_SECONDS)
            self.pulse.rest()
            await first_of(self._clock.sleep(rest), self._trusts_another.wait())

    async def _renew(self) -> None:
        key = generate_private_key(KeyKind.EC_P256)
        public_key = public_key_to_der(key.public_key())
        async with self._changing:
            is_back = self._must_return
            ask = partial(self._door.readmit, self.node) if is_back else self._client.renew
            asked_at = self._clock.monotonic()
            credential = await ask(public_key)
            self._clock.hear(credential.issued_at, asked_at=asked_at)
            at = self._clock.read()
            await self._become(renewed(self.node, credential, key, at=at))
            wait = min(self._renew_in(), _TAINTED_AGAIN) if self._is_tainted else self._renew_in()
            self._due = at.monotonic + wait.total_seconds()
        log.info(
            "node readmitted" if is_back else "node SVID renewed",
            spiffe_id=str(self.node.svid.spiffe_id),
            not_after=self.node.svid.not_after.isoformat(),
        )

    def _renew_in(self) -> timedelta:
        """How long after it was received its SVID is renewed."""
        end, issued_at = self.node.svid.not_after, self.node.issued_at
        left = max(end - self._clock.now(), timedelta())
        return renew_in(end - issued_at, left=left, jitter=self._jitter())

    async def _become(self, node: Node) -> None:
        await asyncio.to_thread(self._state.save, node)
        self.node = node
        await self._client.use(node)
        self.renewed.set()

    def _tell(self, refused: Refused, delay: float) -> None:
        tell = log.error if self._is_over or refused.kind is not Kind.UNAVAILABLE else log.warning
        tell(
            "node SVID not renewed",
            reason=refused.detail,
            hint=way_back(refused) if refused.kind in _NOT_THIS_NODE else refused.hint,
            not_after=self.node.svid.not_after.isoformat(),
            delay_seconds=round(delay, 3),
        )
