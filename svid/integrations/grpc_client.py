"""gRPC clients over mutual TLS with SPIFFE IDs: channels that follow every rotation, and JWT-SVIDs as call credentials.

gRPC does not show a client the server's certificate, and takes an identity only once per channel. So a channel connects to a relay in the
same process, and the relay speaks TLS with a LiveContext: svid/integrations/grpc_relay. Servers are in svid/integrations/grpc_server.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import grpc

from svid.errors import SVIDError
from svid.integrations.grpc_relay import relay_to
from svid.jwtsvid import JWTSVID
from svid.source import X509Identity
from svid.tls.authorize import Authorizer
from svid.tls.context import client_context
from svid.tls.reports import OnRefused

__all__ = ["grpc_aio_channel", "grpc_bearer_credentials", "grpc_channel"]

_PROXY_OPTIONS = frozenset({"grpc.enable_http_proxy", "grpc.http_proxy"})

Options = Sequence[tuple[str, object]]


@contextlib.contextmanager
def grpc_channel(
    target: str,
    source: X509Identity,
    authorize: Authorizer,
    *,
    options: Options = (),
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> Iterator[grpc.Channel]:
    """Open a channel on which we show our SVID, and the server must prove a SPIFFE ID that `authorize` accepts, whatever its host name.

    A call fails with UNAVAILABLE while the server is not allowed or is denied, or while we have no identity; svid's log says why.

    Args:
        target: `host:port`, or `[v6]:port`.
        options: gRPC's channel options.
        refuse_after, on_refused: as in LiveContext.

    Raises:
        ValueError: the target is not of that form.
        TypeError: as LiveContext.

    Source: SPIFFE X509-SVID 5; RFC 9113 6.8
    """
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    with (
        relay_to(target, source, context) as name,
        grpc.secure_channel(f"unix-abstract:{name}", _local_credentials(), _options(target, options)) as channel,
    ):
        yield channel


@contextlib.asynccontextmanager
async def grpc_aio_channel(
    target: str,
    source: X509Identity,
    authorize: Authorizer,
    *,
    options: Options = (),
    refuse_after: timedelta | None = None,
    on_refused: OnRefused | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Open the same for asyncio."""
    context = client_context(source, authorize, refuse_after=refuse_after, on_refused=on_refused)
    with relay_to(target, source, context) as name:
        async with grpc.aio.secure_channel(
            f"unix-abstract:{name}", _local_credentials(), _options(target, options)
        ) as channel:
            yield channel


class TokenFetcher(Protocol):
    """What a client needs to send JWT-SVIDs; a JWTSource is one."""

    def fetch(self, audience: str | Collection[str]) -> JWTSVID:
        """Fetch a JWT-SVID for that audience."""


def grpc_bearer_credentials(source: TokenFetcher, audience: str | Collection[str]) -> grpc.CallCredentials:
    """Make call credentials: each call sends a JWT-SVID for that audience as `authorization: Bearer …`.

    If no JWT-SVID can be fetched, the call fails with UNAVAILABLE.

    Source: RFC 6750 2.1
    """
    return grpc.metadata_call_credentials(_Bearer(source, audience), name="jwt-svid")


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, source: TokenFetcher, audience: str | Collection[str]) -> None:
        self._source = source
        self._audience = audience

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._source.fetch(self._audience).token
        except SVIDError as e:
            callback((), e)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def _options(target: str, options: Options) -> Options:
    """The caller's options without a proxy: gRPC would ask the proxy for the relay's abstract socket name, in vain."""
    wanted = [(name, value) for name, value in options if name not in _PROXY_OPTIONS]
    return [("grpc.default_authority", target), *wanted, ("grpc.enable_http_proxy", 0)]


def _local_credentials() -> grpc.ChannelCredentials:
    return grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
