"""The way to a signature, for tests of the flows that take it: real signers, real keys."""

from issuer.datastore.port import Datastore
from issuer.issuance import Issuance
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keymanager.memory import MemoryKeyManager
from issuer.keymanager.port import KeyManager
from issuer.metrics import Metrics
from issuer.upstream.port import UpstreamAuthority
from issuer.upstream.self_signed import SelfSigned
from svid.clock import Clock
from svid.keys import KeyID, SigningKey
from tests.doubles.issuersurroundings import around

__all__ = ["GivenKeys", "issuance"]


class GivenKeys(MemoryKeyManager):
    """Holds keys that were made elsewhere."""

    def __init__(self, *keys: SigningKey) -> None:
        super().__init__()
        self._given = {key.id: key for key in keys}

    async def get(self, key_id: KeyID) -> SigningKey:
        """One of the given ones, or one that was made here."""
        return self._given.get(key_id) or await super().get(key_id)


def issuance(
    store: Datastore,
    clock: Clock,
    keys: KeyManager,
    *,
    deferred: DeferredWrites | None = None,
    metrics: Metrics | None = None,
    upstream: UpstreamAuthority | None = None,
) -> Issuance:
    """Sign with these keys; what became of it is written once `deferred` is flushed."""
    metrics = metrics or Metrics()
    deferred = deferred or DeferredWrites(datastore=store, around=around(clock, metrics=metrics))
    return Issuance(keys=keys, upstream=upstream or SelfSigned(), later=deferred.put, metrics=metrics)
