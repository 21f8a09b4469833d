"""Minting: what a node gets, what it does not, and what stands in the ledger and the audit afterwards."""

import itertools
import json
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from attestor.issuerclient.port import MAX_BATCH
from cognomen.protocol.audiences import MAX_AUDIENCES, MAX_SUM_BYTES
from cognomen.protocol.auditlog import broken_link
from cognomen.protocol.validity import BACKDATE
from issuer.datastore.sqlite import SQLiteDatastore
from svid.clock import SystemClock
from svid.encoding import certificates_from_der
from svid.keys import thumbprint
from tests.flow.issuer_harness import Issuer, Node, entry, new_key, public_der, running
from tests.flow.test_issuer_join import audit_reasons, refusal, spki


async def web(issuer: Issuer, node: Node, path: str = "/web", **fields: object) -> str:
    made = await issuer.create(entry(path, node.spiffe_id, "unix:uid:1000", **fields))
    return made.entries[0].id


def a_key() -> bytes:
    return public_der(new_key())


async def test_an_entry_gives_id_dns_names_and_ttl(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        made = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1", x509_svid_ttl=timedelta(minutes=7)))
        key = a_key()
        (minted,) = await node.mint((made.entries[0].id, key))
        (leaf,) = certificates_from_der(minted.credential.chain[0])
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(minutes=7) + BACKDATE
        assert minted.credential.entry_revision == 1
        assert abs(
            minted.credential.issued_at.ToDatetime(tzinfo=leaf.not_valid_after_utc.tzinfo) - SystemClock().now()
        ) < timedelta(minutes=1)
        (row,) = [each for each in await issuer.ledger() if each.kind == "x509"]
        assert row.serial == f"{leaf.serial_number:x}"
        assert row.entry_id == made.entries[0].id
        assert row.node_id == node.id
        await node.close()


async def test_the_ledger_says_issued_soon_after(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        await node.mint((await web(issuer, node), a_key()))
        await node.close()
    async with running(tmp_path) as issuer:  # what was deferred is written before the issuer ends
        assert {row.state for row in await issuer.ledger() if row.kind != "issuer"} == {"issued"}


async def test_a_batch_answers_in_order_and_refuses_by_item(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        mine, theirs = await web(issuer, node), await web(issuer, other)
        p521 = spki(ec.generate_private_key(ec.SECP521R1()).public_key())
        answers = await node.mint(
            (mine, a_key()), (theirs, a_key()), ("unknown", a_key()), (mine, p521), (mine, a_key())
        )
        assert [each.WhichOneof("outcome") for each in answers] == [
            "credential",
            "refusal",
            "refusal",
            "refusal",
            "credential",
        ]
        assert answers[1].refusal == answers[2].refusal  # nobody learns which entries there are
        assert answers[1].refusal.kind == "DENIED"
        assert answers[3].refusal.kind == "INVALID"
        reasons = await audit_reasons(tmp_path)
        assert len(reasons) == 2
        assert any('"items":"2"' in reason for reason in reasons)
        await node.close()


async def test_a_batch_of_1001_is_refused_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        refused = await refusal(node.mint(*itertools.repeat((mine, a_key()), 1001)))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.details() == "items: expected 1 to 1000, found 1001"
        refused = await refusal(node.mint_jwt(*itertools.repeat((mine, ["a"]), 1001)))
        assert refused.details() == "items: expected 1 to 1000, found 1001"
        assert not [row for row in await issuer.ledger() if row.kind in {"x509", "jwt"}]
        await node.close()


async def test_a_batch_of_1000_is_minted(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        answers = await node.mint(*((mine, a_key()) for _ in range(1000)))
        assert {each.WhichOneof("outcome") for each in answers} == {"credential"}
        await node.close()


async def test_a_key_serves_one_entry_on_one_node(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        web_id, db_id, theirs = await web(issuer, node), await web(issuer, node, "/db"), await web(issuer, other)
        key = a_key()
        (first,) = await node.mint((web_id, key))
        (again,) = await node.mint((web_id, key))
        (elsewhere,) = await node.mint((db_id, key))
        (stolen,) = await other.mint((theirs, key))
        (nodes,) = await node.mint((web_id, public_der(node.key)))
        assert first.HasField("credential")
        assert again.HasField("credential")
        for refused in (elsewhere, stolen, nodes):
            assert refused.refusal.kind == "DENIED"
            assert "certified for another entry or node" in refused.refusal.detail
        await node.close()
        await other.close()


async def test_one_key_under_two_entries_of_one_batch_gets_neither(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        web_id, db_id, key = await web(issuer, node), await web(issuer, node, "/db"), a_key()
        answers = await node.mint((web_id, key), (db_id, key), (web_id, a_key()))
        assert [each.WhichOneof("outcome") for each in answers] == ["refusal", "refusal", "credential"]
        assert thumbprint(key) not in str(answers[0].refusal)
        await node.close()


async def test_a_deleted_entry_mints_no_more(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        await issuer.delete(mine)
        (answer,) = await node.mint((mine, a_key()))
        assert answer.refusal.kind == "DENIED"
        await node.close()


async def test_an_entry_that_is_over_mints_no_more_and_its_svids_end_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        end = SystemClock().now() + timedelta(seconds=3)
        message = entry("/web", node.spiffe_id, "unix:uid:1")
        message.expires_at.FromDatetime(end)
        mine = (await issuer.create(message)).entries[0].id
        (minted,) = await node.mint((mine, a_key()))
        (leaf,) = certificates_from_der(minted.credential.chain[0])
        assert leaf.not_valid_after_utc == end.replace(microsecond=0)
        while not (answer := (await node.mint((mine, a_key())))[0]).HasField("refusal"):
            pass
        assert SystemClock().now() >= end - timedelta(seconds=1)
        assert answer.refusal.kind == "DENIED"
        await node.close()


async def test_a_group_gives_its_members_its_entries(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        member, stranger = await issuer.join({"team": "travel"}), await issuer.join({"team": "other"})
        group = entry("/group/travel", "spiffe://example.org/cognomen/issuer", "join_token:label:team:travel")
        await issuer.create(group)
        mine = (await issuer.create(entry("/web", group.spiffe_id, "unix:uid:1"))).entries[0].id
        (granted,) = await member.mint((mine, a_key()))
        (refused,) = await stranger.mint((mine, a_key()))
        assert granted.HasField("credential")
        assert refused.HasField("refusal")
        await member.close()
        await stranger.close()


async def test_a_token_carries_what_was_asked_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        (minted,) = await node.mint_jwt((mine, ["db", "cache"]))
        claims = jwt.decode(minted.credential.token, options={"verify_signature": False})
        assert sorted(claims) == ["aud", "exp", "iat", "jti", "sub"]
        assert claims["aud"] == ["db", "cache"]
        assert claims["exp"] - claims["iat"] == 300
        assert sorted(jwt.get_unverified_header(minted.credential.token)) == ["alg", "kid", "typ"]
        (row,) = [each for each in await issuer.ledger() if each.kind == "jwt"]
        assert row.serial == claims["jti"]
        assert list(row.audiences) == ["db", "cache"]
        await node.close()


async def test_audiences_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        bad: list[list[str]] = [[], [""], ["a"] * 17, ["a" * 1025], ["a" * 1000] * 16, ["a\n"]]
        answers = await node.mint_jwt(*((mine, audiences) for audiences in bad), (mine, ["a"]))
        assert [each.refusal.kind for each in answers] == ["INVALID"] * 6 + [""]
        await node.close()


async def test_budgets_are_those_of_the_configuration_and_refuse_by_item(tmp_path: Path) -> None:
    async with running(tmp_path, entry_svids_per_second=1, entry_svids_burst=10) as issuer:
        node = await issuer.join()
        mine, other = await web(issuer, node), await web(issuer, node, "/db")
        answers = await node.mint_jwt(*((mine, ["a"]) for _ in range(20)), (other, ["a"]))
        assert [each.refusal.kind for each in answers[15:20]] == ["EXHAUSTED"] * 5
        assert answers[20].HasField("credential")
        await node.close()
    async with running(tmp_path, node_svids_per_second=1, node_svids_burst=10) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node, "/mail")
        minted = await node.mint(*((mine, a_key()) for _ in range(20)))
        assert [each.refusal.kind for each in minted[15:]] == ["EXHAUSTED"] * 5
        await node.close()


async def test_each_credential_has_an_audit_row_in_an_unbroken_chain(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        (minted,) = await node.mint((mine, a_key()))
        await node.mint_jwt((mine, ["a"]), (mine, ["b"]))
        await node.close()
        serials = {row.serial for row in await issuer.ledger()}
    store = await SQLiteDatastore.open(tmp_path / "state" / "issuer.db")
    rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
    await store.close()
    assert broken_link(rows) is None
    events = [json.loads(row.body) for row in rows]
    assert sorted(event["credential"] for event in events if event["action"].endswith(" issued")) == sorted(serials)
    serial = f"{certificates_from_der(minted.credential.chain[0])[0].serial_number:x}"
    (event,) = [event for event in events if event["credential"] == serial]
    assert event["actor"] == node.spiffe_id
    assert event["subject"] == "spiffe://example.org/web"
    assert event["entry_revision"] == 1


async def test_the_largest_batch_of_an_attestor_is_minted_and_more_bytes_are_not_read(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = await web(issuer, node)
        largest = [f"{number:x}".rjust(MAX_SUM_BYTES // MAX_AUDIENCES, "a") for number in range(MAX_AUDIENCES)]
        answers = await node.mint_jwt(*itertools.repeat((mine, largest), MAX_BATCH))
        assert {each.WhichOneof("outcome") for each in answers} == {"credential"}
        refused = await refusal(node.mint_jwt((mine, ["a" * 600_000])))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in str(refused.details())
        await node.close()
