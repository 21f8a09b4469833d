"""The feed: what the issuer pushes goes into the cache, step by step, for as long as the attestor runs.

What a step changes: attestor/decisions/sync.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from attestor.cache import Cache
from attestor.decisions.crls import documents_of, left_out
from attestor.decisions.node import way_back
from attestor.decisions.sync import Change
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.issuerclient.port import IssuerClient
from attestor.metrics import Metrics
from attestor.nodeclock import NodeClock
from attestor.receipts import Receipts
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from cognomen.protocol.feed import BundleIs, CheckpointIs, EntryGone, EntryPut, Update
from svid.backoff import Backoff
from svid.errors import CRLError

__all__ = ["FollowFeed"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=100), maximum=timedelta(seconds=1))  # in step 2 s after an outage
_REFUSED_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=30))
_FEED, _CRL, _CRL_SIZE = "feed", "revocation list of the issuer", "size of the revocation lists"
_ACKNOWLEDGE_AGAIN_SECONDS = 5.0
_ACKNOWLEDGE_SECONDS = 15.0  # also where nothing came: how late a jump of the issuer's clock may be noticed
_GATHER_SECONDS = 0.1  # receipts come together: those of a hundred processes make one acknowledgement
_CHANGED_SECONDS = 1.0  # points come and go as local processes like
_NOT_THIS_NODE = frozenset({Kind.UNAUTHENTICATED, Kind.DENIED})


class FollowFeed:
    """The flow and its ports.

    Args:
        jitter: gives a number in [0, 1).
    """

    def __init__(
        self,
        cache: Cache,
        node: KeepNode,
        denials: KeepDenials,
        receipts: Receipts,
        *,
        client: IssuerClient,
        clock: NodeClock,
        jitter: Callable[[], float],
        troubles: Troubles | None = None,
        metrics: Metrics,
    ) -> None:
        self.is_connected = False
        """Whether the feed is open and has said something."""
        self.last_step_at: datetime | None = None
        """When it last said something."""
        self.pulse, self.acknowledgements_pulse = Pulse(), Pulse()
        self._troubles = troubles or Troubles(clock)
        self._metrics = metrics
        self._cache = cache
        self._node = node
        self._denials = denials
        self._receipts = receipts
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._applied = 0
        at = clock.read()
        # Before the first word since the start, what the issuer said last, as far as we know, is this node's SVID.
        self._heard_at = at.monotonic - max((at.issuer - node.node.issued_at).total_seconds(), 0.0)
        self._unacknowledged = asyncio.Event()

    def age(self) -> timedelta:
        """How old what the feed says is: how long ago it said the last word. An answer to another call tells nothing of that."""
        return timedelta(seconds=self._clock.monotonic() - self._heard_at)

    async def run(self) -> None:
        """Follow, for ever: when the feed ends or fails, go on from where we stand. What is held stays in service meanwhile."""
        delays, refused_delays = self._fresh_delays()
        while True:
            before = self._applied
            self._node.renewed.clear()
            refused = await self._try_to_follow()
            if refused is not None:
                self._troubles.note(_FEED, refused.detail)
                self._metrics.feed_failures.inc()
                self._clock.hear_nothing()
            if self._applied != before:
                delays, refused_delays = self._fresh_delays()
            not_us = refused is not None and refused.kind in _NOT_THIS_NODE
            delay = next(refused_delays if not_us else delays).total_seconds()
            self._tell(refused, delay)
            self.pulse.rest()
            await first_of(self._clock.sleep(delay), self._node.renewed.wait())

    async def acknowledge(self) -> None:
        """Tell the issuer how far we and our enforcement points are, for ever, and hear what its clock says; the latest counts."""
        while True:
            self.acknowledgements_pulse.rest()
            await first_of(
                self._unacknowledged.wait(), self._gather_receipts(), self._clock.sleep(_ACKNOWLEDGE_SECONDS)
            )
            cursor = self._cache.cursor
            await self._denials.tried(self._cache.denials.place)
            self.acknowledgements_pulse.work()
            if cursor is None:
                continue
            asked_at = self._clock.monotonic()
            self._receipts.caught_up.clear()
            self._receipts.changed.clear()
            try:
                says = await self._client.acknowledge(cursor, self._receipts.up_to(cursor))
            except Refused as e:
                log.debug("not acknowledged, trying again", reason=e.detail)
                self._clock.hear_nothing()
                self._unacknowledged.set()
                await self._clock.sleep(_ACKNOWLEDGE_AGAIN_SECONDS)
            else:
                if says is not None:
                    self._clock.hear(says, asked_at=asked_at)
                if self._cache.cursor == cursor:  # else there is more to say
                    self._unacknowledged.clear()

    async def _gather_receipts(self) -> None:
        async def gathered(event: asyncio.Event, seconds: float) -> None:
            await event.wait()
            await self._clock.sleep(seconds)

        await first_of(
            gathered(self._receipts.caught_up, _GATHER_SECONDS), gathered(self._receipts.changed, _CHANGED_SECONDS)
        )

    async def _try_to_follow(self) -> Refused | None:
        try:
            await self._follow()
        except Refused as e:
            return e
        finally:
            self.is_connected = False
        return None

    async def _follow(self) -> None:
        self.pulse.rest()
        async with aclosing(self._client.follow(self._cache.cursor)) as changes:
            async for change in changes:
                self._heard_at = self._clock.monotonic()
                if not change.is_news(self._cache.cursor):
                    continue
                self.pulse.work()
                # 1. Workloads first.
                self._cache.apply(change)
                self._take_crls(change.updates)  # before anything awaits: the cursor says that we have them
                self._applied += 1
                self.is_connected, self.last_step_at = True, self._clock.now()
                self._metrics.feed_steps.labels("snapshot" if change.snapshot else "change").inc()
                self._troubles.over(_FEED)
                self._log(change)
                # 2. Then what concerns the node itself.
                self._node.distrust(self._cache.tainted)
                await self._keep(change.updates)
                # 3. Say so, without keeping the next step waiting.
                self._unacknowledged.set()
                self.pulse.rest()

    def _take_crls(self, updates: Iterable[Update]) -> None:
        for document in documents_of(updates):
            try:
                self._cache.take_crl(document, at=self._clock.read().issuer)
            except CRLError as e:
                log.warning("revocation list of the issuer not taken", reason=str(e))
                self._troubles.note(_CRL, str(e))
            else:
                self._troubles.over(_CRL)
        if lacking := left_out(self._cache.crls, self._cache.handed_crls):
            self._troubles.note(_CRL_SIZE, lacking)
        else:
            self._troubles.over(_CRL_SIZE)

    async def _keep(self, updates: Iterable[Update]) -> None:
        for update in updates:
            match update:
                case BundleIs(bundle=bundle):  # this node's own trust: kept, and its channel made anew
                    await self._node.trust(bundle)
                case CheckpointIs(document=document):  # what was heard of the issuer's record, out of its own reach
                    await self._node.remember(document)

    def _fresh_delays(self) -> tuple[Iterator[timedelta], Iterator[timedelta]]:
        return _BACKOFF.delays(self._jitter), _REFUSED_BACKOFF.delays(self._jitter)

    def _log(self, change: Change) -> None:
        tell = log.info if change.snapshot else log.debug
        counts = Counter(map(type, change.updates))
        tell(
            "feed step applied",
            number=change.cursor.number,
            snapshot=change.snapshot,
            entries=counts[EntryPut],
            gone=counts[EntryGone],
        )

    def _tell(self, refused: Refused | None, delay: float) -> None:
        seconds = round(delay, 3)
        if refused is None:
            log.debug("feed ended, following again", delay_seconds=seconds)
        elif refused.kind in _NOT_THIS_NODE:
            hint = way_back(refused)
            log.error("issuer refused this node", reason=refused.detail, hint=hint, delay_seconds=seconds)
        else:
            log.warning("feed failed, following again", reason=refused.detail, hint=refused.hint, delay_seconds=seconds)
