"""What an attestor and, where it runs on the same machine, the issuer say about a process: the facts for `explain`."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cognomen.cli.admin import Admin, connect, pages
from cognomen.cli.inforce import in_force
from cognomen.cli.inspect import inspecting
from cognomen.protocol.errors import Refused
from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Shown
from cognomen.rulebook.mending import fact_of
from cognomen.wire.node import selector_from_pb
from cognomen.wire.pb import admin_pb2, inspect_pb2
from svid.spiffeid import SpiffeID

__all__ = ["AskedIssuer", "AskedNode", "ask_issuer", "ask_node", "asked_of"]

_ALWAYS = frozenset({"unix:uid", "unix:gid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedNode:
    """What the attestor of a process says.

    Args:
        node_path: the path of its node's SPIFFE ID.
        looked_at: which facts it looked at, as `mending.fact_of` has them.
        unseen: which facts it could not see, and why.
        withdrawn: why nobody on the node gets an identity; empty: the node was not sent away.
    """

    selectors: frozenset[Selector]
    node_path: str
    looked_at: frozenset[str]
    unseen: Sequence[str]
    withdrawn: str


def ask_node(socket: str, pid: int) -> AskedNode:
    """Ask the attestor behind a workload socket about a process; 0: this command itself.

    Raises:
        Refused: it does not answer, or not about that process.
    """
    with inspecting(socket) as inspect:
        return asked_of(inspect.explain(inspect_pb2.ExplainRequest(pid=pid)))


def asked_of(answer: inspect_pb2.Explanation) -> AskedNode:
    """What an answer of an attestor says."""
    selectors = frozenset(map(Selector.parse, answer.selectors))
    asked = {fact_of(Selector.parse(text)) for one in answer.near for text in one.selectors}
    asked |= {fact for one in answer.unseen for fact in one.partition(": ")[0].split(" and ")}
    return AskedNode(
        selectors=selectors,
        node_path=SpiffeID.parse(answer.node_spiffe_id).path,
        looked_at=frozenset({*map(fact_of, selectors), *asked}) | _ALWAYS,
        unseen=list(answer.unseen),
        withdrawn=answer.withdrawn,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedIssuer:
    """What the issuer knows beside the rules.

    Args:
        nodes: what each of its nodes shows, and its path.
        held: the names of the agents that are suspended beside the rules.
    """

    nodes: Collection[Shown]
    held: Collection[str]

    def selectors_of(self, node_path: str) -> frozenset[Selector] | None:
        """What a node shows; None: the issuer does not know it."""
        return next((one.node for one in self.nodes if one.node_path == node_path), None)


def ask_issuer(socket: Path) -> AskedIssuer | None:
    """Ask the issuer, if we may; None: we may not, or it does not answer."""
    if not os.access(socket, os.W_OK):
        return None
    with suppress(Refused), connect(socket) as admin:
        found = pages(admin.list_nodes, admin_pb2.ListNodesRequest(page_size=1000), every=True)
        nodes = [
            Shown(
                selectors=frozenset(),
                node=frozenset(map(selector_from_pb, one.selectors)),
                node_path=SpiffeID.parse(one.spiffe_id).path,
            )
            for page in found
            for one in page.nodes
        ]
        return AskedIssuer(nodes=nodes, held=_held(admin))
    return None


def _held(admin: Admin) -> Collection[str]:
    with suppress(Refused):  # no rulebook was applied yet
        return frozenset(in_force(admin).held)
    return ()
