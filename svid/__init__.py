"""SPIFFE identities for Python: IDs, SVIDs, bundles, the Workload API, and mTLS that follows every rotation.

Import everything public from here. A name is loaded when it is first used: `from svid import SpiffeID` does not load gRPC.
`from svid import *` loads everything, except what needs a library that is not installed.
Inside this project, import from the module that defines the name.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from svid.bundle import Bundle
    from svid.errors import (
        AddressError,
        AuthorizationError,
        BundleError,
        ExchangeError,
        JWTSVIDError,
        NotSentError,
        RevokedError,
        SpiffeIDError,
        SVIDError,
        WorkloadAPIError,
        X509SVIDError,
    )
    from svid.integrations.asgi_guard import JWTGuard
    from svid.integrations.bearer import verify_bearer
    from svid.integrations.exchange import AccessToken, TokenExchange
    from svid.integrations.exchange_profiles import (
        Profile,
        anthropic_profile,
        aws_sts_profile,
        azure_profile,
        gcp_sts_profile,
        generic_profile,
        openai_profile,
        vault_profile,
    )
    from svid.integrations.grpc_checks import BearerCheck, PeerCheck
    from svid.integrations.grpc_client import grpc_aio_channel, grpc_bearer_credentials, grpc_channel
    from svid.integrations.grpc_server import grpc_aio_interceptor, grpc_aio_server, grpc_interceptor, grpc_server
    from svid.integrations.httpx_client import httpx_async_client, httpx_client
    from svid.integrations.requests_session import requests_session
    from svid.integrations.urllib_opener import urllib_opener
    from svid.integrations.uvicorn_server import uvicorn_mtls
    from svid.jwtsvid import JWTSVID
    from svid.spiffeid import SpiffeID, TrustDomain
    from svid.tls.authorize import any_in, exactly, matching
    from svid.tls.connections import end_when_revoked, peer_id
    from svid.tls.context import LiveContext, client_context, server_context
    from svid.tls.declared import Declared, declared
    from svid.tls.reports import Reason, Refusal, refusal_counts
    from svid.wire.workload import X509Context
    from svid.workloadapi.client import WorkloadAPIClient
    from svid.workloadapi.sources import JWTSource, X509Source
    from svid.workloadapi.tokenfile import TokenFile
    from svid.x509svid import X509SVID

__all__ = [
    "JWTSVID",
    "X509SVID",
    "AccessToken",
    "AddressError",
    "AuthorizationError",
    "BearerCheck",
    "Bundle",
    "BundleError",
    "Declared",
    "ExchangeError",
    "JWTGuard",
    "JWTSVIDError",
    "JWTSource",
    "LiveContext",
    "NotSentError",
    "PeerCheck",
    "Profile",
    "Reason",
    "Refusal",
    "RevokedError",
    "SVIDError",
    "SpiffeID",
    "SpiffeIDError",
    "TokenExchange",
    "TokenFile",
    "TrustDomain",
    "WorkloadAPIClient",
    "WorkloadAPIError",
    "X509Context",
    "X509SVIDError",
    "X509Source",
    "anthropic_profile",
    "any_in",
    "aws_sts_profile",
    "azure_profile",
    "client_context",
    "declared",
    "end_when_revoked",
    "exactly",
    "gcp_sts_profile",
    "generic_profile",
    "grpc_aio_channel",
    "grpc_aio_interceptor",
    "grpc_aio_server",
    "grpc_bearer_credentials",
    "grpc_channel",
    "grpc_interceptor",
    "grpc_server",
    "httpx_async_client",
    "httpx_client",
    "matching",
    "openai_profile",
    "peer_id",
    "refusal_counts",
    "requests_session",
    "server_context",
    "urllib_opener",
    "uvicorn_mtls",
    "vault_profile",
    "verify_bearer",
]

_MODULES = {
    "svid.bundle": ("Bundle",),
    "svid.errors": (
        "AddressError",
        "AuthorizationError",
        "BundleError",
        "ExchangeError",
        "JWTSVIDError",
        "NotSentError",
        "RevokedError",
        "SVIDError",
        "SpiffeIDError",
        "WorkloadAPIError",
        "X509SVIDError",
    ),
    "svid.integrations.asgi_guard": ("JWTGuard",),
    "svid.integrations.bearer": ("verify_bearer",),
    "svid.integrations.exchange": ("AccessToken", "TokenExchange"),
    "svid.integrations.exchange_profiles": (
        "Profile",
        "anthropic_profile",
        "aws_sts_profile",
        "azure_profile",
        "gcp_sts_profile",
        "generic_profile",
        "openai_profile",
        "vault_profile",
    ),
    "svid.integrations.grpc_checks": ("BearerCheck", "PeerCheck"),
    "svid.integrations.grpc_client": ("grpc_aio_channel", "grpc_bearer_credentials", "grpc_channel"),
    "svid.integrations.grpc_server": (
        "grpc_aio_interceptor",
        "grpc_aio_server",
        "grpc_interceptor",
        "grpc_server",
    ),
    "svid.integrations.httpx_client": ("httpx_async_client", "httpx_client"),
    "svid.integrations.requests_session": ("requests_session",),
    "svid.integrations.urllib_opener": ("urllib_opener",),
    "svid.integrations.uvicorn_server": ("uvicorn_mtls",),
    "svid.jwtsvid": ("JWTSVID",),
    "svid.spiffeid": ("SpiffeID", "TrustDomain"),
    "svid.tls.authorize": ("any_in", "exactly", "matching"),
    "svid.tls.connections": ("end_when_revoked", "peer_id"),
    "svid.tls.declared": ("Declared", "declared"),
    "svid.tls.context": ("LiveContext", "client_context", "server_context"),
    "svid.tls.reports": ("Reason", "Refusal", "refusal_counts"),
    "svid.wire.workload": ("X509Context",),
    "svid.workloadapi.client": ("WorkloadAPIClient",),
    "svid.workloadapi.sources": ("JWTSource", "X509Source"),
    "svid.workloadapi.tokenfile": ("TokenFile",),
    "svid.x509svid": ("X509SVID",),
}
_EXTRAS = {  # the libraries that not every installation has; an extra is named after its library
    "svid.integrations.httpx_client": "httpx",
    "svid.integrations.requests_session": "requests",
    "svid.integrations.uvicorn_server": "uvicorn",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_MISSING = {module for module, library in _EXTRAS.items() if find_spec(library) is None}
__all__[:] = [name for name in __all__ if _HOME[name] not in _MISSING]  # what `from svid import *` can give


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'svid' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as e:
        library = (e.name or "").partition(".")[0]
        if library not in _EXTRAS.values():
            raise
        raise ImportError(
            f"svid.{name}: {library} is not installed; install it, or svid's own wheel with its extra [{library}] (svid is not on PyPI)"
        ) from e


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
