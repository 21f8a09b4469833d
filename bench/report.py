"""The results as a table, as JSON and as Markdown, with the machine that they come from."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.results import Result
from bench.settings import Settings

__all__ = ["as_json", "as_markdown", "as_table", "check_marks", "machine", "refresh"]

_HEAD = ("row", "figure", "value", "promise", "beyond", "verdict", "SPIRE")
_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"


def machine() -> dict[str, object]:
    """The facts that every figure depends on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def as_json(
    results: Sequence[Result], facts: Mapping[str, object], command: str, settings: Settings
) -> dict[str, object]:
    """Everything, for programs."""
    used = {
        "load_seconds": settings.load_seconds,
        "idle_seconds": settings.idle_seconds,
        "rounds": settings.rounds,
        "scale": settings.scale,
        "endpoint": str(settings.endpoint) if settings.endpoint else None,
    }
    rows = [result.document() for result in results]
    return {"command": command, "machine": dict(facts), "settings": used, "rows": rows}


def as_table(results: Sequence[Result]) -> str:
    """Plain columns."""
    lines = [_HEAD, *(line for result in results for line in result.lines())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_markdown(results: Sequence[Result], facts: Mapping[str, object], command: str) -> str:
    """A table, and how it was measured."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(line for result in results for line in result.lines())]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    load = facts["load_before"]
    return (
        f"`{command}` on {facts['cores']} cores ({facts['cpu']}), Python {facts['python']}, Linux {facts['kernel']}, "
        f"load average before: {load}.\n\n{table}"
    )


def check_marks(path: Path) -> None:
    """Check that a file has the marks between which `refresh` writes.

    Raises:
        ValueError: the marks are missing, or in the wrong order.
        OSError: the file cannot be read.
    """
    _parts(path)


def refresh(path: Path, text: str) -> None:
    """Replace the text between the marks of a file; raises what check_marks raises."""
    before, after = _parts(path)
    path.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}")


def _parts(path: Path) -> tuple[str, str]:
    before, begin, rest = path.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path}: expected the lines {_BEGIN} and {_END}")
    return before, after
