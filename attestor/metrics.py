"""What an attestor counts and measures, by name; docs/metrics.md says what to alert on.

Counters are incremented where the event happens, once per batch; gauges are set when somebody looks (flows/observe_attestor).
"""

from cognomen.daemon.metrics import Family
from cognomen.protocol.errors import Kind

__all__ = ["FAILED", "OK", "Metrics"]

OK, FAILED = "ok", "failed"


class Metrics:
    """The metrics of one attestor."""

    def __init__(self) -> None:
        family = Family("attestor")
        self.registry = family.registry
        # counters
        self.renewals = family.counter(
            "renewals",
            "SVIDs minted for the first time or renewed, and attempts that failed.",
            kind=("node", "x509", "jwt"),
            outcome=(OK, FAILED),
        )
        self.feed_steps = family.counter(
            "feed_steps", "Steps of the feed that were applied.", kind=("snapshot", "change")
        )
        self.feed_failures = family.counter("feed_failures", "Feeds that failed, or were refused.")
        self.workload_refusals = family.counter(
            "workload_refusals", "Calls on the workload socket that were refused.", reason=tuple(Kind)
        )
        self.connections_refused = family.counter(
            "connections_refused", "Connections that were turned away at the workload socket.", reason=tuple(Kind)
        )
        self.task_restarts = family.counter(
            "task_restarts", "Tasks that ended unexpectedly or were stuck, and were restarted.", task=()
        )
        # gauges
        self.started_at = family.gauge("start_timestamp_seconds", "When the attestor started.")
        self.synchronised = family.gauge("synchronised", "Whether a complete snapshot has arrived since the start.")
        self.feed_connected = family.gauge("feed_connected", "Whether the feed is open.")
        self.feed_step_at = family.gauge("feed_step_timestamp_seconds", "When the last step of the feed arrived.")
        self.change_number = family.gauge("change_number", "The number of the last change that was applied.")
        self.node_svid_not_after = family.gauge("node_svid_not_after_timestamp_seconds", "When the node SVID expires.")
        self.node_svid_renew_at = family.gauge(
            "node_svid_renew_at_timestamp_seconds", "When the node SVID is renewed next."
        )
        self.entries = family.gauge("entries", "Registration entries of this node.")
        self.svids = family.gauge("svids", "X509-SVIDs held.")
        self.svids_first_end = family.gauge(
            "svids_first_end_timestamp_seconds", "When the first of the held X509-SVIDs expires; 0: none is held."
        )
        self.renewal_lag = family.gauge(
            "renewal_lag_seconds", "How long the most overdue X509-SVID has been waiting for its renewal."
        )
        self.jwt_svids = family.gauge("jwt_svids", "JWT-SVIDs kept.")
        self.streams = family.gauge("streams", "Open streams of workloads.")
        self.denials = family.gauge("denials", "Credentials that are refused because they were revoked.")
        self.heard_ago = family.gauge(
            "heard_ago_seconds",
            "How long ago the issuer last sent something on the feed; this is how old the knowledge of denials is.",
        )
        self.clock_ahead = family.gauge(
            "clock_ahead_seconds", "How far this node's clock is ahead of the issuer's; negative: behind."
        )
        self.troubles = family.gauge("troubles", "Things that are failing now and are being retried.")
