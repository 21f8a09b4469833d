"""The issuer's pages for probes and collectors: /live, /ready, /metrics.

This decides what "ready" means. cognomen/daemon/webserver serves the pages.
"""

from collections.abc import Callable, Mapping, Sequence

from cognomen.daemon.httpserver import Page
from cognomen.daemon.webserver import MakePage, WantsJSON, alive, metrics_page, readiness
from cognomen.gate.health import HealthState
from cognomen.protocol.errors import Refused
from issuer.flows.observe_issuer import ObserveIssuer

__all__ = ["health_pages"]


def health_pages(
    observe: ObserveIssuer, health: HealthState, failing: Callable[[], Sequence[str]]
) -> Mapping[str, MakePage]:
    """The pages, by path.

    Args:
        failing: returns which tasks have failed, and why.
    """

    async def ready(wants_json: WantsJSON) -> Page:
        missing = [] if health.of("") else ["doors: not open yet, or closing"]
        missing += failing()
        try:
            seen = await observe()
            missing += seen.invalid
            if not seen.has_room:
                missing.append("store: no room to spare, the disk is full")
            if seen.damage:
                missing.append(f"store: damaged: {seen.damage}")
        except Refused as refused:
            missing.append(f"store: {refused.detail}")
        return readiness(missing, wants_json)

    async def metrics(_: WantsJSON) -> Page:
        try:
            await observe()
        except Refused as refused:  # old gauges would be taken for current ones
            return readiness([f"store: {refused.detail}"], wants_json=False)
        return metrics_page(observe.around.metrics.registry)

    return {"/live": alive, "/ready": ready, "/metrics": metrics}
