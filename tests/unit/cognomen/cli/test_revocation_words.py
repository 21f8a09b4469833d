"""What `cognomen revoke` says in one line."""

import pytest

from cognomen.cli.revocations import said_of
from cognomen.wire.pb import admin_pb2 as pb


@pytest.mark.parametrize(
    ("nodes", "dry_run", "told"),
    [
        (["a"], True, "dry run: 27 credentials would end, and the node would be banned"),
        (["a", "b"], True, "dry run: 27 credentials would end, and the 2 nodes would be banned"),
        (["a"], False, "revocation 3: 27 credentials ended, and the node is banned"),
        (["a", "b"], False, "revocation 3: 27 credentials ended, and the 2 nodes are banned"),
    ],
)
def test_a_revocation_of_nodes_says_that_they_are_banned(*, nodes: list[str], dry_run: bool, told: str) -> None:
    target = pb.RevocationTarget(kind="node", node_ids=nodes)
    done = pb.RevokeResponse(revocation=pb.Revocation(number=3, denied=27, target=target))
    assert said_of(done, dry_run=dry_run) == told
