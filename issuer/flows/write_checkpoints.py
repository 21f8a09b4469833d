"""Sign how far the audit chain is, once in a while, and put that where the issuer's machine cannot take it back.

What a checkpoint is, and how anybody checks one: cognomen/daemon/auditlog.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cognomen.daemon.auditlog import GENESIS, Checkpoint
from cognomen.daemon.errors import Refused
from cognomen.daemon.troubles import Troubles
from issuer.checkpointsink.port import CheckpointSink
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.changes import Change, ChangeKind
from issuer.keymanager.port import KeyManager
from svid.clock import Clock
from svid.keys import KeyID, KeyKind, SigningKey
from svid.spiffeid import TrustDomain

__all__ = ["CHECKPOINT_KEYS", "WriteCheckpoints"]

log = structlog.get_logger(__name__)

CHECKPOINT_KEYS = "audit-"
"""How the names of keys begin that sign checkpoints, and nothing else."""

_SIGNED, _OUT = "checkpoint", "checkpoint to file or syslog"


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

    async def __call__(self) -> Checkpoint | None:
        """Write one if the chain has grown since the last; returns it.

        Raises:
            Refused: UNAVAILABLE as store and keys; a sink that fails is logged, and gets the next one.
        """
        # 1. How far is it, and how far was it?
        drafted = await self.datastore.read(self._draft)
        if drafted is None:
            return None
        # 2. Signed, and kept: the change tells the attestors.
        checkpoint = drafted.signed(await self._key())

        def work(tx: Transaction) -> None:
            tx.checkpoints.add(checkpoint)
            tx.changes.append([Change(kind=ChangeKind.CHECKPOINT)])

        await self.datastore.write(work)
        # 3. Out of our hands.
        for sink in self.sinks:
            try:
                await sink.write(checkpoint)
                self.troubles.over(_OUT)
            except Refused as refused:
                self.troubles.note(_OUT, refused.detail)
                log.warning("checkpoint not written", reason=refused.detail, hint=refused.hint)
        return checkpoint

    async def run(self) -> None:
        """Write them, until cancelled."""
        while True:
            await self.clock.sleep(self.every.total_seconds())
            try:
                await self()
                self.troubles.over(_SIGNED)
            except Refused as refused:
                self.troubles.note(_SIGNED, refused.detail)
                log.warning("no checkpoint", reason=refused.detail, hint=refused.hint)

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
        return await self.keys.generate(KeyID(f"{CHECKPOINT_KEYS}{secrets.token_hex(8)}"), KeyKind.EC_P256)
