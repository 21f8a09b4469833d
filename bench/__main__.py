"""Measure the promises: `python -m bench [--only ROW,…] [--quick] [--output json] [--endpoint unix:///…]`.

Each row starts its own daemons, in separate processes, on loopback and in a temporary directory. A promise that is missed is shown as
missed, and the command still succeeds. It exits with 2 for an unknown row, or if a program that a row needs is missing.
"""

import argparse
import json
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from bench import h2load
from bench.catalogue import ROWS
from bench.report import as_json, as_markdown, as_table, check_marks, machine, refresh
from bench.results import Result
from bench.settings import Settings
from svid.errors import AddressError
from svid.workloadapi.address import endpoint_target

_FULL = Settings(directory=Path())
_QUICK = replace(_FULL, load_seconds=0.6, idle_seconds=1, rounds=2, kills=1, scale=0.02, outage_seconds=1)


def main() -> int:
    """Measure and print."""
    options = _parser().parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:<16} {row.what}")
        return 0
    try:
        settings = _settings(options)
        chosen = _chosen(options.only, settings)
        if options.markdown:
            check_marks(options.markdown)
    except (OSError, ValueError, AddressError, h2load.MissingProgram) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    command, facts = shlex.join(["python", "-m", "bench", *sys.argv[1:]]), machine()
    results = [_measure(name, settings) for name in chosen]
    document = as_json(results, facts, command, settings)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        refresh(options.markdown, as_markdown(results, facts, command))
    print(json.dumps(document, indent=1, ensure_ascii=False) if options.output == "json" else as_table(results))
    return int(any(result.error for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="ROW[,ROW]", default="", help="measure only these rows, in this order")
    parser.add_argument("--list", action="store_true", help="list the rows and exit")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="check that everything works, with few entries and streams; the figures mean little",
    )
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON to this file")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="replace the table between the marks in this file"
    )
    parser.add_argument(
        "--endpoint",
        metavar="unix:///PATH",
        help="measure the rows of the workload's side against another Workload API",
    )
    parser.add_argument("--outage-seconds", type=float, help="how long the issuer is away (default: 20)")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    settings = _QUICK if options.quick else _FULL
    if options.outage_seconds is not None:
        settings = replace(settings, outage_seconds=options.outage_seconds)
    if options.endpoint is not None:
        target = endpoint_target(options.endpoint)
        if not target.startswith("unix:"):
            raise ValueError(f"--endpoint: expected unix:///PATH, found {options.endpoint}")
        settings = replace(settings, endpoint=Path(target.removeprefix("unix:").removeprefix("//")))
    return settings


def _chosen(only: str, settings: Settings) -> Sequence[str]:
    """The rows to measure; all of them can be measured.

    Raises:
        ValueError: an unknown row, or one that cannot be measured at somebody else's endpoint.
        MissingProgram: a row needs a program that is not installed.
    """
    possible = [name for name, row in ROWS.items() if row.any_endpoint or settings.endpoint is None]
    chosen = [name.strip() for name in only.split(",")] if only else possible
    for name in chosen:
        if name not in possible:
            raise ValueError(f"--only: expected some of {', '.join(possible)}, found {name!r}")
    if any(ROWS[name].needs_h2load for name in chosen):
        h2load.check_present()
    return chosen


def _measure(name: str, settings: Settings) -> Result:
    row = ROWS[name]
    began = time.perf_counter()
    print(f"{name} …", file=sys.stderr, flush=True)
    result = Result(row=name, what=row.what, goals=row.goals, spire=row.spire)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            measured = row.measure(replace(settings, directory=Path(directory) / "house"))
        except Exception as e:  # noqa: BLE001 - a row that breaks must not cost the others
            return replace(result, error=f"{type(e).__name__}: {e}", seconds=time.perf_counter() - began)
    return replace(result, measured=measured, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
