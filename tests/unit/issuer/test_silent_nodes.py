"""Which nodes may have used an entry without a report: those that have its parent, in a real store, with what is not stored yet."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.uses import Reported
from issuer.queries import Queries
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry

DAY = timedelta(days=1)
LATER = NOW + 40 * DAY
SINCE = LATER - 30 * DAY
GROUP, ENDED = an_entry("/group").spiffe_id, an_entry("/ended").spiffe_id
REPORTS = Reported(since=NOW, until=None)


def alive(name: str, *, reported: Reported | None = None, of: str = "join_token:label:team:travel") -> Node:
    return replace(a_node(name, of=of), svid_not_after=LATER, reported=reported)


NODES = [
    alive("n1"),
    alive("n2", of="join_token:label:team:other"),
    alive("n3", reported=REPORTS),
    replace(alive("n4"), state=NodeState.BANNED),
    alive("n5"),
]


@pytest.fixture
async def store() -> AsyncIterator[Datastore]:
    opened = await SQLiteDatastore.open(None)
    groups = [
        an_entry("/group", entry_id="g", parent="/cognomen/issuer", of="join_token:label:team:travel"),
        replace(
            an_entry("/ended", entry_id="e", parent="/cognomen/issuer", of="join_token:label:team:other"),
            expires_at=LATER - DAY,
        ),
    ]
    for node in NODES:
        await opened.write(lambda tx, node=node: tx.nodes.put(node))  # type: ignore[misc]  # bound at once
    await opened.write(lambda tx: tx.entries.insert(groups))
    await opened.write(lambda tx: tx.uses.begin_anew(NOW))
    yield opened
    await opened.close()


def seen(node: Node) -> Node:
    """The row with what is not stored yet: n5 has reported."""
    return replace(node, reported=REPORTS) if node.id == "n5" else node


async def below(store: Datastore, *parents: SpiffeID) -> dict[str, frozenset[SpiffeID]]:
    found = await Queries(store, TRUST_DOMAIN).silent_below(parents, since=SINCE, now=LATER, seen=seen)
    return {node.id: theirs for node, theirs in found}


async def test_nodes_are_found_by_their_own_id_and_by_the_groups_that_they_are_in_now(store: Datastore) -> None:
    n1, n2, n3 = (node.spiffe_id for node in NODES[:3])
    assert await below(store, GROUP) == {"n1": {GROUP}}
    assert await below(store, GROUP, n1, n2, n3) == {"n1": {GROUP, n1}, "n2": {n2}}
    assert await below(store, n3) == {}
    assert await below(store, ENDED) == {}
    assert await below(store) == {}


async def test_after_a_gap_in_the_store_no_node_that_was_there_before_has_reported(store: Datastore) -> None:
    await store.write(lambda tx: tx.uses.begin_anew(LATER - DAY))
    assert set(await below(store, GROUP)) == {"n1", "n3", "n5"}


async def test_of_named_nodes_those_that_exist_and_are_silent_are_told(store: Datastore) -> None:
    names = [NodeID(name) for name in ("n1", "n3", "n4", "n5", "n9")]
    queries = Queries(store, TRUST_DOMAIN)
    found = await queries.silent_among(names, since=SINCE, until=LATER, seen=seen)
    assert [node.id for node in found] == ["n1"]
    assert await queries.silent_among(names, since=NOW - DAY, until=NOW + timedelta(minutes=1), seen=seen) == []
