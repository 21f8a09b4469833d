"""What an issuer counts and measures, by name: docs/metrics.md says what to alert on.

Counters and histograms are updated where the event happens, once per batch; gauges are set when somebody looks (flows/observe_issuer).
"""

from cognomen.daemon.metrics import Family
from cognomen.protocol.errors import Kind
from cognomen.rulebook.tables import LimitsMode

__all__ = ["FAILED", "OK", "Metrics"]

OK, FAILED = "ok", "failed"

_MINTED = ("x509", "jwt")
_LIMITS = ("x509_per_minute", "jwt_per_minute", "audiences_per_hour", "live_svids", "nodes")
_ADMISSIONS = ("node attestation", "node call", "node readmission", "node svid renewal")


class Metrics:
    """The metrics of one issuer."""

    def __init__(self) -> None:
        family = Family("issuer")
        self.registry = family.registry
        # counters
        self.svids_signed = family.counter("svids_signed", "SVIDs signed.", kind=(*_MINTED, "node", "issuer"))
        self.mint_refusals = family.counter(
            "mint_refusals", "Requested SVIDs that were refused.", kind=_MINTED, reason=tuple(Kind)
        )
        self.over_limits = family.counter(
            "over_limits",
            "Requested SVIDs that were over a limit on issuance: refused, or only counted.",
            limit=_LIMITS,
            mode=tuple(LimitsMode),
        )
        self.breaker_steps = family.counter(
            "breaker_steps",
            "Breakers of limits on issuance that tripped, half-opened or closed.",
            action=("breaker tripped", "breaker half-opened", "breaker closed"),
            mode=tuple(LimitsMode),
        )
        self.admission_refusals = family.counter(
            "admission_refusals",
            "Calls refused at the network doors.",
            action=_ADMISSIONS,
            reason=tuple(Kind),
        )
        self.connections_refused = family.counter(
            "connections_refused",
            "Connections that a network door ended because its room was full.",
            door=("join", "node"),
        )
        self.connections_cut = family.counter(
            "connections_cut",
            "Connections that a network door ended because they sent too much.",
            door=("join", "node"),
        )
        self.handshakes_failed = family.counter(
            "handshakes_failed", "TLS handshakes that failed at a network door.", door=("join", "node")
        )
        self.web_answers = family.counter(
            "web_answers",
            "Requests of relying parties that were answered.",
            status=("200", "304", "400", "403", "404", "405", "421", "431"),
        )
        self.web_connections_refused = family.counter(
            "web_connections_refused", "Connections of relying parties that were ended because there was no room."
        )
        self.web_restarts = family.counter(
            "web_restarts",
            "Times that the process that answers relying parties had ended or hung, and was started again.",
        )
        self.export_failures = family.counter(
            "export_failures",
            "Times that the command of an export of the bundle had failed, as `bundle export` told.",
        )
        self.alarms = family.counter(
            "alarms",
            "Refused calls that raised an alarm: a superseded SVID, a banned node, a token that another key used.",
            action=_ADMISSIONS,
        )
        self.entries_changed = family.counter(
            "entries_changed",
            "Registration entries changed.",
            action=("entry created", "entry updated", "entry deleted"),
        )
        self.authority_steps = family.counter(
            "authority_steps", "Steps in the lives of authorities, taken or failed.", outcome=(OK, FAILED)
        )
        self.svid_renewals = family.counter("svid_renewals", "Renewals of the issuer's own SVID.", outcome=(OK, FAILED))
        self.crls_signed = family.counter(
            "crls_signed", "Revocation lists signed, and attempts that failed.", outcome=(OK, FAILED)
        )
        self.deferred_writes_lost = family.counter(
            "deferred_writes_lost", "Ledger outcomes and acknowledgements that could not be written."
        )
        self.task_restarts = family.counter(
            "task_restarts", "Tasks that ended unexpectedly or were stuck, and were restarted.", task=()
        )
        # histograms: what a revocation goes through
        self.revocation_committed = family.histogram(
            "revocation_committed_seconds", "From the command that revokes until its commit."
        )
        self.revocation_listed = family.histogram(
            "revocation_listed_seconds",
            "From the commit of a revocation until the revocation lists of all authorities contain it.",
        )
        self.revocation_pushed = family.histogram(
            "revocation_pushed_seconds",
            "From the commit of a revocation until it was handed to a connected attestor's feed.",
        )
        self.revocation_acknowledged = family.histogram(
            "revocation_acknowledged_seconds",
            "From the commit of a revocation until a connected attestor has acknowledged it.",
        )
        self.revocation_enforced = family.histogram(
            "revocation_enforced_seconds",
            "From the commit of a revocation until every enforcement point of a connected node enforces it.",
        )
        # gauges
        self.started_at = family.gauge("start_timestamp_seconds", "When the issuer started.")
        self.change_number = family.gauge("change_number", "The number of the last change.")
        self.nodes = family.gauge("nodes", "Attested nodes, whatever their state.")
        self.nodes_connected = family.gauge("nodes_connected", "Nodes with an open feed.")
        self.feeds = family.gauge("feeds", "Open feeds.")
        self.denials = family.gauge(
            "denials",
            "Denials that are kept: of a token until five minutes after it expires, of a certificate a day longer.",
        )
        self.most_behind = family.gauge(
            "most_behind_changes", "How many changes the slowest connected node has not acknowledged."
        )
        self.points_behind = family.gauge(
            "enforcement_points_behind",
            "Enforcement points on connected nodes that have not taken every denial that their attestor has.",
        )
        self.heard_ago = family.gauge(
            "attestor_heard_ago_seconds",
            "How long ago the issuer last heard from the connected attestor that has been silent for longest.",
        )
        self.svid_not_after = family.gauge("svid_not_after_timestamp_seconds", "When the issuer's own SVID expires.")
        self.authority_not_after = family.gauge(
            "authority_not_after_timestamp_seconds",
            "When the authority expires; if several are in one state, the first of them.",
            "kind",
            "state",
        )
        self.export_behind = family.gauge(
            "export_behind", "Whether an export of the bundle lacks an authority, or still has a revoked one.", "name"
        )
        self.export_breaks_at = family.gauge(
            "export_breaks_timestamp_seconds",
            "When the first authority that an export of the bundle lacks signs, or began to sign; only if it lacks one.",
            "name",
        )
        self.export_revoked = family.gauge(
            "export_revoked_authorities",
            "Revoked authorities that an export of the bundle still has, so that its relying party trusts them.",
            "name",
        )
        self.clock_trusted = family.gauge(
            "clock_trusted", "Whether the clock is trusted; 0: nothing is retired or pruned."
        )
        self.store_has_room = family.gauge(
            "store_has_room", "Whether the disk has room to spare; 0: nothing is issued."
        )
        self.store_is_sound = family.gauge(
            "store_is_sound", "Whether the last check of the whole store found no damage."
        )
        self.crl_bytes = family.gauge("crl_size_bytes", "The size of the largest revocation list.")
        self.deferred_writes = family.gauge(
            "deferred_writes", "Small writes, such as ledger outcomes, that wait for their commit."
        )
        self.breakers_open = family.gauge(
            "breakers_open", "Breakers of limits on issuance that are open or half-open.", "mode"
        )
        self.reviews_overdue = family.gauge("reviews_overdue", "Agents whose review is overdue.")
        self.agents_suspended_for_review = family.gauge(
            "agents_suspended_for_review", "Those of them that the issuer suspended for that."
        )
        self.troubles = family.gauge("troubles", "Things that are failing now and are being retried.")
