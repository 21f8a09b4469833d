"""A real Vault knows the issuer's URL alone: our JWT-SVIDs log in there, as docs/how-to/no-more-api-keys.md says, word for word."""

import os
import re
import textwrap
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from svid.clock import SystemClock
from svid.encoding import base64url_decode
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import vault_profile
from svid.jwtsvid import JWTSVID
from svid.source import FreshTokens
from svid.spiffeid import SpiffeID
from svid.workloadapi.sources import JWTSource
from tests.doubles.project import ROOT
from tests.doubles.provider import error_of
from tests.flow.published import Published
from tests.interop.vaultserver import VAULT, Vault, vault

pytestmark = pytest.mark.skipif(not VAULT.exists(), reason="Vault: `make interop` builds it, from the Go proxy")

AUDIENCE, ROLE, ME = "vault", "reasoning", "spiffe://example.org/reasoning"
LOGINS = 3  # at once, while the authority rotates
PAGE = (ROOT / "docs" / "how-to" / "no-more-api-keys.md").read_text()
(SECTION,) = re.findall(r"^## Vault and OpenBao\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"^ *```\w+\n(.*?)^ *```$", SECTION, re.DOTALL | re.MULTILINE)
SET_UP, LOG_IN, AGENT, END_ALL, UPLOAD = map(textwrap.dedent, BLOCKS)
(CONFIGURE,) = re.findall(r"^vault write auth/jwt/config (?:.*\\\n)*.*\n", SET_UP, re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Both our daemons, and a Vault that was set up as the page says."""

    world: Published
    vault: Vault
    source: JWTSource

    def exchange(
        self,
        *,
        role: str = ROLE,
        audience: str = AUDIENCE,
        spiffe_id: str = ME,
        source: FreshTokens | None = None,
        mount: str = "jwt",
    ) -> TokenExchange:
        return TokenExchange(
            vault_profile(self.vault.address, role, audience, mount=mount),
            source or self.source,
            spiffe_id=spiffe_id,
            context=self.vault.authority.client_context(),
        )

    def reads(self, token: str, path: str) -> int:
        """The status of reading that secret."""
        return self.vault.ask("GET", f"secret/data/{path}", token=token)[0]

    def page(self, text: str) -> str:
        """What a reader types, with the names of this place."""
        for written, here in (
            ("https://oidc.example.org", self.world.url),
            ("@ca.pem", f"@{self.world.authority.path}"),
            ("/run/agent", str(self.world.directory / "agent")),
        ):
            assert written in PAGE
            text = text.replace(written, here)
        return text

    def type(self, text: str, *, is_root: bool = True) -> str:
        """What it prints."""
        done = self.vault.typed(
            self.page(text),
            is_root=is_root,
            SPIFFE_ENDPOINT_SOCKET=f"unix://{self.world.workload}",
            COGNOMEN_ADMIN_SOCKET=str(self.world.admin),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def mount(self, name: str, configure: str) -> None:
        """Once more, elsewhere: what follows the line that enables it on the page, with that configuration."""
        if self.vault.ask("GET", f"sys/auth/{name}", token=self.vault.root)[0] != 200:
            self.type(f"vault auth enable -path={name} jwt")
        role = SET_UP.rpartition("vault write ")[2]
        self.type(f"{configure}\nvault write {role}".replace("auth/jwt/", f"auth/{name}/"))

    def fresh(self) -> str:
        """A JWT-SVID that nobody has seen."""
        return self.source.fetch(AUDIENCE, spiffe_id=ME, fresh=True).token

    def log_in(self, token: str, mount: str = "jwt") -> int:
        """The status of a login over plain HTTP."""
        return self.vault.ask("PUT", f"auth/{mount}/login", {"role": ROLE, "jwt": token})[0]

    def rotate(self) -> str:
        """The authority that signs afterwards."""
        signed = self.world.signing()
        self.world.command("authority", "rotate", "jwt")
        while (now := self.world.signing()) == signed:  # pytest's timeout ends it
            pass
        return now


@pytest.fixture(scope="module", params=["ec-p256", "rsa-2048"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("w")
    world = Published(directory, f"--jwt-authority-key={request.param}", "--authority-spread=2s")
    with world.running(), vault(directory / "vault") as running:
        world.entry("/reasoning", "/nodes", f"unix:uid:{os.getuid()}")
        (directory / "agent").mkdir()
        for path in ("agent/model", "others/model"):
            running.write(f"secret/data/{path}", {"data": {"key": path}})
        with JWTSource(f"unix://{world.workload}") as source:
            place = Place(world=world, vault=running, source=source)
            place.type(SET_UP)
            yield place


def test_a_component_logs_in_and_reads_what_its_policy_allows_and_nothing_else(place: Place) -> None:
    before = SystemClock().now()
    token = place.exchange().token()
    assert token.expires_at is not None
    assert timedelta(minutes=14) < token.expires_at - before <= timedelta(minutes=16)
    assert place.reads(token.value, "agent/model") == 200
    assert place.reads(token.value, "others/model") == 403


def test_a_file_of_fetch_is_a_login_too(place: Place) -> None:
    token = place.type(LOG_IN, is_root=False).splitlines()[-1].strip()
    assert place.reads(token, "agent/model") == 200


def test_vaults_own_agent_logs_in_by_the_file(place: Place) -> None:
    place.type(LOG_IN, is_root=False)
    (place.world.directory / "agent.hcl").write_text(place.page(AGENT))
    place.type(f"vault agent -config={place.world.directory}/agent.hcl -exit-after-auth", is_root=False)
    kept = place.world.directory / "agent" / "vault-token"
    assert place.reads(kept.read_text(), "agent/model") == 200
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (place.world.directory / "agent" / "vault" / "jwt").exists()


def test_no_login_fails_while_the_authority_rotates(place: Place) -> None:
    is_over = threading.Event()

    def log_in(signers: list[str]) -> None:
        """Again and again, and note who signed; the first failure is raised."""
        source = Altering(place.source)
        exchange = place.exchange(source=source)
        while not is_over.is_set():
            exchange.forget(exchange.token())
            signers.append(source.signer)

    noted: list[list[str]] = [[] for _ in range(LOGINS)]
    with ThreadPoolExecutor(LOGINS) as pool:
        under_way = [pool.submit(log_in, signers) for signers in noted]
        try:
            for _ in range(3):  # the last one's key was not there when Vault fetched the keys
                now = place.rotate()
                while not all(now in signers for signers in noted) and not any(each.done() for each in under_way):
                    pass
        finally:
            is_over.set()
        for each in under_way:
            each.result()
    for signers in noted:
        assert len(set(signers)) == 4


class Altering:
    """A svid.source.FreshTokens that may change a token on its way.

    Attributes:
        signer: the authority of the last one.
    """

    def __init__(self, source: FreshTokens, alter: Callable[[str], str] = str) -> None:
        self._source, self._alter = source, alter
        self.signer = ""

    def fetch(
        self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None, fresh: bool = False
    ) -> JWTSVID:
        svid = self._source.fetch(audience, spiffe_id=spiffe_id, fresh=fresh)
        self.signer = svid.key_id or ""
        return replace(svid, token=self._alter(svid.token))


def tampered(token: str) -> str:
    """Another subject, under the same signature."""
    header, claims, signature = token.split(".")
    other = base64url_decode(claims).replace(b"/reasoning", b"/connector")
    return ".".join((header, urlsafe_b64encode(other).rstrip(b"=").decode(), signature))


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What is wrong, what Vault says, and what our error points to."""

    name: str
    exchange: Callable[[Place], TokenExchange]
    says: str
    points_to: str


REFUSED = (
    Refused(
        name="another audience",
        exchange=lambda place: place.exchange(audience="https://vault.example.org"),
        says="invalid audience (aud) claim",
        points_to="bound_audiences",
    ),
    Refused(
        name="another subject",
        exchange=lambda place: place.exchange(spiffe_id="spiffe://example.org/web"),
        says="invalid subject (sub) claim",
        points_to="sub spiffe://example.org/web",
    ),
    Refused(
        name="a tampered token",
        exchange=lambda place: place.exchange(source=Altering(place.source, tampered)),
        says="error verifying token signature",
        points_to="the keys",
    ),
    Refused(
        name="an unknown role",
        exchange=lambda place: place.exchange(role="unknown"),
        says='role "unknown" could not be found',
        points_to="the role",
    ),
    Refused(
        name="another issuer",
        exchange=lambda place: place.exchange(mount="elsewhere"),
        says="invalid issuer (iss) claim",
        points_to="bound_issuer",
    ),
    Refused(
        name="no such mount",
        exchange=lambda place: place.exchange(mount="nowhere"),
        says="permission denied",
        points_to="mount",
    ),
)


@pytest.mark.parametrize("refused", REFUSED, ids=lambda one: one.name)
def test_what_vault_refuses_says_what_to_look_at(place: Place, refused: Refused) -> None:
    place.mount("elsewhere", CONFIGURE.replace("bound_issuer=", "bound_issuer=https://elsewhere.example/"))
    error = error_of(refused.exchange(place), re.escape(refused.says))
    assert error.status in (400, 403)
    assert not error.is_temporary
    assert refused.points_to in str(error.hint)
    assert place.exchange().token().value


def test_what_ends_all_logins_at_vault(place: Place) -> None:
    exchange = place.exchange()
    token = exchange.token()
    place.type(END_ALL)
    assert place.reads(token.value, "agent/model") == 403
    exchange.forget(token)
    assert place.reads(exchange.token().value, "agent/model") == 200


def test_vault_trusts_a_revoked_authority_until_it_looks_for_the_keys_again(place: Place) -> None:
    revoked, token = place.world.signing(), place.fresh()
    assert place.log_in(token) == 200
    place.rotate()
    place.world.command("authority", "revoke", revoked, "--force")
    while revoked in place.world.kids():
        pass
    assert place.log_in(token) == 200
    place.type(CONFIGURE)
    assert place.log_in(token) == 400
    assert place.log_in(place.fresh()) == 200


def test_keys_that_were_uploaded_are_good_until_one_signs_that_was_not_there(place: Place) -> None:
    place.mount("uploaded", UPLOAD)
    assert place.log_in(place.fresh(), "uploaded") == 200
    place.rotate()
    assert place.log_in(place.fresh(), "uploaded") == 200
    place.rotate()
    error = error_of(place.exchange(mount="uploaded"), "no known key successfully validated the token signature")
    assert "the keys" in str(error.hint)
    place.mount("uploaded", UPLOAD)
    assert place.exchange(mount="uploaded").token().value
