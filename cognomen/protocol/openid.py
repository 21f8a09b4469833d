"""What relying parties of OpenID Connect read about us: the URL of the issuer, its discovery document, and its keys.

Which authorities are in the bundle is decided by the issuer (decisions/rotation); who serves these documents: issuer/web.
"""

import json
import re
from urllib.parse import SplitResult, urlsplit

from cognomen.protocol.addresses import host_and_port
from svid.bundle import Bundle
from svid.keys import JWS_ALGORITHMS, jws_algorithm

__all__ = ["DISCOVERY_PATH", "KEYS_PATH", "check_issuer_url", "discovery_document", "keys_document"]

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/keys"

_MAX_URL = 1024
_HTTPS = 443
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_EXAMPLE = "https://oidc.example.org"


def check_issuer_url(url: str) -> SplitResult:
    """Parse the URL of an issuer.

    Relying parties compare it as a text, so that we accept only one way to write each: host in lower case, no port 443, no `/` at the end.

    Raises:
        ValueError: it is not such a URL.

    Source: OpenID Connect Core 2, `iss`; Discovery 4.1
    """
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable():
        raise ValueError(f"expected an https URL of at most {_MAX_URL} printable ASCII characters, found {url[:60]!r}")
    if not url.startswith("https://"):
        raise ValueError(f"expected an https URL such as {_EXAMPLE}, found {url!r}")
    if "?" in url or "#" in url:
        raise ValueError(f"expected no query and no fragment, found {url!r}")
    parts = urlsplit(url)
    address = parts.netloc if re.search(r":[0-9]*$", parts.netloc) else f"{parts.netloc}:{_HTTPS}"
    try:
        host_and_port(address)
    except ValueError as e:
        raise ValueError(f"expected a host, and a port if it is not {_HTTPS}, after https://, found {url!r}") from e
    if parts.port == 0:
        raise ValueError(f"expected a port from 1 to 65535, or none, found {url!r}")
    if parts.netloc != parts.netloc.lower() or parts.netloc.endswith((f":{_HTTPS}", ".")):
        raise ValueError(f"expected a host in lower case without :{_HTTPS} and without a dot at its end, found {url!r}")
    if not _PATH.fullmatch(parts.path) or {".", ".."} & set(parts.path.split("/")):
        raise ValueError(f"expected a path of /names without / at its end, or none, found {url!r}")
    if "/.well-known" in parts.path:
        raise ValueError(f"expected the URL below which /.well-known/openid-configuration is, found {url!r}")
    return parts


def discovery_document(issuer: str) -> bytes:
    """The metadata of the issuer with this URL.

    All algorithms that an authority may ever sign with are in it: a relying party may read it once, and keep it for as long as it runs.

    Shape: `issuer`, `jwks_uri`, and what else Discovery demands of an issuer that has no authorization endpoint.

    Source: OpenID Connect Discovery 3
    """
    return _encode(
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}{KEYS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted(JWS_ALGORITHMS),
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti"],
        }
    )


def keys_document(bundle: Bundle) -> bytes:
    """The JWT authorities as a JWK Set, each with `kid`, `use` and `alg` as relying parties expect; equal contents give the same text.

    Source: RFC 7517 4, 5; OpenID Connect Discovery 3, `jwks_uri`
    """
    keys: list[object] = []
    for jwk in json.loads(bundle.jwt_jwks())["keys"]:
        algorithm = jws_algorithm(bundle.jwt_authorities[jwk["kid"]])
        keys.append({**jwk, "use": "sig", "alg": algorithm})
    return _encode({"keys": keys})


def _encode(document: dict[str, object]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
