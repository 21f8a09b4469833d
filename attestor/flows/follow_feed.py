"""Follow the feed: apply what the issuer pushes to the cache, step by step, for as long as the attestor runs.

What a step changes: attestor/decisions/sync.

The feed is *closed* (between two attempts), *open* (the issuer accepted the call but has sent nothing) or *connected* (a step has
arrived). While it is not connected, everything that is held stays in service and grows old: `age` counts from the last message on the
feed, and an answer to another call does not reset it.

What always holds:
- We resume from the cursor of the last step that was applied completely. A feed that breaks off at any point loses nothing.
- A step is first served to workloads, then applied to the node itself, then acknowledged. An acknowledgement never delays the next step.
- What is acknowledged has been applied. Its denials are on disk, or the disk refused them and that is reported.
- Delays are reset only after a feed that lasted `_LASTING_SECONDS`. A feed that opens and ends again costs the issuer as much as one that
  fails.
- A delay ends at once when the node gets a new SVID or a new bundle, because the old one may have been the problem.

Example: our cursor is 41 and the issuer goes away. The feed fails, is reported as a trouble, and is tried again after 0.1 s, 0.2 s, up to
a second. The issuer comes back at 44. We ask for everything after 41, apply it, and the trouble ends; we are now at 44 and acknowledge 44.
If the issuer had forgotten 42, it would have sent a snapshot, and every entry that the snapshot does not name would be gone. If it had
refused this node, the delays would have been 1 s to 30 s.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from attestor.cache import Cache
from attestor.decisions.crls import documents_of, left_out
from attestor.decisions.node import is_sent_away, way_back
from attestor.decisions.sync import Change
from attestor.flows.answer_questions import AnswerQuestions
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.issuerclient.port import IssuerClient
from attestor.receipts import Receipts
from attestor.surroundings import Surroundings
from attestor.uses import Uses
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.waiting import first_of
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import BundleIs, CheckpointIs, EntryGone, EntryPut, SentAwayIs, Update
from cognomen.protocol.status import SENT_AWAY
from svid.backoff import Backoff
from svid.errors import CRLError

__all__ = ["FollowFeed"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=100), maximum=timedelta(seconds=1))  # up to date 2 s after an outage
_LASTING_SECONDS = 5.0  # after a shorter feed the delays keep growing, or each would cost the issuer a new feed
_REFUSED_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=30))
_CRL, _CRL_SIZE = "revocation list of the issuer", "size of the revocation lists"
_ACKNOWLEDGE_AGAIN_SECONDS = 5.0
_ACKNOWLEDGE_SECONDS = 15.0  # even if nothing arrived; a jump of the issuer's clock may be noticed this late
_GATHER_SECONDS = 0.1  # receipts arrive together: those of a hundred processes make one acknowledgement
_CHANGED_SECONDS = 1.0  # local processes add and remove points as they like
_NOT_THIS_NODE = frozenset({Kind.UNAUTHENTICATED, Kind.DENIED})


class FollowFeed:
    """The flow and its ports."""

    def __init__(
        self,
        cache: Cache,
        node: KeepNode,
        denials: KeepDenials,
        receipts: Receipts,
        *,
        client: IssuerClient,
        uses: Uses,
        questions: AnswerQuestions,
        around: Surroundings,
    ) -> None:
        self.is_connected = False
        """Whether the feed is open and has sent something."""
        self.has_heard = False
        """Whether it has sent something since this attestor started."""
        self.last_step_at: datetime | None = None
        """When it last sent something."""
        self.pulse, self.acknowledgements_pulse = Pulse(), Pulse()
        self._clock, self._troubles, self._metrics = around.clock, around.troubles, around.metrics
        self._cache = cache
        self._node = node
        self._denials = denials
        self._receipts = receipts
        self._client = client
        self._uses = uses
        self._questions = questions
        node.tell_refused(self._withdraw_if_sent_away)  # one whose SVID has expired opens no feed
        at = self._clock.read()
        # Until the first message since the start, the last thing that we know came from the issuer is this node's SVID.
        self._heard_at = at.monotonic - max((at.issuer - node.node.issued_at).total_seconds(), 0.0)
        self._unacknowledged = asyncio.Event()
        self._attempts = Attempts(
            log,
            around.clock,
            pulse=self.pulse,
            troubles=around.troubles,
            trouble="feed",
            over="feed followed again",
            failure=_failure,
            jitter=around.jitter,
            failures=around.metrics.feed_failures,
            is_woken_early=True,
        )

    def age(self) -> timedelta:
        """How long ago the feed sent its last message, and so how old our knowledge is; answers to other calls do not count."""
        return timedelta(seconds=self._clock.monotonic() - self._heard_at)

    async def run(self) -> None:
        """Follow forever: when the feed ends or fails, resume from our cursor. What is held stays in service meanwhile."""
        while True:
            began = self._clock.monotonic()
            self._node.renewed.clear()
            refused = await self._try_to_follow()
            if self._clock.monotonic() - began >= _LASTING_SECONDS:
                self._attempts.begin_anew()
            if refused is None:
                log.debug("feed ended, following again")
                self._attempts.put_off(_BACKOFF)
            else:
                self._clock.hear_nothing()
                self._attempts.failed(refused)
                self._withdraw_if_sent_away(refused)
            await self._attempts.rest(self._node.renewed.wait)

    def _withdraw_if_sent_away(self, refused: Refused) -> None:
        """What it holds is revoked by then, so that relying parties would refuse whoever is given it.

        The reason may change meanwhile: a node whose ban is lifted is forgotten, and then it is no longer banned.
        """
        if not is_sent_away(refused):
            return
        why = f"{SENT_AWAY} ({refused.reason}); cognomen status attestor says how it comes back"
        if why != self._cache.withdrawn:
            log.error("no identities are handed out any more", reason=refused.detail, hint=way_back(refused))
            self._cache.withdraw(why)

    def _heed_sending_away(self, updates: Iterable[Update]) -> None:
        for update in updates:
            if isinstance(update, SentAwayIs):
                self._withdraw_if_sent_away(Refused(Kind.DENIED, SENT_AWAY).because(update.reason))

    async def acknowledge(self) -> None:
        """Tell the issuer forever how far we, our enforcement points and our reports are, and learn its time; the latest answer counts."""
        while True:
            self.acknowledgements_pulse.rest()
            await first_of(
                self._unacknowledged.wait(), self._gather_receipts(), self._clock.sleep(_ACKNOWLEDGE_SECONDS)
            )
            cursor = self._cache.cursor
            await self._denials.tried(self._cache.denials.place)
            self.acknowledgements_pulse.work()
            if cursor is None:  # nothing was applied yet, or the node was sent away: the next step sets it again
                self._unacknowledged.clear()
                continue
            asked_at = self._clock.monotonic()
            self._receipts.caught_up.clear()
            self._receipts.changed.clear()
            try:
                says = await self._client.acknowledge(cursor, self._receipts.up_to(cursor), self._uses.reported())
            except Refused as e:
                log.debug("not acknowledged, trying again", reason=e.detail)
                self._clock.hear_nothing()
                self._unacknowledged.set()
                await self._clock.sleep(_ACKNOWLEDGE_AGAIN_SECONDS)
            else:
                if says is not None:
                    self._clock.hear(says, asked_at=asked_at)
                if self._cache.cursor == cursor:  # otherwise there is more to acknowledge
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
                self._heard_at, self.has_heard = self._clock.monotonic(), True
                self._questions.take(change.questions)
                if not change.is_news(self._cache.cursor):
                    continue
                self.pulse.work()
                # 1. Workloads first.
                self._cache.apply(change)
                self._take_crls(change.updates)  # before any await: the cursor already claims that we have them
                self._heed_sending_away(change.updates)  # as well: whoever wakes now is told why
                self.is_connected, self.last_step_at = True, self._clock.now()
                self._metrics.feed_steps.labels("snapshot" if change.snapshot else "change").inc()
                self._attempts.well()
                self._log(change)
                # 2. Then what concerns the node itself.
                self._node.distrust(self._cache.tainted)
                await self._keep(change.updates)
                # 3. Acknowledge it without delaying the next step.
                self._unacknowledged.set()
                self.pulse.rest()

    def _take_crls(self, updates: Iterable[Update]) -> None:
        documents, wrong = list(documents_of(updates)), ""
        for document in documents:
            try:
                self._cache.take_crl(document, at=self._clock.read().issuer)
            except CRLError as e:
                log.warning("revocation list of the issuer rejected", reason=str(e))
                wrong = str(e)
        if wrong:
            self._troubles.note(_CRL, wrong)
        elif documents:
            self._troubles.over(_CRL)
        if lacking := left_out(self._cache.crls, self._cache.handed_crls):
            self._troubles.note_lasting(_CRL_SIZE, lacking)
        else:
            self._troubles.over(_CRL_SIZE)

    async def _keep(self, updates: Iterable[Update]) -> None:
        for update in updates:
            match update:
                case BundleIs(bundle=bundle):  # this node's own trust: it is kept, and the channel is rebuilt
                    await self._node.trust(bundle)
                case CheckpointIs(document=document):  # kept here, where the issuer cannot change it
                    await self._node.remember(document)

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


def _failure(refused: Refused) -> Failure:
    if refused.kind in _NOT_THIS_NODE:
        event, hint = "issuer refused this node", way_back(refused)
        return Failure(event=event, again=_REFUSED_BACKOFF, is_error=True, hint=hint)
    return Failure(event="feed failed, following again", again=_BACKOFF, hint=refused.hint)
