"""The issuer's pages for probes and collectors: /live, /ready, /metrics.

Decided here: what ready means. How pages are served: cognomen/daemon/webserver.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from cognomen.daemon.errors import Refused
from cognomen.daemon.health import HealthState
from cognomen.daemon.webserver import MakePage, Page, WantsJSON, alive, metrics_page, readiness
from issuer.decisions.authority import AuthorityKind, AuthorityState
from issuer.flows.observe_issuer import Observed, ObserveIssuer

__all__ = ["health_pages"]


def health_pages(
    observe: ObserveIssuer, health: HealthState, failing: Callable[[], Sequence[str]]
) -> Mapping[str, MakePage]:
    """The pages by their paths.

    Args:
        failing: tells which tasks have failed, and why.
    """

    async def ready(wants_json: WantsJSON) -> Page:
        missing = [] if health.of("") else ["doors: not open yet, or closing"]
        missing += failing()
        try:
            missing += [*_missing(await observe(), observe.clock.now())]
        except Refused as refused:
            missing.append(f"store: {refused.detail}")
        return readiness(missing, wants_json)

    async def metrics(_: WantsJSON) -> Page:
        try:
            await observe()
        except Refused as refused:  # gauges of before would be taken for those of now
            return readiness([f"store: {refused.detail}"], wants_json=False)
        return metrics_page(observe.metrics.registry)

    return {"/live": alive, "/ready": ready, "/metrics": metrics}


def _missing(seen: Observed, now: datetime) -> Iterator[str]:
    for kind in AuthorityKind:
        ends = [row.not_after for row, _ in seen.authorities if row.kind is kind and row.state is AuthorityState.ACTIVE]
        if max(ends, default=now) <= now:
            yield f"{kind.value} authority: none is active and valid"
    if not seen.has_room:
        yield "store: no room to spare, the disk is full"
    if seen.svid_not_after <= now:
        yield f"issuer svid: expired {seen.svid_not_after.isoformat()}"
