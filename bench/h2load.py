"""h2load, the load for unary calls: a C program that is faster than any of our servers.

It counts HTTP statuses and does not know those of gRPC, so the caller says how long the body of a good answer is.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "MissingProgram", "check_present", "run", "run_https"]

_FIGURES = re.compile(
    r"(?P<rate>[\d.]+) req/s.*?requests: \d+ total, \d+ started, (?P<done>\d+) done, \d+ succeeded, (?P<failed>\d+) failed, "
    r"(?P<errored>\d+) errored, (?P<timeout>\d+) timeout.*?status codes: (?P<ok>\d+) 2xx.*?\((?P<data>\d+)\) data",
    re.DOTALL,
)
_CONNECTIONS = _STREAMS = 8
_SPARE_SECONDS = 30
_LONGEST_SECONDS = 120


class MissingProgram(Exception):  # noqa: N818 - says what is missing
    """A program that a row needs is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The results of h2load.

    Attributes:
        latencies: of the calls that ended within the time, in seconds.
        failed: calls without an answer with status 200 and the expected length.
    """

    rate: float
    calls: int
    failed: int
    latencies: tuple[float, ...]


def check_present() -> None:
    """Check that h2load is installed.

    Raises:
        MissingProgram: it is not; the message names Debian's package.
    """
    if shutil.which("h2load") is None:
        raise MissingProgram("h2load: expected it on the PATH, found none; install Debian's package nghttp2-client")


def run(socket: Path, method: str, body: bytes, *, answer_bytes: int, seconds: float, directory: Path) -> Load:
    """Call a method of the Workload API from 8 connections with 8 calls in flight on each.

    Args:
        body: the message, framed.
        answer_bytes: how many bytes of body a good answer has, framed.
        seconds: for how long, after a fifth of that to warm up.
    """
    data = directory / "body"
    data.write_bytes(body)
    whole = max(1, round(seconds))
    options = [
        *("-D", str(whole), "--warm-up-time", f"{max(200, whole * 200)}ms"),
        *("-m", str(_STREAMS), "-d", str(data)),
        *("-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "workload.spiffe.io: true"),
        *(f"--base-uri=unix:{socket}", f"http://localhost/SpiffeWorkloadAPI/{method}"),
    ]
    return _load(options, answer_bytes=answer_bytes, limit=whole * 2 + _SPARE_SECONDS, directory=directory)


def run_https(url: str, *, answer_bytes: int, requests: int, directory: Path) -> Load:
    """Get a document that often over HTTP/1.1 and TLS, from 8 connections that are kept, one request after the other on each.

    Args:
        answer_bytes: how many bytes of body a good answer has.
    """
    options = ["-n", str(requests), "--h1", url]
    return _load(options, answer_bytes=answer_bytes, limit=_LONGEST_SECONDS, directory=directory)


def _load(options: Sequence[str], *, answer_bytes: int, limit: float, directory: Path) -> Load:
    log = directory / "h2load.log"
    command = ["h2load", "-c", str(_CONNECTIONS), "-t", "1", "--log-file", str(log), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    found = _FIGURES.search(done.stdout)
    if found is None:
        raise ValueError(f"h2load: expected its figures, found {done.stdout[-300:]!r}")
    calls = int(found["done"])
    # A refusal has no body, so the bytes that are missing show how many calls got no answer; calls that the end cut off do not count.
    missing = max(0, calls - int(found["data"]) // answer_bytes)
    bad = max(missing, calls - int(found["ok"])) + int(found["failed"]) + int(found["errored"]) + int(found["timeout"])
    latencies = [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines() if line.split()[1] == "200"]
    return Load(rate=float(found["rate"]), calls=calls, failed=bad, latencies=tuple(latencies))
