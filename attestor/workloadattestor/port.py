"""What the attestor asks of a workload attestor: the facts about a caller that it vouches for."""

from collections.abc import Collection
from typing import Protocol

from cognomen.daemon.caller import Caller
from svid.selector import Selector

__all__ = ["WorkloadAttestor"]


class WorkloadAttestor(Protocol):
    """One source of facts about callers."""

    @property
    def name(self) -> str:
        """The type of its selectors: `unix`."""

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        """Look at the caller now.

        Args:
            needed: the keys that any entry uses, as `type:key` (`unix:sha256`): a costly fact that nobody asks for is left out.

        Raises:
            Refused: UNAUTHENTICATED, when the caller is gone or the kernel's facts about it disagree.
        """
