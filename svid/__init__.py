"""SPIFFE identities for Python: IDs, SVIDs, bundles, the Workload API and mTLS that follows every rotation.

Everything public is importable from here and loaded when it is first used: `from svid import SpiffeID` does not load gRPC.
Inside this project import the noun's module instead.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from svid.bundle import Bundle
    from svid.errors import (
        AddressError,
        AuthorizationError,
        BundleError,
        JWTSVIDError,
        RevokedError,
        SpiffeIDError,
        SVIDError,
        WorkloadAPIError,
        X509SVIDError,
    )
    from svid.jwtsvid import JWTSVID
    from svid.spiffeid import SpiffeID, TrustDomain
    from svid.tls.authorize import any_in, exactly, matching
    from svid.tls.connections import end_when_revoked, peer_id
    from svid.tls.context import LiveContext, client_context, server_context
    from svid.tls.grpc_client import grpc_aio_channel, grpc_bearer_credentials, grpc_channel
    from svid.tls.grpc_server import (
        BearerCheck,
        PeerCheck,
        grpc_aio_interceptor,
        grpc_aio_server,
        grpc_interceptor,
        grpc_server,
    )
    from svid.tls.guard import JWTGuard, verify_bearer
    from svid.tls.httpx_client import httpx_async_client, httpx_client
    from svid.tls.requests_session import requests_session
    from svid.tls.urllib_opener import urllib_opener
    from svid.tls.uvicorn_server import uvicorn_mtls
    from svid.wire.workload import X509Context
    from svid.workloadapi.client import WorkloadAPIClient
    from svid.workloadapi.sources import JWTSource, X509Source
    from svid.x509svid import X509SVID

__all__ = [
    "JWTSVID",
    "X509SVID",
    "AddressError",
    "AuthorizationError",
    "BearerCheck",
    "Bundle",
    "BundleError",
    "JWTGuard",
    "JWTSVIDError",
    "JWTSource",
    "LiveContext",
    "PeerCheck",
    "RevokedError",
    "SVIDError",
    "SpiffeID",
    "SpiffeIDError",
    "TrustDomain",
    "WorkloadAPIClient",
    "WorkloadAPIError",
    "X509Context",
    "X509SVIDError",
    "X509Source",
    "any_in",
    "client_context",
    "end_when_revoked",
    "exactly",
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
    "peer_id",
    "requests_session",
    "server_context",
    "urllib_opener",
    "uvicorn_mtls",
    "verify_bearer",
]

_MODULES = {
    "svid.bundle": ("Bundle",),
    "svid.errors": (
        "AddressError",
        "AuthorizationError",
        "BundleError",
        "JWTSVIDError",
        "RevokedError",
        "SVIDError",
        "SpiffeIDError",
        "WorkloadAPIError",
        "X509SVIDError",
    ),
    "svid.jwtsvid": ("JWTSVID",),
    "svid.spiffeid": ("SpiffeID", "TrustDomain"),
    "svid.tls.authorize": ("any_in", "exactly", "matching"),
    "svid.tls.connections": ("end_when_revoked", "peer_id"),
    "svid.tls.context": ("LiveContext", "client_context", "server_context"),
    "svid.tls.guard": ("JWTGuard", "verify_bearer"),
    "svid.tls.grpc_client": ("grpc_aio_channel", "grpc_bearer_credentials", "grpc_channel"),
    "svid.tls.grpc_server": (
        "BearerCheck",
        "PeerCheck",
        "grpc_aio_interceptor",
        "grpc_aio_server",
        "grpc_interceptor",
        "grpc_server",
    ),
    "svid.tls.httpx_client": ("httpx_async_client", "httpx_client"),
    "svid.tls.requests_session": ("requests_session",),
    "svid.tls.urllib_opener": ("urllib_opener",),
    "svid.tls.uvicorn_server": ("uvicorn_mtls",),
    "svid.wire.workload": ("X509Context",),
    "svid.workloadapi.client": ("WorkloadAPIClient",),
    "svid.workloadapi.sources": ("JWTSource", "X509Source"),
    "svid.x509svid": ("X509SVID",),
}
_EXTRAS = ("httpx", "requests", "uvicorn")  # whose names are the libraries'
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load what is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'svid' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as e:
        library = (e.name or "").partition(".")[0]
        if library not in _EXTRAS:
            raise
        raise ImportError(
            f"svid.{name}: expected {library} to be installed: it comes with the extra svid[{library}]"
        ) from e


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return __all__
