"""What a row promises, what was measured, and how both are shown in tables and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Goal", "Measured", "Result", "Verdict", "at_least", "at_most", "percentile", "reported", "spread"]


class Verdict(StrEnum):
    """How a figure compares with the promise."""

    BEYOND = "beyond"
    REACHED = "reached"
    MISSED = "missed"
    REPORTED = "reported"  # nothing was promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The number that a figure should reach, and the one to aim for."""

    promise: float | None
    beyond: float | None
    more_is_better: bool = False

    def verdict(self, value: float) -> Verdict:
        """Judge a figure."""
        if self.promise is None:
            return Verdict.REPORTED
        if not self._holds(value, self.promise):
            return Verdict.MISSED
        return Verdict.BEYOND if self.beyond is not None and self._holds(value, self.beyond) else Verdict.REACHED

    def _holds(self, value: float, limit: float) -> bool:
        return value >= limit if self.more_is_better else value <= limit

    def text(self, limit: float | None) -> str:
        """A limit as the table shows it."""
        return "" if limit is None else f"{'≥' if self.more_is_better else '≤'} {limit:,g}"


def at_most(promise: float, beyond: float | None = None) -> Goal:
    """Less is better."""
    return Goal(promise=promise, beyond=beyond)


def at_least(promise: float, beyond: float | None = None) -> Goal:
    """More is better."""
    return Goal(promise=promise, beyond=beyond, more_is_better=True)


reported = Goal(promise=None, beyond=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures by name, the unit last in the name, and how many samples they come from; `why`: the error of the last failed call."""

    figures: Mapping[str, float]
    samples: int
    failed: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row: what was measured and what was promised; `error`: why nothing was measured."""

    row: str
    what: str
    goals: Mapping[str, Goal] = field(default_factory=dict)
    spire: str
    measured: Measured | None = None
    seconds: float = 0.0
    error: str = ""

    def verdict(self) -> Verdict:
        """The worst of its figures that have a goal."""
        if self.measured is None or self.measured.failed:
            return Verdict.MISSED
        found = {self._goal(name).verdict(value) for name, value in self.measured.figures.items()}
        found.discard(Verdict.REPORTED)
        order = (Verdict.MISSED, Verdict.REACHED, Verdict.BEYOND)
        return next((verdict for verdict in order if verdict in found), Verdict.REPORTED)

    def document(self) -> dict[str, object]:
        """The row for JSON."""
        figures = self.measured.figures if self.measured else {}
        return {
            "row": self.row,
            "what": self.what,
            "verdict": self.verdict().value,
            "figures": [
                {
                    "name": name,
                    "value": round(value, 4),
                    "promise": self._goal(name).promise,
                    "beyond": self._goal(name).beyond,
                    "verdict": self._goal(name).verdict(value).value,
                }
                for name, value in figures.items()
            ],
            "samples": self.measured.samples if self.measured else 0,
            "failed": self.measured.failed if self.measured else 0,
            "why": self.measured.why if self.measured else "",
            "spire": self.spire,
            "seconds": round(self.seconds, 1),
            "error": self.error,
        }

    def lines(self) -> Sequence[tuple[str, ...]]:
        """A line per figure: row, figure, value, promise, beyond, verdict, SPIRE's figure once."""
        if self.measured is None:
            return [(self.row, self.error, "", "", "", self.verdict().value, self.spire)]
        lines = [self._line(name, value) for name, value in self.measured.figures.items()]
        if self.measured.failed:
            lines.append((f"failed: {self.measured.why}", str(self.measured.failed), "≤ 0", "", Verdict.MISSED.value))
        return [
            (self.row if number == 0 else "", *line, self.spire if number == 0 else "")
            for number, line in enumerate(lines)
        ]

    def _line(self, name: str, value: float) -> tuple[str, ...]:
        goal = self._goal(name)
        shown = f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
        return name, shown, goal.text(goal.promise), goal.text(goal.beyond), goal.verdict(value).value

    def _goal(self, name: str) -> Goal:
        return self.goals.get(name, reported)


def percentile(sample: Sequence[float], hundredths: int) -> float:
    """The smallest value that so many hundredths of the sample do not exceed."""
    if not sample:
        raise ValueError("sample: expected one figure or more, found none")
    ordered = sorted(sample)
    return ordered[min(len(ordered) - 1, len(ordered) * hundredths // 100)]


def spread(sample: Sequence[float], prefix: str = "") -> dict[str, float]:
    """Median and 99th percentile of times.

    Units: seconds in, milliseconds out.
    """
    return {f"{prefix}p{part} ms": percentile(sample, part) * 1000 for part in (50, 99)}
