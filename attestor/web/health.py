"""The attestor's pages for probes and collectors: /live, /ready, /metrics.

Decided here: what ready means. How pages are served: cognomen/daemon/webserver.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from attestor.decisions.clocks import is_valid
from attestor.flows.observe_attestor import ObserveAttestor
from attestor.metrics import Metrics
from cognomen.daemon.httpserver import Page
from cognomen.daemon.webserver import MakePage, WantsJSON, alive, metrics_page, readiness
from cognomen.protocol.moments import moment_in_words

__all__ = ["health_pages"]

_MOST_LAG = timedelta(minutes=2)  # over all entries; one that the issuer refuses is postponed and not counted


def health_pages(
    look: Callable[[], ObserveAttestor | None], failing: Callable[[], Sequence[str]], counted: Metrics
) -> Mapping[str, MakePage]:
    """The pages by their paths.

    Args:
        look: observes the attestor; None until the node has joined.
        failing: says which tasks have failed, and why.
    """

    async def ready(wants_json: WantsJSON) -> Page:
        observe = look()
        if observe is None:
            return readiness(["node: has not joined its issuer yet"], wants_json)
        seen = observe()
        missing = [] if seen.synchronised else ["snapshot: none from the issuer since the start"]
        svid = seen.node.svid
        if not is_valid(svid.not_before, svid.not_after, seen.at):
            missing.append(
                f"node svid: valid from {moment_in_words(svid.not_before)} to {moment_in_words(svid.not_after)}"
            )
        if seen.apart:
            missing.append(f"clock: {seen.apart}")
        if seen.lag > _MOST_LAG:
            missing.append(f"x509-svid renewal: overdue for {seen.lag.total_seconds():.0f} s")
        missing += failing()
        return readiness(missing, wants_json)

    async def metrics(_: WantsJSON) -> Page:
        observe = look()
        if observe is not None:
            observe()
        return metrics_page(counted.registry)

    return {"/live": alive, "/ready": ready, "/metrics": metrics}
