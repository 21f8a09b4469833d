"""A node that is sent away: what it held ends there, too, for its attestor hears that before its feed ends."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from svid.errors import WorkloadAPIError
from svid.workloadapi.client import WorkloadAPIClient

ME = f"unix:uid:{os.geteuid()}"


def refusal(ask: Callable[[], object]) -> str:
    """What it is refused with, once it is; the test's own time limit is the end of that."""
    while True:
        try:
            ask()
        except WorkloadAPIError as e:
            return str(e)


@pytest.mark.parametrize("command", [("revoke", "node"), ("node", "ban"), ("node", "evict")], ids=" ".join)
def test_what_its_workloads_held_ends_on_the_node_itself(tmp_path: Path, command: tuple[str, str]) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev, WorkloadAPIClient(f"unix://{dev.socket}") as client:
        token = client.fetch_jwt_svids(["db"])[0].token
        client.validate_jwt_svid(token, "db")
        (node,) = dev.admin("node", "list")["nodes"]
        dev.admin(*command, str(node["id"]))
        assert "it was revoked" in refusal(lambda: client.validate_jwt_svid(token, "db"))
        assert "no identity issued" in refusal(client.fetch_x509_context)
