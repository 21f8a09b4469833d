"""The port for workload attestors: each finds facts about a caller, and vouches for them."""

from collections.abc import Collection, Sequence
from typing import Protocol

from cognomen.daemon.plugins import Seam
from cognomen.gate.caller import Caller
from cognomen.protocol.selector import Selector
from svid.clock import Clock

__all__ = ["WORKLOAD_ATTESTORS", "WorkloadAttestor"]


class WorkloadAttestor(Protocol):
    """One source of facts about callers."""

    @property
    def name(self) -> str:
        """The type of its selectors: `unix`."""

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        """Look at the caller now.

        Args:
            needed: the keys that any entry uses, as `type:key` (`unix:sha256`), so that a costly fact that no entry needs is left out.

        Raises:
            Refused: UNAUTHENTICATED when the caller has ended or the kernel's facts about it disagree; UNAVAILABLE when it cannot be
                examined now.
        """

    async def unseen(self, caller: Caller, *, needed: Collection[str]) -> Sequence[str]:
        """Say which of the needed facts this caller cannot show, and why, so that people can find out.

        Raises:
            Refused: as attest.
        """


WORKLOAD_ATTESTORS: Seam[Clock, WorkloadAttestor] = Seam(
    group="cognomen.attestor.workload_attestors", key="workload_attestors"
)
"""Where installed workload attestors are found."""
