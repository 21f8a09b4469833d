"""The row of an import: entries of SPIRE in a file → a rulebook, compiled again and compared, by the command in a new process."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from bench.results import Measured
from bench.settings import Settings

__all__ = ["import_spire"]

_ENTRIES = 10_000
_COMPONENTS = 10  # of an agent
_NODES = 50
_SECONDS = 300


def import_spire(settings: Settings) -> Measured:
    """Seconds of one import, from the start of the process, and its CPU."""
    count = settings.count(_ENTRIES)
    settings.directory.mkdir(exist_ok=True)
    source, target = settings.directory / "entries.json", settings.directory / "rules.toml"
    _write(source, count)
    arguments = ["rulebook", "import", f"--from={source}", f"--write={target}", "--owner=bench", "--purpose=measured"]
    before, began = _cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "cognomen", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode or f"imported: {count} entries" not in done.stderr:
        raise RuntimeError(done.stderr[-400:])
    return Measured(figures={"s": seconds, "CPU s": _cpu_seconds() - before}, samples=count)


def _cpu_seconds() -> float:
    """What the processes took that this one started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _write(file: Path, count: int) -> None:
    """Entries of agents with ten components each, on fifty of SPIRE's agents."""
    entries = [
        {
            "id": f"{number:032x}",
            "spiffe_id": _id(f"/agent/a{number // _COMPONENTS}/c{number % _COMPONENTS}"),
            "parent_id": _id(f"/spire/agent/x509pop/{number // _COMPONENTS % _NODES}"),
            "selectors": [
                {"type": "unix", "value": f"uid:{1000 + number}"},
                {"type": "unix", "value": f"path:/srv/a{number // _COMPONENTS}/bin/python"},
            ],
            "x509_svid_ttl": 3600,
            "jwt_svid_ttl": 0,
            "dns_names": [f"c{number}.example.org"],
            "expires_at": "0",
            "created_at": "1700000000",
        }
        for number in range(count)
    ]
    file.write_text(json.dumps({"entries": entries, "next_page_token": ""}))


def _id(path: str) -> dict[str, str]:
    return {"trust_domain": "example.org", "path": path}
