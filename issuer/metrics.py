"""What an issuer counts and measures, by name: docs/metrics.md says what to alert on.

Counters and histograms are moved where it happens, once for a batch; gauges are set when somebody looks (flows/observe_issuer).
"""

from cognomen.daemon.errors import Kind
from cognomen.daemon.metrics import Family

__all__ = ["FAILED", "OK", "Metrics"]

OK, FAILED = "ok", "failed"

_MINTED = ("x509", "jwt")
_ADMISSIONS = ("node attestation", "node call", "node readmission", "node svid renewal")


class Metrics:
    """One issuer's."""

    def __init__(self) -> None:
        family = Family("issuer")
        self.registry = family.registry
        # counters
        self.svids_signed = family.counter("svids_signed", "SVIDs signed.", kind=(*_MINTED, "node", "issuer"))
        self.mint_refusals = family.counter(
            "mint_refusals", "Items of mints that were refused.", kind=_MINTED, reason=tuple(Kind)
        )
        self.admission_refusals = family.counter(
            "admission_refusals",
            "Calls refused at the network doors.",
            action=_ADMISSIONS,
            reason=tuple(Kind),
        )
        self.alarms = family.counter(
            "alarms",
            "Calls refused though they proved a node: a superseded SVID, a banned node, a token that another key used.",
            action=_ADMISSIONS,
        )
        self.entries_changed = family.counter(
            "entries_changed",
            "Registration entries changed.",
            action=("entry created", "entry updated", "entry deleted"),
        )
        self.authority_steps = family.counter(
            "authority_steps", "Steps of authorities, taken or failed.", outcome=(OK, FAILED)
        )
        self.svid_renewals = family.counter("svid_renewals", "Renewals of the issuer's own SVID.", outcome=(OK, FAILED))
        self.crls_signed = family.counter("crls_signed", "Revocation lists, signed or failed.", outcome=(OK, FAILED))
        self.deferred_writes_lost = family.counter(
            "deferred_writes_lost", "Ledger outcomes and acknowledgements that could not be written."
        )
        self.task_restarts = family.counter(
            "task_restarts", "Tasks that ended unasked or were stuck, and were started again.", task=()
        )
        # histograms: what a revocation goes through
        self.revocation_committed = family.histogram(
            "revocation_committed_seconds", "From a command that revokes until its commit."
        )
        self.revocation_listed = family.histogram(
            "revocation_listed_seconds",
            "From the commit of a revocation until the revocation lists of all authorities hold it.",
        )
        self.revocation_pushed = family.histogram(
            "revocation_pushed_seconds",
            "From the commit of a revocation until it was handed to a connected attestor's feed.",
        )
        self.revocation_acknowledged = family.histogram(
            "revocation_acknowledged_seconds", "From the commit of a revocation until a connected attestor has it."
        )
        self.revocation_enforced = family.histogram(
            "revocation_enforced_seconds",
            "From the commit of a revocation until every enforcement point of a connected node has it.",
        )
        # gauges
        self.started_at = family.gauge("start_timestamp_seconds", "When it was started.")
        self.change_number = family.gauge("change_number", "The last change's number.")
        self.nodes = family.gauge("nodes", "Attested nodes, whatever their state.")
        self.nodes_connected = family.gauge("nodes_connected", "Nodes with an open feed.")
        self.feeds = family.gauge("feeds", "Open feeds.")
        self.denials = family.gauge(
            "denials",
            "Denials that are kept: of tokens until five minutes after their end, of certificates a day longer.",
        )
        self.most_behind = family.gauge(
            "most_behind_changes", "How far the connected node that is furthest behind is, in changes."
        )
        self.points_behind = family.gauge(
            "enforcement_points_behind",
            "Enforcement points on connected nodes that have not taken every denial that their attestor has.",
        )
        self.heard_ago = family.gauge(
            "attestor_heard_ago_seconds", "How long ago the connected attestor that was silent for longest was heard."
        )
        self.svid_not_after = family.gauge("svid_not_after_timestamp_seconds", "The end of the issuer's own SVID.")
        self.authority_not_after = family.gauge(
            "authority_not_after_timestamp_seconds",
            "The end of the authority; of several in one state, the first end.",
            "kind",
            "state",
        )
        self.clock_trusted = family.gauge(
            "clock_trusted", "Whether the clock is trusted: 1, or 0 while nothing is retired or pruned."
        )
        self.store_has_room = family.gauge(
            "store_has_room", "Whether the disk has room to spare: 1, or 0 while nothing is issued."
        )
        self.crl_bytes = family.gauge("crl_size_bytes", "The size of the largest revocation list.")
        self.deferred_writes = family.gauge("deferred_writes", "Small writes that wait for their commit.")
        self.troubles = family.gauge("troubles", "Things that fail now and are tried again.")
