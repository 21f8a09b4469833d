"""What operators are refused is on record, whatever they asked for; what they only tried is not, nor what cannot be done for now."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID, node_spiffe_id
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.revocation import Reason, RevocationKind, Target
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.create_invite import CreateInvite
from issuer.flows.forget_authorities import ForgetAuthorities
from issuer.flows.manage_nodes import ManageNodes
from issuer.flows.revoke import Revoke
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore

ACTOR, HOUR = "uid:1000", timedelta(hours=1)
BANNED = replace(a_node("n2"), state=NodeState.BANNED)
MACHINE = replace(a_node("n3"), attestor="hardware", spiffe_id=node_spiffe_id(TRUST_DOMAIN, "hardware", NodeID("n3")))


@dataclass(frozen=True, kw_only=True)
class Flows:
    """What an operator may ask for."""

    store: SQLiteDatastore
    invite: CreateInvite
    entries: ChangeEntries
    nodes: ManageNodes
    authorities: CommandAuthorities
    revoke: Revoke
    forget: ForgetAuthorities

    async def records(self) -> list[tuple[str, str, str, str]]:
        """Action, actor, subject and kind of each refusal on record."""
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
        refused = [row for row in map(json.loads, (row.body for row in rows)) if row["decision"] == "refused"]
        return [(row["action"], row["actor"], row["subject"], row["facts"]["kind"]) for row in refused]


def _put(tx: Transaction, node: Node) -> None:
    tx.nodes.put(node)


@pytest.fixture
async def flows() -> AsyncIterator[Flows]:
    clock, keys, metrics = FakeClock(NOW), MemoryKeyManager(), Metrics()
    store = await SQLiteDatastore.open(None)
    watch, way = EnforcementWatch(around=around(clock, metrics=metrics)), issuance(store, clock, keys)
    outlook = AuthorityOutlook(
        datastore=store,
        around=around(clock),
        guard=ClockGuard(datastore=store, around=around(clock)),
        policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
        watch=watch,
    )
    rotate = RotateAuthority(
        datastore=store,
        issuance=way,
        keys=keys,
        around=around(clock, metrics=metrics),
        outlook=outlook,
        trust_domain=TRUST_DOMAIN,
    )
    for node in (a_node(), BANNED, MACHINE):
        await store.write(partial(_put, node=node))
    yield Flows(
        store=store,
        invite=CreateInvite(
            datastore=store,
            around=around(clock),
            trust_domain=TRUST_DOMAIN,
            join_address="localhost:1",
            node_address="localhost:2",
            ttl=HOUR,
            attestor="join_token",
        ),
        entries=ChangeEntries(
            datastore=store,
            around=around(clock, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            node_attestors=["join_token"],
            watch=watch,
        ),
        nodes=ManageNodes(datastore=store, around=around(clock), watch=watch),
        authorities=CommandAuthorities(
            datastore=store,
            issuance=way,
            keys=keys,
            outlook=outlook,
            watch=watch,
            bring_forward=rotate,
            wake=rotate.wake,
            around=around(clock),
            return_window=timedelta(days=5),
        ),
        revoke=Revoke(datastore=store, around=around(clock), watch=watch),
        forget=ForgetAuthorities(datastore=store, keys=keys, clock=clock),
    )
    await store.close()


Ask = Callable[[Flows], Awaitable[object]]
SVID = Target(kind=RevocationKind.SVID, serials=("aa",))

REFUSED: dict[str, tuple[Ask, tuple[str, str, Kind]]] = {
    "an invite for an hour too long": (
        lambda of: of.invite(actor=ACTOR, labels={}, ttl=timedelta(days=365), node=None),
        ("invite created", "", Kind.INVALID),
    ),
    "an invite for nobody": (
        lambda of: of.invite(actor=ACTOR, labels={}, ttl=None, node="n9"),
        ("invite created", "n9", Kind.NOT_FOUND),
    ),
    "an invite for a node that is banned": (
        lambda of: of.invite(actor=ACTOR, labels={}, ttl=None, node=str(BANNED.spiffe_id)),
        ("invite created", str(BANNED.spiffe_id), Kind.DENIED),
    ),
    "an invite for a machine that proves an identity of its own": (
        lambda of: of.invite(actor=ACTOR, labels={}, ttl=None, node="n3"),
        ("invite created", "n3", Kind.CONFLICT),
    ),
    "an invite that changes labels": (
        lambda of: of.invite(actor=ACTOR, labels={"a": "b"}, ttl=None, node="n1"),
        ("invite created", "n1", Kind.INVALID),
    ),
    "the eviction of nobody": (lambda of: of.nodes.evict("n9", actor=ACTOR), ("node evicted", "n9", Kind.NOT_FOUND)),
    "the eviction of a banned node, which would let it in again": (
        lambda of: of.nodes.evict(str(BANNED.spiffe_id), actor=ACTOR),
        ("node evicted", str(BANNED.spiffe_id), Kind.CONFLICT),
    ),
    "a ban of what is no node": (
        lambda of: of.nodes.ban("spiffe://example.org/web", actor=ACTOR),
        ("node banned", "spiffe://example.org/web", Kind.INVALID),
    ),
    "a ban of what is no SPIFFE ID": (
        lambda of: of.nodes.ban("spiffe://", actor=ACTOR),
        ("node banned", "spiffe://", Kind.INVALID),
    ),
    "a purge of the future": (
        lambda of: of.nodes.purge(-HOUR, dry_run=False, actor=ACTOR),
        ("node purged", "", Kind.INVALID),
    ),
    "a purge of what was before the calendar": (
        lambda of: of.nodes.purge(timedelta.max, dry_run=False, actor=ACTOR),
        ("node purged", "", Kind.INVALID),
    ),
    "no entries": (lambda of: of.entries.create([], actor=ACTOR), ("entry created", "", Kind.INVALID)),
    "an entry that has an id": (
        lambda of: of.entries.create([replace(an_entry(), id=EntryID("e"))], actor=ACTOR),
        ("entry created", "", Kind.INVALID),
    ),
    "an entry that is gone": (
        lambda of: of.entries.delete([EntryID("e9")], actor=ACTOR),
        ("entry deleted", "", Kind.NOT_FOUND),
    ),
    "the activation of no authority": (
        lambda of: of.authorities.activate("k9", at_once=False, actor=ACTOR),
        ("authority activated", "k9", Kind.NOT_FOUND),
    ),
    "the revocation of no credential": (
        lambda of: of.revoke(SVID, reason=Reason.UNSPECIFIED, comment="", dry_run=False, actor=ACTOR),
        ("revoked", "", Kind.NOT_FOUND),
    ),
    "the end of no revocation": (
        lambda of: of.revoke.lift(9, actor=ACTOR),
        ("revocation lifted", "9", Kind.NOT_FOUND),
    ),
    "keys that are not lost": (lambda of: of.forget(actor=ACTOR), ("authority retired", "", Kind.CONFLICT)),
}


@pytest.mark.parametrize(("ask", "expected"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_on_record(flows: Flows, ask: Ask, expected: tuple[str, str, Kind]) -> None:
    with pytest.raises(Refused) as refused:
        await ask(flows)
    action, subject, kind = expected
    assert refused.value.kind is kind
    assert await flows.records() == [(action, ACTOR, subject, kind.value)]


NOT_RECORDED: dict[str, tuple[Ask, Kind]] = {
    "a purge that is only tried": (lambda of: of.nodes.purge(-HOUR, dry_run=True, actor=ACTOR), Kind.INVALID),
    "a revocation that is only tried": (
        lambda of: of.revoke(SVID, reason=Reason.UNSPECIFIED, comment="", dry_run=True, actor=ACTOR),
        Kind.NOT_FOUND,
    ),
    "a rotation while none is published": (
        lambda of: of.authorities.ask(AuthorityKind.X509, at_once=False, actor=ACTOR),
        Kind.UNAVAILABLE,
    ),
    "a hand-over while none is published": (
        lambda of: of.authorities.hand_over(AuthorityKind.X509, why="", actor=ACTOR),
        Kind.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize(("ask", "kind"), NOT_RECORDED.values(), ids=NOT_RECORDED)
async def test_what_is_only_tried_or_cannot_be_done_for_now_is_not(flows: Flows, ask: Ask, kind: Kind) -> None:
    with pytest.raises(Refused) as refused:
        await ask(flows)
    assert refused.value.kind is kind
    assert await flows.records() == []


async def test_a_refusal_leaves_nothing_of_the_work_behind(flows: Flows) -> None:
    with pytest.raises(Refused):
        await flows.entries.create([an_entry(), replace(an_entry(), id=EntryID("e"))], actor=ACTOR)
    assert not await flows.store.read(lambda tx: tx.changes.head().number)


async def test_on_a_full_disk_a_refusal_takes_no_room_and_says_why_all_the_same(flows: Flows) -> None:
    store = RefusingStore(flows.store)
    store.is_full = True
    entries = replace(flows.entries, datastore=store)
    with pytest.raises(Refused, match=r"no entry has the id 'e9' \(not on record: store: full\)") as refused:
        await entries.delete([EntryID("e9")], actor=ACTOR)
    assert refused.value.kind is Kind.UNAVAILABLE
    assert await flows.records() == []


async def test_on_a_full_disk_entries_are_not_updated_but_deleted(flows: Flows) -> None:
    (made,) = (await flows.entries.create([an_entry()], actor=ACTOR)).entries
    store = RefusingStore(flows.store)
    store.is_full = True
    entries = replace(flows.entries, datastore=store)
    with pytest.raises(Refused) as refused:
        await entries.update([replace(made, hint="x")], actor=ACTOR)
    assert refused.value.kind is Kind.UNAVAILABLE
    assert (await entries.delete([made.id], actor=ACTOR)).entries == (made,)


@pytest.mark.parametrize(
    ("banned", "hint"),
    [
        (BANNED, "its machine may join as a new node: cognomen node invite (without --node-id)"),
        (
            replace(MACHINE, state=NodeState.BANNED),
            "its machine proves an identity of its own, so it is kept out until: cognomen node unban n3",
        ),
    ],
    ids=["by token", "by its own identity"],
)
async def test_a_banned_node_cannot_be_invited_and_the_hint_says_what_its_machine_can_do(
    flows: Flows, banned: Node, hint: str
) -> None:
    await flows.store.write(partial(_put, node=banned))
    with pytest.raises(Refused, match="node: banned") as refused:
        await flows.invite(actor=ACTOR, labels={}, ttl=None, node=banned.id)
    assert refused.value.hint == hint
