"""`make bench`: the promises as figures, each measured on real daemons in processes of their own.

Exit codes: 0 measured, whatever the figures say · 1 a row could not be measured · 2 wrong usage, or a load generator is missing.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import issuer_rows, motion_rows, workload_rows
from bench.results import Goal, Measured, Result, Verdict, at_least, at_most
from bench.settings import Settings
from cognomen.daemon import logs

_COLUMNS = ("row", "figure", "measured", "promise", "beyond", "verdict", "SPIRE there")
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What can be measured."""

    measure: Callable[[Settings], Measured]
    goals: Mapping[str, Goal]
    spire: str
    is_workload: bool = False

    @property
    def what(self) -> str:
        return (self.measure.__doc__ or "").strip().partition("\n")[0]


_ROWS: Mapping[str, _Row] = {
    "push": _Row(
        measure=motion_rows.push,
        goals={
            "p50 ms": at_most(100, 15),
            "p99 ms": at_most(100),
        },
        spire="p50 4.8 s, p99 8.5 s",
    ),
    "mint": _Row(
        measure=issuer_rows.mint, goals={"per CPU-second": at_least(4000, 6000)}, spire="2,250, without a ledger"
    ),
    "fetch_x509_open": _Row(
        measure=workload_rows.fetch_x509_open,
        goals={"p50 ms": at_most(1.5, 0.8)},
        spire="0.81 ms; 14 ms with path and digest",
        is_workload=True,
    ),
    "fetch_x509_new": _Row(
        measure=workload_rows.fetch_x509_new,
        goals={"p50 ms": at_most(3, 2)},
        spire="2.0 ms; 15 ms with path and digest",
        is_workload=True,
    ),
    "jwt_cached": _Row(
        measure=workload_rows.jwt_cached,
        goals={"calls per second": at_least(2500, 4300)},
        spire="4,261; 148 with path and digest",
        is_workload=True,
    ),
    "jwt_new": _Row(
        measure=workload_rows.jwt_new,
        goals={"calls per second": at_least(700, 1400)},
        spire="1,363, limits off",
        is_workload=True,
    ),
    "bulk": _Row(measure=issuer_rows.bulk, goals={"entries per second": at_least(2000, 10_000)}, spire="216"),
    "attestor_idle": _Row(
        measure=motion_rows.attestor_idle,
        goals={"RSS MB": at_most(100, 75), "% of a core": at_most(0.5, 0.1)},
        spire="74 MB, 0.3 %",
    ),
    "issuer_idle": _Row(
        measure=issuer_rows.issuer_idle,
        goals={"RSS MB": at_most(150), "% of a core": at_most(0.5)},
        spire="138 MB, 5 %",
    ),
    "issuer_large": _Row(
        measure=issuer_rows.issuer_large,
        goals={"ready s": at_most(3, 1), "change, times": at_most(2, 1.2)},
        spire="0.6 s at 11,000; grows",
    ),
    "outage": _Row(
        measure=motion_rows.outage, goals={"in step s": at_most(15, 2)}, spire="66 s after 3 min; up to 4 min"
    ),
    "first_identity": _Row(measure=motion_rows.first_identity, goals={}, spire="the client's own retry, and 5 + 5 s"),
    "kill": _Row(measure=motion_rows.kill, goals={"issuer s": at_most(2), "attestor s": at_most(2)}, spire=""),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the promises on this machine.")
    parser.add_argument("--only", metavar="ROW[,ROW…]", help="these rows alone")
    parser.add_argument("--list", action="store_true", help="name the rows, measure nothing")
    parser.add_argument("--quick", action="store_true", help="short and small: shows that it works, not how fast")
    parser.add_argument("--endpoint", metavar="unix:///PATH", help="the workloads' rows against another Workload API")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="replace the table between its two marks there")
    parser.add_argument("--outage-seconds", type=float, default=20, help="how long the issuer is away (default 20)")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(_ROWS)
    if unknown := [name for name in names if name not in _ROWS]:
        parser.error(f"--only: expected rows of {', '.join(_ROWS)}, found {unknown[0]!r}")
    if arguments.endpoint is not None:
        if not arguments.endpoint.startswith("unix:///"):
            parser.error(f"--endpoint: expected unix:///PATH, found {arguments.endpoint!r}")
        names = [name for name in names if _ROWS[name].is_workload]
    arguments.rows = names
    return arguments


def _settings(arguments: argparse.Namespace, directory: Path) -> Settings:
    endpoint = None if arguments.endpoint is None else Path(arguments.endpoint.removeprefix("unix://"))
    if arguments.quick:
        return Settings(
            directory=directory,
            load_seconds=1,
            idle_seconds=1,
            rounds=3,
            kills=1,
            scale=0.02,
            outage_seconds=1,
            endpoint=endpoint,
        )
    return Settings(directory=directory, outage_seconds=arguments.outage_seconds, endpoint=endpoint)


def _measure(name: str, arguments: argparse.Namespace) -> Result:
    row, began, measured, error = _ROWS[name], time.perf_counter(), None, ""
    with tempfile.TemporaryDirectory(prefix="cognomen-bench-") as directory:
        try:
            measured = row.measure(_settings(arguments, Path(directory) / "h"))
        except workload_rows.H2LoadMissing:
            raise
        except Exception as e:  # noqa: BLE001 - the other rows go on, and this one says why not
            error = f"{type(e).__name__}: {e}"
    return Result(
        row=name,
        what=row.what,
        goals=row.goals,
        spire=row.spire,
        measured=measured,
        seconds=time.perf_counter() - began,
        error=error,
    )


def _machine() -> dict[str, object]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": os.getloadavg()[0],
        "command": f"python -m bench {' '.join(sys.argv[1:])}".strip(),
    }


def _table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    return [_COLUMNS, *(tuple(line) for result in results for line in result.lines())]


def _write_markdown(path: Path, results: Sequence[Result], machine: Mapping[str, object]) -> None:
    before, _, rest = path.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    header, *lines = _table(results)
    rows = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    rows += ["| " + " | ".join(line) + " |" for line in lines]
    facts = ", ".join(f"{key}: {value}" for key, value in machine.items())
    path.write_text(f"{before}{_BEGIN}\n{facts}\n\n" + "\n".join(rows) + f"\n{_END}{after}")


def main() -> int:
    """Measure, and tell."""
    arguments = _arguments()
    logs.configure("warning")
    if arguments.list:
        for name, row in _ROWS.items():
            print(f"{name:<16} {row.what}")
        return 0
    machine, results = _machine(), []
    try:
        for name in arguments.rows:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            results.append(_measure(name, arguments))
    except workload_rows.H2LoadMissing as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    lines = _table(results)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if arguments.json is not None:
        document = {"machine": machine, "rows": [result.document() for result in results]}
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    if arguments.markdown is not None:
        _write_markdown(arguments.markdown, results, machine)
    missed = [result.row for result in results if result.verdict() is Verdict.MISSED]
    if missed:
        print(f"missed: {', '.join(missed)}; docs/benchmarks.md says why", file=sys.stderr)
    return 1 if any(result.error for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
