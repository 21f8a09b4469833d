"""The client of the admin protocol: one call at a time over the issuer's admin socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from cognomen.cli.asking import Asking
from cognomen.cli.cells import View
from cognomen.cli.reach import check_reachable
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb.admin_rpc import AdminClient
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Admin", "check_admin_socket", "connect", "pages"]

RequestT = TypeVar("RequestT", bound="_PageRequest")
PageT = TypeVar("PageT", bound="_Page")

_SECONDS = 30.0
_BATCH_SECONDS = 300.0  # 100,000 entries on a busy machine
_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # as in svid/workloadapi/client
    ("grpc.default_authority", "localhost"),
)


class Admin(AdminClient):
    """The methods of the service Admin; each raises the issuer's refusal."""

    def __init__(self, channel: grpc.Channel, seconds: float = _BATCH_SECONDS) -> None:
        super().__init__(Asking(channel, "issuer", lambda request: min(_seconds(request), seconds)))
        self._trust_domain: TrustDomain | None = None

    def complete_id(self, text: str) -> SpiffeID:
        """Parse a SPIFFE ID; a path such as `/web` belongs to the issuer's trust domain, which we ask for once; `/` is all of it."""
        if "://" not in text and not text.startswith("/"):
            raise SpiffeIDError(f"expected spiffe://… or a path such as /{text}, found {text!r}", clause="SPIFFE-ID 2")
        if not text.startswith("/"):
            return SpiffeID.parse(text)
        return SpiffeID(trust_domain=self.trust_domain, path=text if text != "/" else "")

    def view(self, output: str) -> View:
        """How to show tables: SPIFFE IDs of the issuer's trust domain as their paths, unless they are shown whole."""
        return View(output=output, trust_domain=self.trust_domain.name if output == "table" else "")

    @property
    def trust_domain(self) -> TrustDomain:
        """The issuer's trust domain."""
        if self._trust_domain is None:
            self._trust_domain = TrustDomain(self.get_bundle().trust_domain)
        return self._trust_domain


def _seconds(request: Message) -> float:
    """How long a call may take: longer for a batch."""
    match request:
        case pb.EntriesRequest() | pb.DeleteEntriesRequest() | pb.ApplyEntriesRequest():
            return _BATCH_SECONDS
        case pb.PlanRulebookRequest() | pb.ApplyRulebookRequest() | pb.AgentRequest() | pb.AskAttestorsRequest():
            return _BATCH_SECONDS
        case pb.PurgeNodesRequest() | pb.RevokeRequest() | pb.GetAgentReviewRequest() | pb.ExportAgentReviewRequest():
            return _BATCH_SECONDS
        case pb.AwaitRevocationRequest():
            return request.longest.ToTimedelta().total_seconds() + _SECONDS
        case _:
            return _SECONDS


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


def pages(fetch: Callable[[RequestT], PageT], request: RequestT, *, every: bool) -> Iterator[PageT]:
    """Fetch the requested page and, with `every`, all pages after it."""
    while True:
        page = fetch(request)
        yield page
        request.page_token = page.next_page_token
        if not (every and request.page_token):
            return


def check_admin_socket(path: Path) -> None:
    """Check that an issuer listens at that path.

    Raises:
        Refused: UNAVAILABLE when no issuer listens there, DENIED when we may not connect.
    """
    check_reachable(
        path,
        "admin socket",
        expected="an issuer that listens",
        hint="start it (cognomen issuer run), or name its socket by --socket or COGNOMEN_ADMIN_SOCKET",
        denied_hint="run the command as the issuer's user",
    )


@contextmanager
def connect(path: Path, *, seconds: float = _BATCH_SECONDS) -> Iterator[Admin]:
    """Connect to the admin socket at that path.

    Args:
        seconds: how long each call may take at most; only batches take longer than half a minute.

    Raises:
        Refused: as check_admin_socket.
    """
    check_admin_socket(path)
    with grpc.insecure_channel(f"unix://{quote(str(path.absolute()))}", options=_OPTIONS) as channel:
        yield Admin(channel, seconds)
