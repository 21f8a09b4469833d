"""Metrics of a daemon: counters, gauges and histograms under its name, in its own registry, because daemons may share a process.

The metrics are in issuer/metrics and attestor/metrics. The code that serves them calls the daemon's `observe` first (web/health).
"""

from collections.abc import Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from cognomen.daemon.version import version

__all__ = ["Family"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Family:
    """The metrics of one daemon.

    Args:
        daemon: a part of each name: `cognomen_<daemon>_…`.
    """

    def __init__(self, daemon: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._prefix = f"cognomen_{daemon}"
        ProcessCollector(registry=self.registry)
        self.gauge("build_info", "Which release runs; always 1.", "version").labels(version()).set(1)

    def counter(self, name: str, text: str, **labels: Sequence[str]) -> Counter:
        """Make a counter that starts at 0 for all values of its labels, so that the first count shows as an increase."""
        made = Counter(f"{self._prefix}_{name}", text, tuple(labels), registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            made.labels(*values)
        return made

    def histogram(self, name: str, text: str) -> Histogram:
        """Make a histogram of seconds, from milliseconds to minutes."""
        return Histogram(f"{self._prefix}_{name}", text, buckets=_SECONDS, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Make a gauge; without labels it starts at 0, with labels each value appears when it is set."""
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)
