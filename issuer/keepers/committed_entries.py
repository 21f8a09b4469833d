"""What is told after a batch of entry changes was committed: those who wait for a revocation, and the metrics."""

from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.metrics import Metrics
from issuer.works.entrychanges import Changed

__all__ = ["tell_committed"]


def tell_committed(changed: Changed, *, watch: EnforcementWatch, metrics: Metrics) -> None:
    """Tell of it, once: a transaction that is run again has not been committed before."""
    for revocation in changed.taken.revocations:
        watch.committed(revocation)
    for done, count in changed.counts.items():
        metrics.entries_changed.labels(done).inc(count)
