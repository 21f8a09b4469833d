"""Rows of keys without secrets: what relying parties of OpenID Connect get from the issuer."""

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import h2load
from bench.house import House, cpu_seconds, rss_mb
from bench.results import Measured
from bench.rig.daemons import free_port
from bench.rig.webca import WebAuthority
from bench.settings import Settings

__all__ = ["keys_served"]

_REQUESTS = 20_000


@dataclass(frozen=True, kw_only=True)
class Published:
    """A house whose issuer serves its keys as `url`, with a certificate of `authority`."""

    house: House
    url: str
    authority: WebAuthority


@contextmanager
def published(directory: Path, *options: str) -> Iterator[Published]:
    """Both daemons; the issuer serves its keys over HTTPS, as localhost."""
    authority = WebAuthority(directory.parent)
    authority.identity.chmod(0o600)
    port = free_port()
    url = f"https://localhost:{port}"
    web = (
        f"--jwt-issuer={url}",
        f"--web-address=127.0.0.1:{port}",
        f"--web-certificate-file={authority.identity}",
        f"--web-key-file={authority.identity}",
    )
    with House.serving(directory, *web, *options) as house:
        yield Published(house=house, url=url, authority=authority)


def keys_served(settings: Settings) -> Measured:
    """The keys of JWT-SVIDs over HTTPS from kept connections, in requests for each second of CPU of the process that answers."""
    h2load.check_present()
    with published(settings.directory) as found:
        wanted = len(_keys(found))
        pid = _answering(found.house.issuer.pid)
        before = cpu_seconds(pid)
        load = h2load.run_https(
            f"{found.url}/keys",
            answer_bytes=wanted,
            requests=settings.count(_REQUESTS),
            directory=settings.directory.parent,
        )
        figures = {
            "per CPU-second": load.calls / (cpu_seconds(pid) - before),
            "per second": load.rate,
            "MB more": rss_mb(pid),
        }
    return Measured(figures=figures, samples=load.calls, failed=load.failed)


def _keys(found: Published) -> bytes:
    context = ssl.create_default_context(cafile=str(found.authority.path))
    with urllib.request.urlopen(f"{found.url}/keys", context=context, timeout=20) as answer:  # noqa: S310 - https, and ours
        body: bytes = answer.read()
    assert json.loads(body)["keys"]  # noqa: S101 - an empty list would be served faster
    return body


def _answering(issuer: int) -> int:
    """The process that the issuer started to answer relying parties."""
    (pid,) = Path(f"/proc/{issuer}/task/{issuer}/children").read_text().split()
    return int(pid)
