"""Names of nodes in the store: free ones are given, and commands find a node by them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.flows.manage_nodes import ManageNodes
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.queries import Queries
from issuer.works.nodes import named_in
from svid.keys import KeyID
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node
from tests.doubles.issuersurroundings import around

HEX = "0123456789abcdef0123456789abcdef"


class House:
    """The flow that renames nodes, on a store in memory."""

    def __init__(self, store: SQLiteDatastore) -> None:
        surroundings = around(FakeClock())
        self.store = store
        self.queries = Queries(store, TRUST_DOMAIN)
        self.nodes = ManageNodes(datastore=store, around=surroundings, watch=EnforcementWatch(around=surroundings))

    async def join(self, node_id: str, said: str) -> Node:
        def work(tx: Transaction) -> Node:
            node = named_in(tx, tx.nodes.get(NodeID(node_id)) or a_node(node_id), said)
            tx.nodes.put(node)
            return node

        return await self.store.write(work)

    async def rows(self) -> list[dict[str, object]]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=100))
        return [json.loads(row.body) for row in rows]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    yield House(store)
    await store.close()


async def test_nodes_of_one_host_name_are_numbered_and_keep_their_names_when_they_come_again(house: House) -> None:
    assert [(await house.join(one, "web")).name for one in ("n1", "n2", "n3")] == ["web", "web-2", "web-3"]
    assert (await house.join("n2", "other")).name == "web-2"


async def test_beyond_a_hundred_of_one_name_a_node_has_its_id(house: House) -> None:
    def crowd(tx: Transaction) -> None:
        for number in range(1, 101):
            name = "web" if number == 1 else f"web-{number}"
            tx.nodes.put(replace(a_node(f"n{number}"), name=name))

    await house.store.write(crowd)
    assert (await house.join("new", "web")).name == "new"


async def test_no_node_can_call_itself_what_means_another_node(house: House) -> None:
    await house.join(HEX, "web")
    assert (await house.join("n2", HEX)).name == "n2"
    assert (await house.join("n3", HEX[:8])).name == "n3"
    assert (await house.join("n4", "n3")).name == "n4"


async def test_upper_and_lower_case_are_one_name(house: House) -> None:
    await house.join("n1", "web")
    assert (await house.join("n2", "WEB")).name == "WEB-2"
    assert (await house.queries.get_node("WEB")).id == "n1"
    with pytest.raises(Refused, match=r"^name: another node has the name or id web-2$"):
        await house.nodes.rename("n1", "web-2", actor="uid:0")


@pytest.mark.parametrize("name", ["issuer", "Stranger", "many"])
async def test_no_node_has_the_records_own_words_for_who_acts(house: House, name: str) -> None:
    assert (await house.join(HEX, name)).name == HEX[:8]
    with pytest.raises(Refused, match=rf"^name: expected 1 to 253 .* none of issuer, many, stranger, found '{name}'$"):
        await house.nodes.rename(HEX, name, actor="uid:0")


@pytest.mark.parametrize("node_id", [HEX, "Machine-1"])
async def test_no_node_is_called_by_the_id_of_one_that_is_gone(house: House, node_id: str) -> None:
    signed = Credential(
        kind=CredentialKind.NODE,
        serial="aa",
        spiffe_id=a_node(node_id).spiffe_id,
        node_id=NodeID(node_id),
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW,
    )
    await house.store.write(lambda tx: tx.ledger.record([signed]))
    assert (await house.join("n2", node_id)).name == "n2"
    assert (await house.join(node_id, node_id)).name == node_id


async def test_a_node_is_found_by_id_spiffe_id_and_name(house: House) -> None:
    node = await house.join(HEX, "web")
    for text in (HEX, str(node.spiffe_id), "web"):
        assert await house.queries.get_node(text) == node
    with pytest.raises(Refused, match=r"^node: no node has the id, SPIFFE ID or name db$"):
        await house.queries.get_node("db")
    with pytest.raises(Refused, match=r"^id: expected a node's id, SPIFFE ID or name, found ''$"):
        await house.queries.get_node("")


async def test_an_id_that_is_the_name_of_another_node_means_neither(house: House) -> None:
    await house.join("n1", "db")
    await house.join("db", "db")  # a machine that proves this id itself
    with pytest.raises(Refused, match=r"^node: db is the id of one node and the name of another$") as refused:
        await house.nodes.evict("db", actor="uid:0")
    assert refused.value.kind is Kind.CONFLICT
    assert "cognomen node rename n1 NEW-NAME" in refused.value.hint
    assert (await house.queries.get_node(str(a_node("db").spiffe_id))).name == "db-2"


async def test_a_renamed_node_is_on_record_with_both_names(house: House) -> None:
    await house.join("n1", "web")
    assert (await house.nodes.rename("web", "db", actor="uid:0")).name == "db"
    assert (await house.queries.get_node("db")).id == "n1"
    (row,) = await house.rows()
    assert (row["action"], row["decision"], row["actor"]) == ("node renamed", "allowed", "uid:0")
    assert row["subject"] == str(a_node("n1").spiffe_id)
    assert row["facts"] == {"before": "web", "after": "db"}
    await house.nodes.rename("db", "db", actor="uid:0")
    assert len(await house.rows()) == 1  # nothing changed


async def test_a_name_that_is_taken_or_unfit_is_refused_and_on_record(house: House) -> None:
    for node_id, said in (("n1", "web"), ("n2", "db"), (HEX, "log")):
        await house.join(node_id, said)
    for name in ("db", "n2", HEX, HEX[:8]):
        with pytest.raises(Refused, match=rf"^name: another node has the name or id {name}$") as refused:
            await house.nodes.rename("web", name, actor="uid:0")
        assert refused.value.kind is Kind.EXISTS
    with pytest.raises(Refused, match=r"^name: expected 1 to 253"):
        await house.nodes.rename("web", "no name", actor="uid:0")
    assert {(row["action"], row["decision"]) for row in await house.rows()} == {("node renamed", "refused")}
    assert (await house.queries.get_node("n1")).name == "web"
