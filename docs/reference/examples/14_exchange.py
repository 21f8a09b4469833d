"""Exchange a JWT-SVID for a provider's token.

A `TokenExchange` trades fresh JWT-SVIDs for the tokens of a model API, a cloud or a vault, and keeps each until shortly before its end.
A profile knows what one provider wants. Most need the issuer's `jwt_issuer`. What was exchanged lives until its own end at the provider,
even if the JWT-SVID is revoked; the `TokenExchange` then gives it to nobody any more.

Names: TokenExchange, AccessToken, ExchangeError, NotSentError, Profile, anthropic_profile, openai_profile, aws_sts_profile,
gcp_sts_profile, azure_profile, vault_profile, generic_profile
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from svid import (
    AccessToken,
    ExchangeError,
    JWTSource,
    NotSentError,
    Profile,
    TokenExchange,
    anthropic_profile,
    aws_sts_profile,
    azure_profile,
    gcp_sts_profile,
    generic_profile,
    openai_profile,
    vault_profile,
)

claude = anthropic_profile("fdrl_1", "my-organization", service_account_id="svac_1")
profiles: list[Profile] = [
    claude,
    openai_profile("idp_1", "sa_1"),
    aws_sts_profile("arn:aws:iam::123456789012:role/agent", "agent", region="eu-west-1"),
    gcp_sts_profile("projects/1/locations/global/workloadIdentityPools/agents/providers/cognomen"),
    azure_profile("my-tenant", "my-client", "https://vault.azure.net/.default"),
    generic_profile("https://sts.example.org/token", "https://sts.example.org", grant="token-exchange"),
]
for profile in profiles:
    print(profile.name, "takes JWT-SVIDs for", profile.audience, "at", profile.url)


class Vault(BaseHTTPRequestHandler):
    """Stands in for a vault."""

    def do_POST(self) -> None:
        """Give a token to everybody."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"auth": {"client_token": "hvs.example", "lease_duration": 3600}}).encode())


def header(token: AccessToken) -> dict[str, str]:
    return {"X-Vault-Token": token.value}


with JWTSource() as source, HTTPServer(("127.0.0.1", 0), Vault) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    login = TokenExchange(vault_profile(f"http://127.0.0.1:{server.server_port}", "web", "vault"), source)
    token = login.token()  # in asyncio: await login.token_async()
    print(sorted(header(token)), token.expires_at)
    assert login.token() is token
    login.forget(token)  # after the vault refused it
    assert login.token() is not token

    try:
        TokenExchange(claude, source).token()  # nothing is sent: this issuer has no name
    except ExchangeError as e:
        print(e)
    server.shutdown()
    server.server_close()
    login.forget()
    try:
        login.token()
    except NotSentError as e:  # nothing left this process
        print(e, "- try again later" if e.is_temporary else "- this does not help itself")

try:
    vault_profile("https://vault.example.org", "web", "https://api.anthropic.com")
except ExchangeError as e:
    print(e)
