"""What texts mean when the issuer is of an earlier release, which knows whole ids only."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from cognomen.cli.admin import Admin, connect
from cognomen.cli.naming import full_id, with_node
from cognomen.protocol.meaning import Nameable
from cognomen.wire.pb import admin_pb2 as pb


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    """The admin socket of something that knows one method only."""
    bundle = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: pb.GetBundleResponse(trust_domain="example.org"),
        request_deserializer=pb.GetBundleRequest.FromString,
        response_serializer=pb.GetBundleResponse.SerializeToString,
    )
    known = grpc.method_handlers_generic_handler("cognomen.admin.v1.Admin", {"GetBundle": bundle})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[known])
    server.add_insecure_port(f"unix://{tmp_path}/s")
    server.start()
    try:
        with connect(tmp_path / "s") as admin:
            yield admin
    finally:
        server.stop(None).wait()


def test_an_id_is_taken_as_it_is(admin: Admin) -> None:
    for kind in Nameable:
        assert full_id(admin, kind, "0123456789abcdef") == "0123456789abcdef"
    assert with_node(admin, "0123456789abcdef") == "0123456789abcdef"


def test_the_path_of_a_node_is_its_spiffe_id(admin: Admin) -> None:
    path = "/cognomen/node/join_token/n1"
    assert full_id(admin, Nameable.NODE, path) == f"spiffe://example.org{path}"
