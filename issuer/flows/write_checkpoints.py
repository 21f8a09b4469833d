"""Sign the head of the audit chain regularly, and put the signature where the issuer's machine cannot take it back.

cognomen/protocol/auditlog defines a checkpoint, and how anybody can check one.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines
from cognomen.protocol.auditlog import GENESIS, Checkpoint, Mark
from cognomen.protocol.errors import Refused
from issuer.checkpointsink.port import CheckpointSink
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.keymanager.port import KeyManager
from issuer.surroundings import Surroundings
from svid.keys import KeyID, KeyKind, SigningKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["CHECKPOINT_KEYS", "WriteCheckpoints"]

log = structlog.get_logger(__name__)

CHECKPOINT_KEYS = "audit-"
"""The prefix of the names of those keys that sign checkpoints, and reviews of agents for auditors (cognomen/protocol/agentreview)."""

_OUT = "checkpoint to file or syslog"
_MISSING = "stored checkpoints"
_LOST = "the key that signs checkpoints is older, and none is stored: somebody removed them, or the issuer was killed before the first"
_COMPARE = (
    "compare with cognomen audit verify --checkpoint and a file of an attestor, and see its cognomen status attestor;"
    " the next start of the issuer ends this message"
)
_RETRY = timedelta(seconds=30)


class WriteCheckpoints:
    """Writes checkpoints.

    Args:
        sinks: where checkpoints go besides the store and the attestors.
        every: how often to write one, if there is something new.
    """

    def __init__(
        self,
        *,
        datastore: Datastore,
        keys: KeyManager,
        sinks: Sequence[CheckpointSink],
        around: Surroundings,
        trust_domain: TrustDomain,
        every: timedelta,
    ) -> None:
        self.datastore = datastore
        self.keys = keys
        self.sinks = sinks
        self.clock = around.clock
        self.trust_domain = trust_domain
        self.every = every
        self.troubles = around.troubles
        self.pulse = Pulse()
        self._made_key = False  # and no checkpoint yet
        self._owed: dict[int, Checkpoint] = {}  # by the number of the sink: the checkpoint that it has not taken yet
        self._lines = RetryLines("checkpoints written again")
        self._attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="checkpoint",
            over="checkpoints signed again",
            failure=Failure(event="no checkpoint", again=self._retry),
        )

    async def __call__(self) -> Checkpoint | None:
        """Write a checkpoint if the chain has grown since the last; returns it.

        Raises:
            Refused: UNAVAILABLE from store and keys; a sink that fails is logged, and gets the latest at the next call.
        """
        # 1. Get the key first, because making one adds a row. Then compare the chain now with the last checkpoint.
        key = await self.key()
        drafted = await self.datastore.read(self._draft)
        checkpoint = None
        if drafted is not None:
            # 2. Sign and store it; the change tells the attestors. Mark it as owed first: a cancellation does not undo the commit.
            #    Beginning anew is what somebody wants who removed those that contradict the record, so say that it is done.
            if drafted.previous is None and not self._made_key:
                log.error("no checkpoint is stored, though there were some", reason=_LOST, key=key.id, hint=_COMPARE)
                self.troubles.note(_MISSING, f"{_LOST}: {_COMPARE}")
            checkpoint = drafted.signed(key)
            self._owed.update(dict.fromkeys(range(len(self.sinks)), checkpoint))
            await self.datastore.write(partial(_keep, checkpoint))
            self._made_key = False
        # 3. Hand it to the sinks. If a sink missed one, the next one that it takes covers it.
        for number, owed in tuple(self._owed.items()):
            try:
                await self.sinks[number].write(owed)
                del self._owed[number]
            except Refused as refused:
                self.troubles.note(_OUT, refused.detail)
                self._lines.failed(
                    log.warning,
                    "checkpoint not written",
                    self.clock.monotonic(),
                    reason=refused.detail,
                    hint=refused.hint,
                )
        if not self._owed:
            self.troubles.over(_OUT)
            self._lines.over(log.info)
        return checkpoint

    async def key(self) -> SigningKey:
        """The key that signs checkpoints; makes it if there is none.

        Raises:
            Refused: UNAVAILABLE, from store and keys.
        """
        names = [name for name in await self.keys.list() if name.startswith(CHECKPOINT_KEYS)]
        for name in names:
            return await self.keys.get(name)
        self._made_key = True  # before it is done: a cancellation does not undo it
        key = await self.keys.generate(KeyID(f"{CHECKPOINT_KEYS}{secrets.token_hex(8)}"), KeyKind.EC_P256)
        facts = {"public_key_sha256": thumbprint(public_key_to_der(key.public_key))}
        made = AuditEvent(
            at=self.clock.now(), actor="issuer", action=Action.CHECKPOINT_KEY_MADE, subject=key.id, facts=facts
        )
        await self.datastore.write(lambda tx: tx.audit.append([made]))
        log.info("checkpoint key made", key=key.id, **facts)
        return key

    async def run(self) -> None:
        """Write checkpoints, the first at once, until cancelled."""
        while True:
            is_done = await self.attempt()
            await self._attempts.rest(after=self.every if is_done else self._retry)

    async def attempt(self) -> bool:
        """Write one if the chain has grown; returns whether it reached every sink. Reports a failure."""
        with self._attempts.trying():
            await self()
        return not (self._attempts.is_failing or self._owed)

    @property
    def _retry(self) -> timedelta:
        return min(self.every, _RETRY)

    def _draft(self, tx: Transaction) -> Checkpoint | None:
        count, head = tx.audit.head()
        last = tx.checkpoints.latest()
        incarnation = tx.changes.head().incarnation
        if head == GENESIS or (last is not None and (last.count, last.incarnation) == (count, incarnation)):
            return None
        previous = None if last is None else Mark(count=last.count, head=last.head)
        return Checkpoint(
            trust_domain=self.trust_domain,
            incarnation=incarnation,
            count=count,
            head=head,
            at=self.clock.now(),
            public_key=b"",
            previous=previous,
        )


def _keep(checkpoint: Checkpoint, tx: Transaction) -> None:
    tx.checkpoints.add(checkpoint)
    tx.changes.append([Change(kind=ChangeKind.CHECKPOINT)])
