"""Where in the files of a rulebook stands what a finding is about."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from cognomen.rulebook.places import Path, line_of, lines
from cognomen.rulebook.proving import Finding
from cognomen.rulebook.tables import Guard

__all__ = ["FindingPlaces"]

_SELECTORS = ("selectors", "prove")
_AUDIENCES = ("audiences", "model")
_KEYS: Mapping[Guard, tuple[str, ...]] = {
    Guard.EXTERNAL_AUDIENCE: _AUDIENCES,
    Guard.SHARED_AUDIENCE: _AUDIENCES,
    Guard.FOREIGN_ORCHESTRATOR: ("may_call",),
}


class FindingPlaces:
    """The places of findings about one rulebook.

    Args:
        files: the texts of its files, by their names; directories in them do not count.
    """

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self._texts = {PurePath(name).name: text for name, text in files}
        self._known: dict[str, Mapping[Path, int]] = {}

    def line(self, finding: Finding) -> int:
        """The line of the key of the first component that the finding is about; of its table, if it has no such key."""
        where = finding.components[0].where
        known = self._lines(PurePath(where.file).name)
        return line_of(next(self._paths(finding, known), where.path), known)

    def place(self, finding: Finding) -> str:
        """The file and the line: rules/concierge.toml:13."""
        return f"{finding.components[0].where.file}:{self.line(finding)}"

    def _paths(self, finding: Finding, known: Mapping[Path, int]) -> Iterator[Path]:
        own = finding.components[0].where.path
        paths = ((*own, key) for key in _KEYS.get(finding.guard, _SELECTORS))
        return (path for path in paths if path in known)

    def _lines(self, name: str) -> Mapping[Path, int]:
        if name not in self._known:
            self._known[name] = lines(self._texts.get(name, ""))
        return self._known[name]
