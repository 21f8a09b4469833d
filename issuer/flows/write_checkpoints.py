"""Sign how far the audit chain is, once in a while, and put that where the issuer's machine cannot take it back.

What a checkpoint is, and how anybody checks one: cognomen/daemon/auditlog.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog

from cognomen.daemon.auditlog import GENESIS, Checkpoint
from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from issuer.checkpointsink.port import CheckpointSink
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.keymanager.port import KeyManager
from svid.clock import Clock
from svid.keys import KeyID, KeyKind, SigningKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["CHECKPOINT_KEYS", "WriteCheckpoints"]

log = structlog.get_logger(__name__)

CHECKPOINT_KEYS = "audit-"
"""How the names of keys begin that sign checkpoints, and nothing else."""

_SIGNED, _OUT = "checkpoint", "checkpoint to file or syslog"
_RETRY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCheckpoints:
    """Writes checkpoints.

    Args:
        sinks: where else than to the store and the attestors.
        every: how often, if there is something new.
    """

    datastore: Datastore
    keys: KeyManager
    sinks: Sequence[CheckpointSink]
    clock: Clock
    trust_domain: TrustDomain
    every: timedelta
    troubles: Troubles
    pulse: Pulse = field(default_factory=Pulse)
    _owed: dict[int, Checkpoint] = field(default_factory=dict)  # by the sink's number: what it did not take yet

    async def __call__(self) -> Checkpoint | None:
        """Write one if the chain has grown since the last; returns it.

        Raises:
            Refused: UNAVAILABLE as store and keys; a sink that fails is logged, and gets the latest at the next call.
        """
        # 1. The key first: that it was made is a row, too. Then, how far is the chain, and how far was it?
        key = await self._key()
        drafted = await self.datastore.read(self._draft)
        checkpoint = None
        if drafted is not None:
            # 2. Signed, and kept: the change tells the attestors. Owed before that: whoever cancels us meanwhile does not undo the commit.
            checkpoint = drafted.signed(key)
            self._owed.update(dict.fromkeys(range(len(self.sinks)), checkpoint))
            await self.datastore.write(partial(_keep, checkpoint))
        # 3. Out of our hands; what came between two that a sink takes is covered by the later one.
        for number, owed in tuple(self._owed.items()):
            try:
                await self.sinks[number].write(owed)
                del self._owed[number]
            except Refused as refused:
                self.troubles.note(_OUT, refused.detail)
                log.warning("checkpoint not written", reason=refused.detail, hint=refused.hint)
        if not self._owed:
            self.troubles.over(_OUT)
        return checkpoint

    async def run(self) -> None:
        """Write them, the first at once, until cancelled."""
        while True:
            self.pulse.work()
            rest = (self.every if await self.attempt() else min(self.every, _RETRY)).total_seconds()
            self.pulse.rest()
            await self.clock.sleep(rest)

    async def attempt(self) -> bool:
        """Write one if the chain has grown; whether all went where it should. A failure is told."""
        try:
            await self()
        except Refused as refused:
            self.troubles.note(_SIGNED, refused.detail)
            log.warning("no checkpoint", reason=refused.detail, hint=refused.hint)
            return False
        self.troubles.over(_SIGNED)
        return not self._owed

    def _draft(self, tx: Transaction) -> Checkpoint | None:
        count, head = tx.audit.head()
        last = tx.checkpoints.latest()
        incarnation = tx.changes.head().incarnation
        if head == GENESIS or (last is not None and (last.count, last.incarnation) == (count, incarnation)):
            return None
        return Checkpoint(
            trust_domain=self.trust_domain,
            incarnation=incarnation,
            count=count,
            head=head,
            at=self.clock.now(),
            public_key=b"",
        )

    async def _key(self) -> SigningKey:
        """The key of checkpoints, made when there is none."""
        names = [name for name in await self.keys.list() if name.startswith(CHECKPOINT_KEYS)]
        for name in names:
            return await self.keys.get(name)
        key = await self.keys.generate(KeyID(f"{CHECKPOINT_KEYS}{secrets.token_hex(8)}"), KeyKind.EC_P256)
        facts = {"public_key_sha256": thumbprint(public_key_to_der(key.public_key))}
        made = AuditEvent(
            at=self.clock.now(), actor="issuer", action="checkpoint key made", subject=key.id, facts=facts
        )
        await self.datastore.write(lambda tx: tx.audit.append([made]))
        log.info("checkpoint key made", key=key.id, **facts)
        return key


def _keep(checkpoint: Checkpoint, tx: Transaction) -> None:
    tx.checkpoints.add(checkpoint)
    tx.changes.append([Change(kind=ChangeKind.CHECKPOINT)])
