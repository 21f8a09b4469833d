"""Keep the node in use: the bundle it trusts, and its own SVID, which is renewed at half-life or regained after an absence.

Both are saved before they are used. When half-life is: attestor/decisions/renewal. Whether the issuer's answer is good:
attestor/decisions/node. Which clock counts for what: attestor/decisions/clocks.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from attestor.decisions.minted import authority_of_x509, is_vouched_for
from attestor.decisions.node import Node, renewed, way_back
from attestor.decisions.renewal import renew_in
from attestor.issuerclient.port import IssuerClient, JoinDoor
from attestor.metrics import FAILED, OK
from attestor.state.port import State
from attestor.surroundings import Surroundings
from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines
from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused
from svid.backoff import Backoff
from svid.bundle import Bundle
from svid.keys import KeyKind, generate_private_key

__all__ = ["KeepNode"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(
    initial=timedelta(milliseconds=500), maximum=timedelta(seconds=10)
)  # how late a set clock is noticed
_RETURN_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=1))  # nothing works until then
_REFUSED_BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=30))
_NOT_THIS_NODE = frozenset({Kind.UNAUTHENTICATED, Kind.DENIED})
_CHECKPOINT, _STATE = "checkpoint of the issuer", "node on disk"
_CONTRADICTION = "record of the issuer"
_MOST_UNKEPT = 1000  # three days of them
_INVESTIGATE = (
    "compare with cognomen audit verify --checkpoint at the issuer; if that is explained, move contradictions.jsonl and checkpoints.jsonl"
    " away, both, and keep them: the next checkpoint ends this"
)
_LOOK = timedelta(seconds=10)  # how late a jump of a wall clock may be noticed
_TAINTED_AGAIN = timedelta(seconds=1)  # when a renewal already under way returned another SVID of a tainted authority
_LONG_SILENCE = timedelta(seconds=30)


class KeepNode:
    """The only holder of the node; the feed and the renewal change it through here, one at a time."""

    def __init__(
        self,
        node: Node,
        *,
        state: State,
        door: JoinDoor,
        client: IssuerClient,
        around: Surroundings,
    ) -> None:
        self.node = node
        self.pulse = Pulse()
        self._clock, self._jitter = around.clock, around.jitter
        self._troubles, self._metrics = around.troubles, around.metrics
        self._attempts = Attempts(
            log,
            around.clock,
            pulse=self.pulse,
            troubles=around.troubles,
            trouble="node svid renewal",
            over="node SVID renewed again",
            failure=self._failure,
            jitter=around.jitter,
            failures=around.metrics.renewals.labels("node", FAILED),
        )
        self.renewed = asyncio.Event()
        """Set whenever the node has a new SVID or a new bundle; the feed waits for it and clears it."""
        self._trusts_another = asyncio.Event()
        self._tainted = frozenset[str]()
        self._state = state
        self._door = door
        self._client = client
        self._changing = asyncio.Lock()
        self._node_lines, self._checkpoint_lines = RetryLines("node kept again"), RetryLines("checkpoint kept again")
        self._tell_refused: Callable[[Refused], None] = lambda _: None
        self._is_kept = True
        """Whether the last save of the node succeeded."""
        self._unkept_checkpoints: list[Checkpoint] = []
        """In the order in which they came: a harmless one must not take the place of one that contradicts."""
        self._keeping_checkpoints = asyncio.Lock()
        at = self._clock.read()
        age = max(at.issuer - node.issued_at, timedelta())  # as far as we know: it was received before we started
        self._due = at.monotonic + (self._renew_in() - age).total_seconds()

    @property
    def renew_at(self) -> datetime:
        """When its SVID is renewed next, by this node's clock."""
        return self._clock.now() + timedelta(seconds=self._due - self._clock.monotonic())

    def tell_refused(self, tell: Callable[[Refused], None]) -> None:
        """Call `tell` with each refusal of a renewal or a return."""
        self._tell_refused = tell

    async def trust(self, bundle: Bundle) -> None:
        """Trust this bundle from now on, even if it cannot be saved; that is then reported and tried again until it succeeds."""
        async with self._changing:
            if bundle == self.node.bundle:
                return
            await self._speak_as(replace(self.node, bundle=bundle))
            self._trusts_another.set()
            with suppress(Refused):  # reported
                await self._keep(self.node)

    def distrust(self, authority_ids: frozenset[str]) -> None:
        """Have the node SVID replaced now if one of these authorities signed it; it stays in use until then."""
        if authority_ids == self._tainted:
            return
        self._tainted = authority_ids
        if self._is_tainted:
            self._due = self._clock.monotonic()
            self._trusts_another.set()

    async def remember(self, checkpoint: bytes) -> None:
        """Keep a checkpoint of the issuer's audit chain; go on if it is invalid or cannot be saved."""
        try:
            heard = Checkpoint.parse(checkpoint)
            heard.check_signature()
        except ValueError as e:
            log.warning("checkpoint of the issuer not understood", reason=str(e))
            self._troubles.note(_CHECKPOINT, str(e))
        else:
            async with self._keeping_checkpoints:
                if len(self._unkept_checkpoints) < _MOST_UNKEPT:
                    self._unkept_checkpoints.append(heard)
                await self._keep_checkpoints()

    def _tell_contradiction(self, why: str, where: str) -> None:
        """Until somebody has looked and moved the file away, also after a restart."""
        if why:
            log.error("checkpoint of the issuer contradicts earlier ones", reason=why, kept_in=where, hint=_INVESTIGATE)
        if where:
            self._troubles.note(_CONTRADICTION, f"{why or 'found before'}; kept in {where}: {_INVESTIGATE}")
        else:
            self._troubles.over(_CONTRADICTION)

    async def run(self) -> None:
        """Renew the node SVID at each half-life, forever; after it has expired, come back with its key."""
        while True:
            await self._wait_until_due()
            with self._attempts.trying(not_after=self.node.svid.not_after.isoformat()):
                try:
                    await self._renew()
                except Refused as refused:
                    self._tell_refused(refused)
                    raise
            await self._attempts.rest()

    @property
    def _is_tainted(self) -> bool:
        return authority_of_x509(self.node.svid) in self._tainted

    @property
    def _is_vouched_for(self) -> bool:
        """Whether its authority is still in the bundle."""
        return is_vouched_for(self.node.svid, self.node.bundle, at=self._clock.read().issuer)

    @property
    def _is_over(self) -> bool:
        """Whether its SVID is invalid now, as far as we know; while the issuer is silent, our own clock also counts."""
        at, svid = self._clock.read(), self.node.svid
        clocks = (at.issuer, at.own) if at.silent else (at.issuer,)
        return not all(svid.not_before <= now < svid.not_after for now in clocks)

    @property
    def _must_return(self) -> bool:
        """Whether the node door is closed to it: its SVID has expired, its authority has left the bundle, or the issuer's clock may say so.

        Silence alone does not show the last of these.
        """
        return self._is_over or self._clock.read().silent >= _LONG_SILENCE or not self._is_vouched_for

    def _failure(self, refused: Refused) -> Failure:
        """Sleep no longer than the SVID lives: after its end the node comes back another way, and sooner."""
        is_us, is_over = refused.kind in _NOT_THIS_NODE, self._is_over
        left = self.node.svid.not_after - self._clock.read().issuer
        return Failure(
            event="node SVID not renewed",
            again=_REFUSED_BACKOFF if is_us else _RETURN_BACKOFF if is_over else _BACKOFF,
            at_most=left if left > timedelta() else None,
            is_error=is_over or refused.kind is not Kind.UNAVAILABLE,
            hint=way_back(refused) if is_us else refused.hint,
        )

    async def _wait_until_due(self) -> None:
        while (left := self._due - self._clock.monotonic()) > 0:
            if self._must_return:
                return
            await self._keep_what_is_not()
            self._attempts.unneeded()
            self._trusts_another.clear()
            await self._attempts.rest(self._trusts_another.wait, after=min(timedelta(seconds=left), _LOOK))

    async def _renew(self) -> None:
        key = generate_private_key(KeyKind.EC_P256)
        async with self._changing:
            if not self._is_kept:  # otherwise each attempt would cost the issuer an SVID that is never used
                await self._keep(self.node)
            is_back = self._must_return
            ask = partial(self._door.readmit, self.node) if is_back else self._client.renew
            asked_at = self._clock.monotonic()
            credential = await ask(key)
            self._clock.hear(credential.issued_at, asked_at=asked_at)
            at = self._clock.read()
            node = renewed(self.node, credential, key, at=at)
            await self._keep(node)  # before the issuer sees it in use, and from then on accepts no other
            await self._speak_as(node)
            wait = min(self._renew_in(), _TAINTED_AGAIN) if self._is_tainted else self._renew_in()
            self._due = at.monotonic + wait.total_seconds()
        self._metrics.renewals.labels("node", OK).inc()
        log.info(
            "node readmitted" if is_back else "node SVID renewed",
            spiffe_id=str(self.node.svid.spiffe_id),
            not_after=self.node.svid.not_after.isoformat(),
        )

    def _renew_in(self) -> timedelta:
        """How long after its receipt the SVID is renewed."""
        end, issued_at = self.node.svid.not_after, self.node.issued_at
        left = max(end - self._clock.now(), timedelta())
        return renew_in(end - issued_at, left=left, jitter=self._jitter())

    async def _speak_as(self, node: Node) -> None:
        self.node = node
        await self._client.use(node)
        self.renewed.set()

    async def _keep(self, node: Node) -> None:
        """Save it; if that fails, report it and raise Refused (UNAVAILABLE)."""
        self._is_kept = False  # until it is done: this task may be cancelled while the write continues
        try:
            await in_own_thread(self._state.save, node)
        except Refused as e:
            self._troubles.note(_STATE, e.detail)
            now = self._clock.monotonic()
            self._node_lines.failed(log.warning, "node not kept", now, reason=e.detail, hint=e.hint)
            raise
        self._is_kept = True
        self._troubles.over(_STATE)
        self._node_lines.over(log.info)

    async def _keep_checkpoints(self) -> None:
        if not self._unkept_checkpoints:
            return
        try:
            while self._unkept_checkpoints:
                heard = self._unkept_checkpoints[0]
                why = await in_own_thread(self._state.keep_checkpoint, heard, now=self._clock.read().own)
                del self._unkept_checkpoints[0]
                self._tell_contradiction(why, await in_own_thread(self._state.contradicted))
        except Refused as e:
            now = self._clock.monotonic()
            event = "checkpoint of the issuer not kept"
            self._checkpoint_lines.failed(log.warning, event, now, reason=e.detail, hint=e.hint)
            self._troubles.note(_CHECKPOINT, e.detail)
        else:
            self._troubles.over(_CHECKPOINT)
            self._checkpoint_lines.over(log.info)

    async def _keep_what_is_not(self) -> None:
        """Retry what could not be saved."""
        if not self._is_kept:
            async with self._changing:
                with suppress(Refused):  # reported
                    await self._keep(self.node)
        async with self._keeping_checkpoints:
            await self._keep_checkpoints()
