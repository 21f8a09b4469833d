"""The flow that revokes, on a store in memory: what ends, what is minted meanwhile, and what is on record."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import pytest

from cognomen.protocol.auditlog import broken_link
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID, issuer_id
from cognomen.protocol.selector import Selector
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.revocations import list_revocations, revoke
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.budget import Allowance
from issuer.decisions.falling import Falling
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.minting import parse_key
from issuer.decisions.operator import Operator
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.flows.change_entries import ChangeEntries, How
from issuer.flows.issue_svids import Issued, IssueSVIDs, JWTRequest, X509Request
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.revoke import Revoke, Revoked
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics
from issuer.queries import Queries
from issuer.works.denials import all_of_nodes, end_in
from svid.denials import KEPT_FOR, OPEN_FOR
from svid.keys import KeyID, KeyKind, SigningKey, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, a_token, an_entry, jwt_authority, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore

T = TypeVar("T")
HOUR = timedelta(hours=1)
N1, N2 = a_node("n1"), a_node("n2", of="join_token:label:team:db")
ON_N2 = "/cognomen/node/join_token/n2"
WEB = an_entry("/web", entry_id="web", of="unix:uid:1")
WEB_API = an_entry("/web/api", entry_id="api", of="unix:uid:2")
DB = an_entry("/db", entry_id="db", of="unix:uid:1", parent=ON_N2)
ENTRIES = (WEB, WEB_API, DB)


async def no_lives() -> dict[str, timedelta]:
    """No provider is declared."""
    return {}


class GatedKeys(GivenKeys):
    """Gives a key only while the gate is open."""

    def __init__(self, *keys: SigningKey) -> None:
        super().__init__(*keys)
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, key_id: KeyID) -> SigningKey:
        """As GivenKeys, once the gate is open."""
        await self.gate.wait()
        return await super().get(key_id)


@dataclass(frozen=True, kw_only=True)
class House:
    """An issuer with two nodes: /web and /web/api on n1, /db on n2."""

    clock: FakeClock
    store: SQLiteDatastore
    keys: GatedKeys
    deferred: DeferredWrites
    svids: IssueSVIDs
    node_svids: NodeSVIDs
    revoke: Revoke

    async def stored(self, number: int) -> Revocation | None:
        return await self.store.read(lambda tx: tx.revocations.get(number))

    async def leaf(self, entry: RegistrationEntry, node: Node = N1, *, key: bytes = b"") -> Credential | Refused:
        public_key = key or new_key()
        (answer,) = await self.svids.x509(node, [X509Request(entry_id=entry.id, public_key=public_key)])
        return answer.credential if isinstance(answer, Issued) else answer

    async def token(self, entry: RegistrationEntry, node: Node = N1) -> Credential | Refused:
        (answer,) = await self.svids.jwt(node, [JWTRequest(entry_id=entry.id, audiences=("db",))])
        return answer.credential if isinstance(answer, Issued) else answer

    async def node_svid(self, node: Node) -> Credential:
        intent = await self.store.write(lambda tx: self.node_svids.record(tx, node, parse_key(new_key())))
        await self.node_svids.release(intent)
        return intent.recorded.credential

    async def fill(self) -> dict[str, str]:
        """A leaf and a token of each entry and the SVID of each node: their serials, by name."""
        found: dict[str, Credential | Refused] = {}
        for entry, node in ((WEB, N1), (WEB_API, N1), (DB, N2)):
            found[f"{entry.id} leaf"] = await self.leaf(entry, node)
            found[f"{entry.id} token"] = await self.token(entry, node)
        for node in (N1, N2):
            found[node.id] = await self.node_svid(node)
        return {name: one.serial for name, one in found.items() if isinstance(one, Credential)}

    async def end(
        self, target: Target, *, reason: Reason = Reason.UNSPECIFIED, comment: str = "", dry_run: bool = False
    ) -> Revoked:
        return await self.revoke(target, reason=reason, comment=comment, dry_run=dry_run, actor="uid:0")

    def measured(self) -> float:
        """How many revocations were measured from their command to their commit."""
        registry = self.revoke.watch.metrics.registry
        return registry.get_sample_value("cognomen_issuer_revocation_committed_seconds_count") or 0

    async def ended(self) -> set[str]:
        """The serials that denials name, which are those that the ledger says are revoked."""
        rows = await self.store.read(lambda tx: tx.ledger.find(LedgerFilter(is_revoked=True), before=0, limit=1000))
        denials = await self.store.read(lambda tx: list(tx.denials.all()))
        assert {f"{denial.number:x}" for denial in denials} == {row.serial for row in rows}
        return {row.serial for row in rows}

    async def said(self, number: int) -> Revocation:
        found = await self.store.read(lambda tx: tx.revocations.get(number))
        assert found is not None
        return found

    async def audit(self) -> Sequence[dict[str, object]]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        assert broken_link(rows) is None
        return [json.loads(row.body) for row in rows]

    async def changes(self, after: int = 0) -> list[tuple[str, str]]:
        found = await self.store.read(lambda tx: tx.changes.after(after, limit=1000))
        return [(change.kind.value, change.subject) for change in found]

    async def everything(self) -> object:
        """What a refusal and a dry run must leave as it is; the audit aside."""
        return await self.store.read(
            lambda tx: (
                tx.revocations.find(before=0, limit=100),
                list(tx.denials.all()),
                tx.ledger.find(LedgerFilter(), before=0, limit=1000),
                tx.changes.head(),
                tx.nodes.find(after="", limit=100),
                tx.tokens.get(a_token().hash),
            )
        )


def new_key() -> bytes:
    return public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, metrics = await SQLiteDatastore.open(None), FakeClock(NOW), Metrics()
    x509, jwt = await x509_authority(), jwt_authority()
    for row in (x509.authority, jwt.authority):
        await store.write(lambda tx, row=row: tx.authorities.put(row))  # type: ignore[misc]  # bound at once
    for node in (N1, N2):
        await store.write(lambda tx, node=node: tx.nodes.put(node))  # type: ignore[misc]  # bound at once
    await store.write(lambda tx: tx.entries.insert(ENTRIES))
    await store.write(lambda tx: tx.tokens.put(a_token()))
    keys = GatedKeys(x509.key, jwt.key)
    deferred = DeferredWrites(datastore=store, around=around(clock, metrics=metrics))
    way = issuance(store, clock, keys, deferred=deferred, metrics=metrics)
    plenty = Allowance(burst=10_000, per_second=1000)
    yield House(
        clock=clock,
        store=store,
        keys=keys,
        deferred=deferred,
        svids=IssueSVIDs(
            datastore=store,
            issuance=way,
            budgets=MintBudgets(entry=plenty, node=plenty, clock=clock),
            limits=issuance_limits(clock),
            refusals=RefusalRecord(datastore=store, around=around(clock, metrics=metrics)),
            around=around(clock, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            x509_ttl=HOUR,
            jwt_ttl=HOUR,
        ),
        node_svids=NodeSVIDs(issuance=way, around=around(clock), trust_domain=TRUST_DOMAIN, ttl=HOUR),
        revoke=Revoke(
            datastore=store, around=around(clock), watch=EnforcementWatch(around=around(clock, metrics=metrics))
        ),
    )
    await store.close()


def refused_as(answer: Credential | Refused, detail: str) -> bool:
    return isinstance(answer, Refused) and answer.kind is Kind.DENIED and detail in answer.detail


def path(name: str) -> SpiffeID:
    return SpiffeID(trust_domain=TRUST_DOMAIN, path=name)


WEB_ALONE = Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=path("/web"))
WEB_BELOW = Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=path("/web"), below=True)
ENTRY = Target(kind=RevocationKind.ENTRY, entry_ids=(WEB.id,))
UID_1 = Target(kind=RevocationKind.SELECTOR, selector=Selector("unix", "uid:1"))
TEAM_DB = Target(kind=RevocationKind.SELECTOR, selector=Selector("join_token", "label:team:db"))
NODE = Target(kind=RevocationKind.NODE, node_ids=(N2.id,))
BEFORE = Target(kind=RevocationKind.ISSUED_BEFORE, before=NOW)
UNKNOWN = f"{2**127:x}"


class TestEveryKind:
    @pytest.mark.parametrize(
        ("target", "names", "changes"),
        [
            (ENTRY, ["web leaf", "web token"], [("entry", "web")]),
            (WEB_ALONE, ["web leaf", "web token"], [("entry", "web")]),
            (WEB_BELOW, ["web leaf", "web token", "api leaf", "api token"], [("entry", "api"), ("entry", "web")]),
            (UID_1, ["web leaf", "web token", "db leaf", "db token"], [("entry", "db"), ("entry", "web")]),
            (TEAM_DB, ["db leaf", "db token"], [("node", "n2")]),
            (NODE, ["db leaf", "db token", "n2"], [("node", "n2")]),
            (BEFORE, ["web leaf", "web token", "api leaf", "api token", "db leaf", "db token"], []),
            (replace(BEFORE, node_ids=(N2.id,)), ["db leaf", "db token"], []),
            (replace(BEFORE, entry_ids=(WEB.id, DB.id)), ["web leaf", "web token", "db leaf", "db token"], []),
            (replace(BEFORE, spiffe_id=path("/web/api")), ["api leaf", "api token"], []),
            (replace(BEFORE, before=NOW - timedelta(microseconds=1)), [], []),
        ],
    )
    async def test_ends_what_it_names_and_tells_whose_entitlement_changed(
        self, house: House, target: Target, names: list[str], changes: list[tuple[str, str]]
    ) -> None:
        serials, head = await house.fill(), len(await house.changes())
        foretold = await house.end(target, dry_run=True)
        done = await house.end(target, reason=Reason.PRIVILEGE_WITHDRAWN, comment="käse")
        assert await house.ended() == {serials[name] for name in names}
        assert done.falling == foretold.falling
        assert (foretold.revocation.number, foretold.revocation.denied) == (0, len(names))
        expected = Revocation(
            target=target,
            reason=Reason.PRIVILEGE_WITHDRAWN,
            comment="käse",
            actor="uid:0",
            at=NOW,
            number=1,
            denied=len(names),
            change=head + 1,
        )
        assert done.revocation == await house.stored(1) == expected
        assert await house.changes(head) == [("denial", "1"), *changes]

    async def test_svids_end_by_their_serials_and_jtis(self, house: House) -> None:
        serials = await house.fill()
        named = (serials["web leaf"], serials["db token"])
        done = await house.end(Target(kind=RevocationKind.SVID, serials=named))
        assert (await house.ended(), done.revocation.denied) == (set(named), 2)
        assert isinstance(await house.leaf(WEB), Credential), "whoever matches gets another"

    async def test_an_entry_and_its_node_that_have_one_selector_are_counted_once(self, house: House) -> None:
        both = replace(DB, selectors=DB.selectors | N2.selectors)
        await house.store.write(lambda tx: tx.entries.replace([both]))
        await house.fill()
        foretold = await house.end(TEAM_DB, dry_run=True)
        done = await house.end(TEAM_DB)
        assert foretold.revocation.denied == done.revocation.denied == 2

    async def test_a_node_is_banned_and_its_invites_are_void(self, house: House) -> None:
        await house.end(replace(NODE, node_ids=(N1.id,)))
        assert await house.store.read(lambda tx: tx.tokens.get(a_token().hash)) is None
        nodes = await house.store.read(lambda tx: tx.nodes.find(after="", limit=9))
        assert [(node.id, node.state) for node in nodes] == [("n1", NodeState.BANNED), ("n2", NodeState.ACTIVE)]
        with pytest.raises(Refused, match="banned or gone"):
            await house.leaf(WEB)


BAD = [
    (replace(ENTRY, entry_ids=()), Kind.INVALID, "entry_ids: expected 1 to 1000"),
    (replace(ENTRY, entry_ids=(WEB.id, EntryID("nobody"))), Kind.NOT_FOUND, "no entry has the id 'nobody'"),
    (replace(NODE, node_ids=(N1.id, NodeID("n9"))), Kind.NOT_FOUND, "no node has the id 'n9'"),
    (replace(BEFORE, before=NOW + timedelta(seconds=1)), Kind.INVALID, "expected a time in the past"),
    (Target(kind=RevocationKind.SVID, serials=(UNKNOWN,)), Kind.NOT_FOUND, "expected one that we signed"),
    (replace(BEFORE, entry_ids=(WEB.id, EntryID("typo"))), Kind.NOT_FOUND, "no entry has the id 'typo'"),
    (replace(BEFORE, node_ids=(N1.id, NodeID("typo"))), Kind.NOT_FOUND, "no node has the id 'typo'"),
    (
        replace(WEB_ALONE, spiffe_id=N2.spiffe_id),
        Kind.INVALID,
        "expected a workload's SPIFFE ID, found spiffe://example.org/cog",
    ),
    (
        replace(BEFORE, spiffe_id=N2.spiffe_id),
        Kind.INVALID,
        "expected a workload's SPIFFE ID, found spiffe://example.org/cog",
    ),
]


class TestOneTransaction:
    @pytest.mark.parametrize(("target", "kind", "detail"), BAD, ids=lambda value: str(getattr(value, "kind", "")))
    async def test_a_refusal_leaves_nothing_but_its_row_of_the_audit(
        self, house: House, target: Target, kind: Kind, detail: str
    ) -> None:
        await house.fill()
        before, rows = await house.everything(), len(await house.audit())
        with pytest.raises(Refused, match=detail) as refused:
            await house.end(target)
        assert refused.value.kind is kind
        assert await house.everything() == before
        (row,) = (await house.audit())[rows:]
        assert (row["action"], row["decision"], row["actor"]) == ("revoked", "refused", "uid:0")
        assert detail in str(row["reason"])

    async def test_serials_of_which_one_is_unknown_end_nothing(self, house: House) -> None:
        serials = await house.fill()
        with pytest.raises(Refused, match="expected one that we signed"):
            await house.end(Target(kind=RevocationKind.SVID, serials=(serials["web leaf"], UNKNOWN)))
        assert await house.ended() == set()

    async def test_a_comment_that_steers_a_terminal_is_refused_and_not_on_record(self, house: House) -> None:
        with pytest.raises(Refused, match="printable"):
            await house.end(ENTRY, comment="\x1b[2Jall is well")
        assert "\x1b" not in json.dumps(await house.audit(), ensure_ascii=False)

    async def test_a_node_group_is_no_workload(self, house: House) -> None:
        group = replace(
            an_entry("/group", entry_id="g", of="join_token:label:team:db"), parent_id=issuer_id(TRUST_DOMAIN)
        )
        await house.store.write(lambda tx: tx.entries.insert([group]))
        for target in (
            replace(ENTRY, entry_ids=(group.id,)),
            replace(BEFORE, entry_ids=(group.id,)),
            replace(WEB_ALONE, spiffe_id=group.spiffe_id),
            replace(WEB_BELOW, spiffe_id=group.spiffe_id),
            replace(BEFORE, spiffe_id=group.spiffe_id),
        ):
            with pytest.raises(
                Refused,
                match=r"expected a workload's (entry|SPIFFE ID), found the node group",
            ) as refused:
                await house.end(target)
            assert refused.value.kind is Kind.INVALID
            assert refused.value.hint
        assert await house.revoke.find(before=0, limit=9) == []

    @pytest.mark.parametrize("target", [WEB_ALONE, replace(BEFORE, spiffe_id=path("/web"))], ids=lambda one: one.kind)
    async def test_what_a_node_group_shares_its_path_with_ends(self, house: House, target: Target) -> None:
        group = an_entry("/web", entry_id="g", of="join_token:label:team:db")
        await house.store.write(lambda tx: tx.entries.insert([replace(group, parent_id=issuer_id(TRUST_DOMAIN))]))
        await house.fill()
        assert (await house.end(target)).revocation.denied == 2

    async def test_a_nodes_own_id_is_answered_by_the_command_that_ends_it(self, house: House) -> None:
        with pytest.raises(Refused) as refused:
            await house.end(replace(WEB_ALONE, spiffe_id=N2.spiffe_id))
        assert refused.value.hint == f"cognomen revoke node {N2.spiffe_id}"

    @pytest.mark.parametrize(
        "message",
        [
            pb.RevocationTarget(kind="issued-before", spiffe_id=""),
            pb.RevocationTarget(kind="issued-before", entry_ids=[""]),
            pb.RevocationTarget(kind="issued-before", node_ids=["n1", ""]),
        ],
        ids=str,
    )
    async def test_an_empty_text_does_not_widen_what_is_named(self, house: House, message: pb.RevocationTarget) -> None:
        await house.fill()
        message.before.FromDatetime(NOW)
        request = pb.RevokeRequest(target=message)
        with pytest.raises(Refused, match=r"spiffe_id: |found an empty text") as refused:
            await revoke(house.revoke, request, trust_domain=TRUST_DOMAIN, longest_lives=no_lives, actor="uid:0")
        assert refused.value.kind is Kind.INVALID
        assert await house.ended() == set()

    @pytest.mark.parametrize("target", [ENTRY, WEB_BELOW, UID_1, TEAM_DB, NODE, BEFORE], ids=lambda one: one.kind)
    async def test_a_dry_run_writes_nothing_at_all(self, house: House, target: Target) -> None:
        await house.fill()
        before, rows = await house.everything(), await house.audit()
        assert (await house.end(target, dry_run=True)).falling.groups
        assert await house.everything() == before
        assert await house.audit() == rows

    async def test_what_was_said_is_in_the_audit(self, house: House) -> None:
        await house.fill()
        await house.end(WEB_BELOW, reason=Reason.KEY_COMPROMISE, comment="task ended")
        row = (await house.audit())[-1]
        assert (row["action"], row["decision"], row["actor"]) == ("revoked", "allowed", "uid:0")
        assert row["subject"] == "spiffe://example.org/web/…"
        assert row["facts"] == {
            "revocation": "1",
            "kind": "spiffe-id",
            "reason": "keyCompromise",
            "comment": "task ended",
            "denied": "4",
            "over": "0",
            "compromised": "0",
        }


class TestOver:
    """What ended by itself within a day: a connection may be open to whoever showed it."""

    @pytest.mark.parametrize("of", ["entry", "spiffe-id", "serial"])
    async def test_a_certificate_that_is_over_is_denied_with_what_is_live_and_not_counted(
        self, house: House, of: str
    ) -> None:
        before = await house.fill()
        house.clock.advance(HOUR + KEPT_FOR)
        now = await house.fill()
        serial = Target(kind=RevocationKind.SVID, serials=(before["web leaf"], now["web leaf"], now["web token"]))
        target = {"entry": ENTRY, "spiffe-id": WEB_ALONE, "serial": serial}[of]
        foretold = await house.end(target, dry_run=True)
        assert (foretold.revocation.denied, foretold.revocation.over) == (2, 0)
        done = await house.end(target)
        assert (done.revocation.denied, done.revocation.over) == (2, 1)
        assert done.falling == foretold.falling
        assert done.falling.count == sum(one.count for one in done.falling.groups) == 2
        assert await house.ended() == {before["web leaf"], now["web leaf"], now["web token"]}
        assert await house.said(1) == done.revocation
        assert (await house.audit())[-1]["facts"] | {"denied": "2", "over": "1"} == (await house.audit())[-1]["facts"]  # type: ignore[operator]  # a document

    async def test_a_token_that_is_over_is_denied_while_a_verifier_whose_clock_lags_may_take_it(
        self, house: House
    ) -> None:
        serials = await house.fill()
        house.clock.advance(HOUR + KEPT_FOR - timedelta(seconds=1))
        done = await house.end(ENTRY)
        assert (done.revocation.denied, done.revocation.over) == (0, 2)
        assert await house.ended() == {serials["web leaf"], serials["web token"]}

    async def test_a_serial_that_is_over_is_no_error_and_one_that_was_so_for_days_is_not_denied(
        self, house: House
    ) -> None:
        serials = await house.fill()
        target = Target(kind=RevocationKind.SVID, serials=(serials["web leaf"],))
        house.clock.advance(timedelta(days=2))
        assert (await house.end(target)).revocation.over == 0
        assert await house.ended() == set()

    async def test_an_entry_of_which_all_is_over_is_denied_when_it_is_deleted(self, house: House) -> None:
        serials = await house.fill()
        house.clock.advance(HOUR + KEPT_FOR)
        entries = ChangeEntries(
            around=around(house.clock),
            datastore=house.store,
            trust_domain=TRUST_DOMAIN,
            node_attestors=["join_token"],
            watch=house.revoke.watch,
        )
        await entries.delete([WEB.id], actor="uid:7")
        assert await house.ended() == {serials["web leaf"]}
        assert ((await house.said(1)).denied, (await house.said(1)).over) == (0, 1)

    async def test_a_denial_is_kept_for_as_long_as_a_connection_may_be_open(self, house: House) -> None:
        serials = await house.fill()
        house.clock.advance(HOUR)
        await house.end(ENTRY)
        for after, kept in ((OPEN_FOR, {serials["web leaf"]}), (KEPT_FOR + timedelta(seconds=1), set())):
            house.clock.advance(after)
            now = house.clock.now()
            await house.store.write(lambda tx, now=now: tx.denials.prune(ended_before=now - KEPT_FOR, now=now))  # type: ignore[misc]  # bound at once
            left = await house.store.read(lambda tx: list(tx.denials.all()))
            assert {f"{one.number:x}" for one in left} == kept


class TestTwice:
    async def test_the_same_revocation_again_ends_no_more(self, house: House) -> None:
        serials = await house.fill()
        named = Target(kind=RevocationKind.SVID, serials=(serials["web leaf"],))
        assert (await house.end(named)).revocation.denied == 1
        again = await house.end(named)
        assert (again.revocation.number, again.revocation.denied, again.falling) == (2, 0, Falling())
        assert await house.ended() == {serials["web leaf"]}

    async def test_two_operators_at_once_both_succeed_and_each_credential_ends_once(self, house: House) -> None:
        await house.fill()
        done = await asyncio.gather(*(house.end(WEB_BELOW) for _ in range(8)))
        assert sorted(one.revocation.number for one in done) == list(range(1, 9))
        assert sorted(one.revocation.denied for one in done) == [0] * 7 + [4]
        assert len(await house.ended()) == 4

    async def test_two_operators_who_lift_one_block_at_once_are_told_apart(self, house: House) -> None:
        await house.end(ENTRY)
        answers = await asyncio.gather(
            *(house.revoke.lift(1, actor=f"uid:{uid}") for uid in range(4)), return_exceptions=True
        )
        refused = [one.kind for one in answers if isinstance(one, Refused)]
        assert refused == [Kind.CONFLICT] * 3
        stored = await house.stored(1)
        assert stored is not None
        assert stored.lifted_by in {f"uid:{uid}" for uid in range(4)}


class TestMintedMeanwhile:
    @pytest.mark.parametrize("target", [ENTRY, WEB_ALONE, WEB_BELOW, UID_1], ids=["entry", "id", "below", "selector"])
    async def test_a_blocked_entry_gets_nothing_until_the_block_is_lifted(self, house: House, target: Target) -> None:
        await house.end(target)
        for answer in (await house.leaf(WEB), await house.token(WEB)):
            assert refused_as(answer, "blocked by a revocation")
        head = len(await house.changes())
        await house.revoke.lift(1, actor="uid:7")
        assert ("entry", "web") in await house.changes(head)
        assert isinstance(await house.leaf(WEB), Credential)
        assert isinstance(await house.token(WEB), Credential)

    async def test_what_is_not_named_goes_on(self, house: House) -> None:
        await house.end(WEB_ALONE)
        assert isinstance(await house.leaf(WEB_API), Credential)
        assert isinstance(await house.leaf(DB, N2), Credential)

    @pytest.mark.parametrize(
        ("target", "entry"),
        [
            (WEB_BELOW, an_entry("/web/new", entry_id="new", of="unix:uid:9")),
            (WEB_ALONE, an_entry("/web", entry_id="new", of="unix:uid:9")),
            (UID_1, an_entry("/new", entry_id="new", of="unix:uid:1 unix:gid:9")),
        ],
        ids=["below", "id", "selector"],
    )
    async def test_an_entry_that_comes_later_is_blocked_as_well(
        self, house: House, target: Target, entry: RegistrationEntry
    ) -> None:
        await house.end(target)
        await house.store.write(lambda tx: tx.entries.insert([entry]))
        assert refused_as(await house.leaf(entry), "blocked by a revocation")
        await house.revoke.lift(1, actor="uid:0")
        assert isinstance(await house.leaf(entry), Credential)

    async def test_a_blocked_nodes_workloads_get_nothing_and_others_do(self, house: House) -> None:
        await house.end(TEAM_DB)
        assert refused_as(await house.leaf(DB, N2), "this node has no such entry")
        assert isinstance(await house.leaf(WEB), Credential)
        head = len(await house.changes())
        await house.revoke.lift(1, actor="uid:0")
        assert await house.changes(head) == [("node", "n2")]
        assert isinstance(await house.leaf(DB, N2), Credential)

    async def test_of_two_blocks_the_one_that_is_left_holds(self, house: House) -> None:
        await house.end(ENTRY)
        await house.end(WEB_BELOW)
        await house.revoke.lift(1, actor="uid:0")
        assert refused_as(await house.leaf(WEB), "blocked by a revocation")
        await house.revoke.lift(2, actor="uid:0")
        assert isinstance(await house.leaf(WEB), Credential)

    async def test_what_is_on_record_at_the_commit_and_signed_after_it_is_denied(self, house: House) -> None:
        house.keys.gate.clear()
        minting = asyncio.create_task(house.leaf(WEB))
        async with asyncio.timeout(10):
            while not (rows := await _ledger(house)):
                pass
        assert [row.state for row in rows] == [CredentialState.INTENDED]
        done = await house.end(ENTRY)
        house.keys.gate.set()
        signed = await minting
        await house.deferred.flush()
        assert isinstance(signed, Credential)
        assert done.revocation.denied == 1
        assert [(row.serial, row.state) for row in await _ledger(house)] == [(signed.serial, CredentialState.ISSUED)]
        assert await house.ended() == {signed.serial}

    async def test_after_a_moment_that_was_cut_at_a_new_svid_is_live(self, house: House) -> None:
        await house.leaf(WEB)
        house.clock.advance(1)
        await house.end(BEFORE)
        fresh = await house.leaf(WEB)
        assert isinstance(fresh, Credential)
        assert (await house.end(BEFORE)).revocation.denied == 0
        assert fresh.serial not in await house.ended()

    async def test_an_iat_of_the_second_that_was_cut_at_is_denied_and_a_certificate_goes_by_the_ledger(
        self, house: House
    ) -> None:
        house.clock.advance(0.4)
        token, leaf = await house.token(WEB), await house.leaf(WEB)
        assert isinstance(token, Credential)
        assert isinstance(leaf, Credential)
        house.clock.advance(0.6)
        await house.token(WEB)
        assert (await house.end(BEFORE)).revocation.denied == 1
        assert await house.ended() == {token.serial}

    async def test_what_was_signed_while_the_clock_was_ahead_ends_by_its_moment(self, house: House) -> None:
        house.clock.advance(300)
        ahead = [await house.token(WEB), await house.leaf(WEB)]
        house.clock.jump(-timedelta(seconds=200))
        now = house.clock.now()
        await house.end(replace(BEFORE, before=now))
        assert await house.ended() == {one.serial for one in ahead if isinstance(one, Credential)}
        assert len(await house.ended()) == 2
        assert isinstance(await house.leaf(WEB), Credential)

    @pytest.mark.parametrize("reason", [Reason.KEY_COMPROMISE, Reason.SUPERSEDED])
    async def test_a_key_is_certified_again_unless_it_leaked(self, house: House, reason: Reason) -> None:
        key = new_key()
        first = await house.leaf(WEB, key=key)
        assert isinstance(first, Credential)
        await house.end(Target(kind=RevocationKind.SVID, serials=(first.serial,)), reason=reason)
        again = await house.leaf(WEB, key=key)
        if reason is Reason.KEY_COMPROMISE:
            assert refused_as(again, "found one that was revoked as compromised")
        else:
            assert isinstance(again, Credential)
        assert isinstance(await house.leaf(WEB), Credential), "a fresh key is welcome"


class TestLearnedLater:
    """A leak that is learned of after the end."""

    @pytest.mark.parametrize("of", ["serial", "entry"])
    async def test_the_last_word_that_a_key_leaked_counts(self, house: House, of: str) -> None:
        key = new_key()
        leaf = await house.leaf(WEB, key=key)
        assert isinstance(leaf, Credential)
        target = Target(kind=RevocationKind.SVID, serials=(leaf.serial,)) if of == "serial" else ENTRY
        await house.end(target)
        done = (await house.end(target, reason=Reason.KEY_COMPROMISE)).revocation
        assert (done.denied, done.over, done.compromised) == (0, 0, 1)
        assert done == await house.said(2)
        assert (await house.audit())[-1]["facts"]["compromised"] == "1"  # type: ignore[index]  # a document
        (listed,) = await house.store.read(lambda tx: tx.denials.of_authority(leaf.authority_id))
        assert (listed.reason, listed.denied_at) == (Reason.KEY_COMPROMISE, NOW)
        assert [row.revocation for row in await _ledger(house)] == [2]
        if of == "entry":
            for number in (1, 2):
                await house.revoke.lift(number, actor="uid:0")
        assert refused_as(await house.leaf(WEB, key=key), "found one that was revoked as compromised")
        assert (await house.end(target, reason=Reason.SUPERSEDED)).revocation.compromised == 0
        assert (await house.end(target, reason=Reason.KEY_COMPROMISE)).revocation.compromised == 0
        assert [row.revocation for row in await _ledger(house)] == [2]

    @pytest.mark.parametrize("after", [HOUR, timedelta(days=2)])
    async def test_a_serial_that_is_over_is_compromised_however_long_ago_that_was(
        self, house: House, after: timedelta
    ) -> None:
        key = new_key()
        leaf = await house.leaf(WEB, key=key)
        assert isinstance(leaf, Credential)
        house.clock.advance(after)
        done = await house.end(Target(kind=RevocationKind.SVID, serials=(leaf.serial,)), reason=Reason.KEY_COMPROMISE)
        assert done.revocation.over + done.revocation.compromised == 1
        assert refused_as(await house.leaf(WEB, key=key), "found one that was revoked as compromised")

    async def test_a_node_that_is_sent_away_for_a_leak_leaves_no_key_that_is_certified_again(
        self, house: House
    ) -> None:
        key = new_key()
        leaf = await house.leaf(DB, N2, key=key)
        assert isinstance(leaf, Credential)
        await house.end(Target(kind=RevocationKind.SVID, serials=(leaf.serial,)))

        def end(reason: Reason) -> Callable[[Transaction], Revocation | None]:
            asked = Revocation(target=NODE, reason=reason, comment="", actor="issuer", at=NOW)
            return lambda tx: end_in(tx, asked, all_of_nodes([N2.id]))

        assert await house.store.write(end(Reason.CESSATION_OF_OPERATION)) is None
        ended = await house.store.write(end(Reason.KEY_COMPROMISE))
        assert ended is not None
        assert (ended.denied, ended.compromised) == (0, 1)
        assert await house.store.write(end(Reason.KEY_COMPROMISE)) is None
        assert refused_as(await house.leaf(DB, N2, key=key), "found one that was revoked as compromised")

    async def test_it_concerns_nobody_else(self, house: House) -> None:
        serials = await house.fill()
        await house.end(replace(BEFORE, spiffe_id=path("/web")))
        await house.end(ENTRY, dry_run=True, reason=Reason.KEY_COMPROMISE)
        await house.end(Target(kind=RevocationKind.SVID, serials=(serials["db leaf"],)), reason=Reason.KEY_COMPROMISE)
        assert [(await house.said(number)).compromised for number in (1, 2)] == [0, 0]


class TestLifts:
    async def test_what_was_denied_stays_denied_and_the_lift_is_on_record(self, house: House) -> None:
        await house.fill()
        await house.end(ENTRY)
        ended = await house.ended()
        house.clock.advance(5)
        after = await house.revoke.lift(1, actor="uid:7")
        assert (after.lifted_at, after.lifted_by) == (NOW + timedelta(seconds=5), "uid:7")
        assert after == await house.stored(1)
        assert await house.ended() == ended != set()
        row = (await house.audit())[-1]
        assert (row["action"], row["actor"], row["subject"]) == ("revocation lifted", "uid:7", "1")

    @pytest.mark.parametrize(("number", "kind"), [(1, Kind.INVALID), (2, Kind.NOT_FOUND)])
    async def test_what_cannot_be_lifted_changes_nothing_and_is_on_record(
        self, house: House, number: int, kind: Kind
    ) -> None:
        await house.end(NODE)
        before = await house.everything()
        with pytest.raises(Refused) as refused:
            await house.revoke.lift(number, actor="uid:7")
        assert (refused.value.kind, bool(refused.value.hint)) == (kind, True)
        assert await house.everything() == before
        row = (await house.audit())[-1]
        assert (row["action"], row["decision"], row["subject"]) == ("revocation lifted", "refused", str(number))

    async def test_a_block_is_lifted_though_whom_it_named_is_gone(self, house: House) -> None:
        await house.end(ENTRY)
        await house.store.write(lambda tx: tx.entries.delete([WEB.id]))
        assert (await house.revoke.lift(1, actor="uid:0")).lifted_by == "uid:0"


class TestOtherCommands:
    async def test_a_deleted_entrys_credentials_end_with_it_unless_they_are_let_expire(self, house: House) -> None:
        serials = await house.fill()
        entries = ChangeEntries(
            around=around(house.clock),
            datastore=house.store,
            trust_domain=TRUST_DOMAIN,
            node_attestors=["join_token"],
            watch=house.revoke.watch,
        )
        await entries.delete([WEB_API.id], how=How(let_expire=True), actor="uid:7")
        assert await house.ended() == set()
        await entries.delete([WEB.id], actor=Operator("uid:7", comment="task ended"))
        assert await house.ended() == {serials["web leaf"], serials["web token"]}
        assert house.measured() == 1
        said = await house.said(1)
        assert said.target == Target(kind=RevocationKind.DELETION, entry_ids=(WEB.id,))
        assert (said.reason, said.actor, said.denied) == (Reason.CESSATION_OF_OPERATION, "uid:7", 2)
        assert said.comment == "task ended"
        assert [kind for kind, _ in (await house.changes())[-2:]] == ["denial", "entry"]
        assert [row["action"] for row in (await house.audit())[-2:]] == ["revoked", "entry deleted"]
        with pytest.raises(Refused, match="found one of deletion"):
            await house.revoke.lift(1, actor="uid:7")

    @pytest.mark.parametrize("how", ["evict", "ban", "purge"])
    async def test_a_node_that_is_sent_away_takes_its_credentials_along(self, house: House, how: str) -> None:
        serials = await house.fill()
        nodes = ManageNodes(datastore=house.store, around=around(house.clock), watch=house.revoke.watch)
        match how:
            case "evict":
                await nodes.evict(N2.id, actor="uid:7")
            case "ban":
                await nodes.ban(N2.id, actor="uid:7")
            case _:
                row = replace(N2, svid_not_after=NOW - timedelta(seconds=1))
                await house.store.write(lambda tx: tx.nodes.put(row))
                await nodes.purge(timedelta(), dry_run=True, actor="uid:7")
                assert await house.ended() == set()
                await nodes.purge(timedelta(), dry_run=False, actor="uid:7")
        assert await house.ended() == {serials[name] for name in ("db leaf", "db token", "n2")}
        assert house.measured() == 1
        assert (await house.said(1)).target == NODE
        with pytest.raises(Refused, match="banned or gone"):
            await house.leaf(DB, N2)

    async def test_who_has_nothing_that_is_live_leaves_no_revocation(self, house: House) -> None:
        await ManageNodes(datastore=house.store, around=around(house.clock), watch=house.revoke.watch).evict(
            N2.id, actor="uid:7"
        )
        assert await house.revoke.find(before=0, limit=9) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_every_revocation_is_on_one_page_whatever_its_size(house: House, limit: int) -> None:
    for _ in range(3):
        await house.end(ENTRY)
    found: list[int] = []
    before = 0
    while True:
        page = await list_revocations(house.revoke, before=before, limit=limit)
        found += [one.number for one in page.revocations]
        if not page.next_page_token:
            break
        before = int(page.next_page_token)
    assert found == [3, 2, 1]


@pytest.mark.parametrize("where", [EntryFilter(), EntryFilter(selector=Selector("unix", "uid:1"))], ids=["all", "uid"])
async def test_a_blocked_entry_is_found_behind_a_thousand_of_other_nodes(house: House, where: EntryFilter) -> None:
    others = [an_entry(f"/x{n}", entry_id=f"a{n:05}", of="unix:uid:1", parent="/elsewhere") for n in range(1000)]
    await house.store.write(lambda tx: tx.entries.insert(others))
    await house.end(ENTRY)
    found = await Queries(house.store, TRUST_DOMAIN).list_blocked(where, N1, now=NOW, limit=9)
    assert [(entry.id, revocation.number) for entry, revocation in found] == [(WEB.id, 1)]


async def test_an_answer_shows_a_thousand_groups_and_counts_the_rest(house: House) -> None:
    await house.leaf(WEB)
    (row,) = await _ledger(house)
    rows = [
        replace(row, number=0, serial=f"{2**127 + n:x}", spiffe_id=path(f"/n{n:04}"), entry_id=WEB.id)
        for n in range(1003)
    ]
    await house.store.write(lambda tx: tx.ledger.record([*rows, replace(rows[0], serial=UNKNOWN[::-1])]))
    message = pb.RevocationTarget(kind="entry", entry_ids=[WEB.id])
    for dry_run in (True, False):
        request = pb.RevokeRequest(target=message, dry_run=dry_run)
        done = await revoke(house.revoke, request, trust_domain=TRUST_DOMAIN, longest_lives=no_lives, actor="uid:0")
        assert (len(done.fallen), done.more, done.revocation.denied) == (1000, 4, 1005)
        assert done.fallen[0].count == 2


async def test_what_was_signed_for_a_node_and_an_entry_that_are_gone_can_be_ended(house: House) -> None:
    serials = await house.fill()
    await house.store.write(lambda tx: tx.nodes.delete(N2.id))
    await house.store.write(lambda tx: tx.entries.delete([WEB.id]))
    await house.end(replace(BEFORE, node_ids=(N2.id,)))
    await house.end(replace(BEFORE, entry_ids=(WEB.id,)))
    assert await house.ended() == {serials[name] for name in ("db leaf", "db token", "web leaf", "web token")}


async def _ledger(house: House) -> Sequence[Credential]:
    where = LedgerFilter(kind=CredentialKind.X509)
    return await house.store.read(lambda tx: tx.ledger.find(where, before=0, limit=9))


class MintsFirst(RefusingStore):
    """A store whose writer signs something else before the next work gets its turn."""

    def __init__(self, house: House) -> None:
        super().__init__(house.store)
        self._house = house

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        self._house.clock.advance(timedelta(milliseconds=1))
        await self._house.leaf(WEB)
        return await super().write(work, expendable=expendable)


async def test_what_is_signed_while_a_revocation_waits_for_its_turn_is_not_from_the_future(house: House) -> None:
    flow = replace(house.revoke, datastore=MintsFirst(house))
    long_ago = replace(BEFORE, before=NOW - timedelta(days=365))
    done = await flow(long_ago, reason=Reason.UNSPECIFIED, comment="", dry_run=False, actor="uid:0")
    assert done.revocation.denied == 0
    assert await house.ended() == set()
