"""The issuer's pages for probes and collectors: /live, /ready, /metrics.

Decided here: what ready means. How pages are served: cognomen/daemon/webserver.
"""

from collections.abc import Mapping
from contextlib import suppress

from cognomen.daemon.errors import Refused
from cognomen.daemon.health import HealthState
from cognomen.daemon.webserver import MakePage, Page, WantsJSON, alive, metrics_page, readiness
from issuer.flows.observe_issuer import ObserveIssuer

__all__ = ["health_pages"]


def health_pages(observe: ObserveIssuer, health: HealthState) -> Mapping[str, MakePage]:
    """The pages by their paths."""

    async def ready(wants_json: WantsJSON) -> Page:
        missing = [] if health.of("") else ["doors: not open yet, or closing"]
        try:
            await observe()
        except Refused as refused:
            missing.append(f"store: {refused.detail}")
        return readiness(missing, wants_json)

    async def metrics(_: WantsJSON) -> Page:
        with suppress(Refused):  # what is counted is told also when the store cannot be read
            await observe()
        return metrics_page(observe.metrics.registry)

    return {"/live": alive, "/ready": ready, "/metrics": metrics}
