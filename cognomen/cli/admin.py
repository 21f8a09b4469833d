"""The command's side of the admin protocol: one call at a time over the issuer's admin socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from cognomen.cli.reach import check_reachable
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.status import kind_of_status
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Admin", "check_admin_socket", "connect", "pages", "refused"]

M = TypeVar("M", bound=Message)
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
_NO_ANSWER = ("failed to connect to all addresses", "Deadline Exceeded")  # gRPC's own words, here and not from a daemon


class Admin:
    """The methods of the service Admin; each raises what the issuer refused."""

    def __init__(self, channel: grpc.Channel, seconds: float = _BATCH_SECONDS) -> None:
        self._channel = channel
        self._seconds = seconds
        self._trust_domain: TrustDomain | None = None

    def create_invite(self, request: pb.CreateInviteRequest) -> pb.CreateInviteResponse:
        """Make an invite."""
        return self._call("CreateInvite", request, pb.CreateInviteResponse.FromString)

    def list_nodes(self, request: pb.ListNodesRequest) -> pb.ListNodesResponse:
        """One page of the nodes."""
        return self._call("ListNodes", request, pb.ListNodesResponse.FromString)

    def get_node(self, id_or_spiffe_id: str) -> pb.Node:
        """One node."""
        return self._call("GetNode", pb.GetNodeRequest(id=id_or_spiffe_id), pb.Node.FromString)

    def evict_node(self, id_or_spiffe_id: str) -> pb.Node:
        """Forget a node."""
        return self._call("EvictNode", pb.GetNodeRequest(id=id_or_spiffe_id), pb.Node.FromString)

    def ban_node(self, id_or_spiffe_id: str) -> pb.Node:
        """Ban a node."""
        return self._call("BanNode", pb.GetNodeRequest(id=id_or_spiffe_id), pb.Node.FromString)

    def purge_nodes(self, request: pb.PurgeNodesRequest) -> pb.PurgeNodesResponse:
        """Forget the nodes that never came back."""
        return self._call("PurgeNodes", request, pb.PurgeNodesResponse.FromString, seconds=_BATCH_SECONDS)

    def create_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        """Create entries, all or none."""
        return self._call("CreateEntries", request, pb.EntriesResponse.FromString, seconds=_BATCH_SECONDS)

    def update_entries(self, request: pb.EntriesRequest) -> pb.EntriesResponse:
        """Replace entries, all or none."""
        return self._call("UpdateEntries", request, pb.EntriesResponse.FromString, seconds=_BATCH_SECONDS)

    def delete_entries(self, request: pb.DeleteEntriesRequest) -> pb.EntriesResponse:
        """Delete entries, all or none."""
        return self._call("DeleteEntries", request, pb.EntriesResponse.FromString, seconds=_BATCH_SECONDS)

    def get_entry(self, entry_id: str) -> node_pb2.Entry:
        """One entry."""
        return self._call("GetEntry", pb.GetEntryRequest(id=entry_id), node_pb2.Entry.FromString)

    def list_entries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """One page of the entries."""
        return self._call("ListEntries", request, pb.ListEntriesResponse.FromString)

    def get_bundle(self) -> pb.GetBundleResponse:
        """The trust bundle."""
        return self._call("GetBundle", pb.GetBundleRequest(), pb.GetBundleResponse.FromString)

    def list_credentials(self, request: pb.ListCredentialsRequest) -> pb.ListCredentialsResponse:
        """One page of the ledger, newest first."""
        return self._call("ListCredentials", request, pb.ListCredentialsResponse.FromString)

    def list_authorities(self) -> pb.ListAuthoritiesResponse:
        """All authorities, oldest first."""
        return self._call("ListAuthorities", pb.ListAuthoritiesRequest(), pb.ListAuthoritiesResponse.FromString)

    def rotate_authority(self, kind: str) -> pb.ListAuthoritiesResponse:
        """Have the next authority of a kind sign as soon as everybody knows it."""
        return self._call(
            "RotateAuthority", pb.RotateAuthorityRequest(kind=kind), pb.ListAuthoritiesResponse.FromString
        )

    def prepare_authority(self, kind: str) -> pb.ListAuthoritiesResponse:
        """Have one more of a kind made that could sign next."""
        return self._call(
            "PrepareAuthority", pb.PrepareAuthorityRequest(kind=kind), pb.ListAuthoritiesResponse.FromString
        )

    def activate_authority(self, command: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        """Have an authority sign now."""
        return self._call("ActivateAuthority", command, pb.ListAuthoritiesResponse.FromString)

    def taint_authority(self, command: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        """Have all that an authority signed replaced."""
        return self._call("TaintAuthority", command, pb.ListAuthoritiesResponse.FromString)

    def revoke_authority(self, command: pb.AuthorityCommand) -> pb.ListAuthoritiesResponse:
        """Take an authority out of the bundle."""
        return self._call("RevokeAuthority", command, pb.ListAuthoritiesResponse.FromString)

    def get_status(self) -> pb.IssuerStatus:
        """How the issuer is."""
        return self._call("GetStatus", pb.GetStatusRequest(), pb.IssuerStatus.FromString)

    def list_audit(self, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        """One page of the record of decisions."""
        return self._call("ListAudit", request, pb.ListAuditResponse.FromString)

    def list_checkpoints(self) -> pb.ListCheckpointsResponse:
        """The newest checkpoints of that record, oldest first."""
        request = pb.ListCheckpointsRequest(page_size=1000)
        return self._call("ListCheckpoints", request, pb.ListCheckpointsResponse.FromString)

    def confirm_clock(self) -> pb.ConfirmClockResponse:
        """Say that the issuer's clock is right."""
        return self._call("ConfirmClock", pb.ConfirmClockRequest(), pb.ConfirmClockResponse.FromString)

    def revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        """Revoke, or say what would end."""
        return self._call("Revoke", request, pb.RevokeResponse.FromString, seconds=_BATCH_SECONDS)

    def get_revocation(self, number: int) -> pb.RevocationStatus:
        """One revocation, and who enforces it."""
        return self._call("GetRevocation", pb.GetRevocationRequest(number=number), pb.RevocationStatus.FromString)

    def await_revocation(self, number: int, longest: timedelta) -> pb.RevocationStatus:
        """One revocation, once everybody who is connected enforces it, or after that time."""
        request = pb.AwaitRevocationRequest(number=number)
        request.longest.FromTimedelta(longest)
        seconds = longest.total_seconds() + _SECONDS
        return self._call("AwaitRevocation", request, pb.RevocationStatus.FromString, seconds=seconds)

    def lift_revocation(self, number: int) -> pb.RevocationStatus:
        """End a block."""
        return self._call("LiftRevocation", pb.GetRevocationRequest(number=number), pb.RevocationStatus.FromString)

    def list_revocations(self, request: pb.ListRevocationsRequest) -> pb.ListRevocationsResponse:
        """One page of the revocations, newest first."""
        return self._call("ListRevocations", request, pb.ListRevocationsResponse.FromString)

    def list_blocked(self, request: pb.ListBlockedRequest) -> pb.ListBlockedResponse:
        """Entries that would be a node's, but for a revocation."""
        return self._call("ListBlocked", request, pb.ListBlockedResponse.FromString)

    def complete_id(self, text: str) -> SpiffeID:
        """Parse a SPIFFE ID; a bare path such as `/web` is one of the issuer's trust domain, which is asked for once."""
        if not text.startswith("/"):
            return SpiffeID.parse(text)
        if self._trust_domain is None:
            self._trust_domain = TrustDomain(self.get_bundle().trust_domain)
        return SpiffeID(trust_domain=self._trust_domain, path=text)

    def _call(self, method: str, request: Message, parse: Callable[[bytes], M], *, seconds: float = _SECONDS) -> M:
        call = self._channel.unary_unary(
            f"/cognomen.admin.v1.Admin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=parse,
        )
        try:
            return call(request, timeout=min(seconds, self._seconds))
        except grpc.RpcError as e:
            raise refused(e) from e


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


def pages(fetch: Callable[[RequestT], PageT], request: RequestT, *, every: bool) -> Iterator[PageT]:
    """Fetch the page that is asked for and, with `every`, all that follow."""
    while True:
        page = fetch(request)
        yield page
        request.page_token = page.next_page_token
        if not (every and request.page_token):
            return


def check_admin_socket(path: Path) -> None:
    """Try the admin socket at that path.

    Raises:
        Refused: UNAVAILABLE when nobody listens there, DENIED when we may not connect.
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


def refused(error: grpc.RpcError, daemon: str = "issuer") -> Refused:
    """Say as a refusal what a daemon answered, or that it does not: something accepts connections there, and nobody speaks."""
    call: object = error  # what grpcio raises here is a Call, too; its types do not say so
    if not isinstance(call, grpc.Call):
        raise error
    said = call.details()
    if said.startswith(_NO_ANSWER):
        return Refused(
            Kind.UNAVAILABLE,
            f"{daemon}: expected an answer, found none",
            hint=f"the {daemon} does not answer; is it stopped? look at its process and its log",
        )
    detail, _, hint = said.partition("\n")  # as issuer/api/status writes it
    return Refused(kind_of_status(call.code().name), detail or call.code().name.lower(), hint=hint)
