"""The faults of one file that is no rulebook, such as SPIRE's, while it is read: the first ones are kept, and the others counted."""

from collections.abc import Sequence
from dataclasses import replace

from cognomen.rulebook.faults import MOST_FAULTS, Fault, Mend, key_of, text_of_mend
from cognomen.rulebook.places import Path

__all__ = ["NotedFaults"]


class NotedFaults:
    """Notes faults in the order of the file.

    Attributes:
        count: how many were told.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._kept: list[tuple[Path, Fault]] = []
        self.count = 0

    def tell(self, path: Path, problem: str, mend: Mend = "") -> None:
        """Note one."""
        self.count += 1
        if self.count <= MOST_FAULTS:
            mended = text_of_mend(mend)
            self._kept.append((path, Fault(file=self._file, line=0, key=key_of(path), problem=problem, mend=mended)))

    def paths(self) -> Sequence[Path]:
        """Where those that are kept stand."""
        return [path for path, _ in self._kept]

    def faults(self) -> list[Fault]:
        """Those that are kept; the last one says how many more there are."""
        found = [one for _, one in self._kept]
        if self.count > len(found):
            found[-1] = replace(found[-1], more=self.count - len(found))
        return found
