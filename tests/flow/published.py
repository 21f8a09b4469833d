"""Both daemons, with an issuer that serves its keys to relying parties over HTTPS, as localhost."""

import http.client
import json
import shutil
import ssl
import threading
from pathlib import Path

import jwt

from bench.rig.daemons import free_port
from bench.rig.webca import WebAuthority
from svid.workloadapi.sources import JWTSource
from tests.flow.twodaemons import World

__all__ = ["AUDIENCE", "Published"]

AUDIENCE = "https://api.example.com"


class Published(World):
    """Both daemons; the issuer serves its keys over HTTPS, as localhost."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.authority = WebAuthority(directory)
        self.identity = directory / "served.pem"
        self.present(self.authority)
        super().__init__(
            directory,
            f"--jwt-issuer={self.url}",
            f"--web-address=127.0.0.1:{self.port}",
            f"--web-certificate-file={self.identity}",
            f"--web-key-file={self.identity}",
            *options,
        )

    def present(self, authority: WebAuthority) -> None:
        """Put its certificate where the issuer looks, as one step."""
        beside = self.identity.with_suffix(".new")
        shutil.copyfile(authority.identity, beside)
        beside.chmod(0o600)
        beside.rename(self.identity)

    def trusting(self, authority: WebAuthority | None = None) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str((authority or self.authority).path))

    def ask(
        self, path: str, *, method: str = "GET", context: ssl.SSLContext | None = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context or self.trusting())
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers

    def token(self, *options: str) -> str:
        found = self.command("fetch", "jwt", f"--audience={AUDIENCE}", f"--socket={self.workload}", *options)
        svids = found["svids"]
        assert isinstance(svids, list)
        return str(svids[0]["svid"])

    def kids(self) -> list[str]:
        return [one["kid"] for one in json.loads(self.ask("/keys")[1])["keys"]]

    def signing(self) -> str:
        """The JWT authority that signs."""
        rows = self.listed("authority", "authorities")
        (active,) = [str(row["key_id"]) for row in rows if row["kind"] == "jwt" and row["state"] == "active"]
        return active

    def rotate_jwt(self, source: JWTSource, audience: str) -> str:
        """Let the next JWT authority sign, and return a fresh token that it signed."""
        before = _signer(source.fetch(audience, fresh=True).token)
        self.command("authority", "rotate", "jwt")
        while _signer(token := source.fetch(audience, fresh=True).token) == before:  # pytest's timeout ends it
            threading.Event().wait(0.05)
        return token


def _signer(token: str) -> object:
    return jwt.get_unverified_header(token)["kid"]
