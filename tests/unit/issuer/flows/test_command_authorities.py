"""What operators do to authorities, on a store in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.ledgerport import Use
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import NodeState
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import ChangeKind
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.interventions import check_preparation
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy, Seen
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.queries import Queries
from issuer.works.denials import deny_in
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node
from tests.doubles.issuersurroundings import around

ACTOR = "uid:0"
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class House:
    store: SQLiteDatastore
    clock: FakeClock
    keys: MemoryKeyManager
    feed: FeedAttestors
    rotate: RotateAuthority
    command: CommandAuthorities

    async def seen(self, key_id: str) -> Seen:
        (found,) = [one for one in await self.command.seen() if one.authority.key_id == key_id]
        return found

    async def row(self, key_id: str) -> Authority:
        return (await self.seen(key_id)).authority

    async def one(self, state: AuthorityState, kind: AuthorityKind = AuthorityKind.X509) -> Authority:
        rows = [one.authority for one in await self.command.seen()]
        (row,) = [row for row in rows if row.kind is kind and row.state is state]
        return row

    async def is_tainted(self, key_id: str) -> bool:
        return any(one.authority.tainted_at for one in await self.command.seen() if one.authority.key_id == key_id)

    async def taint(self, key_id: str, *, at_once: bool = False) -> None:
        await self.command.taint(
            key_id, at_once=at_once, reason=Reason.KEY_COMPROMISE, comment="found in a log", actor=ACTOR
        )

    async def revoke(self, key_id: str, *, at_once: bool = False) -> None:
        await self.command.revoke(
            key_id, at_once=at_once, reason=Reason.KEY_COMPROMISE, comment="found in a log", actor=ACTOR
        )

    async def audit(self) -> list[str]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        return [row.body.decode() for row in rows]

    async def sign(self, row: Authority, *serials: str, entry: str = "e", ttl: timedelta = HOUR) -> None:
        """Have something of an authority in the ledger, each for an entry of its own."""
        credentials = [
            Credential(
                kind=CredentialKind.X509,
                serial=serial,
                spiffe_id=SpiffeID.parse("spiffe://example.org/web"),
                entry_id=EntryID(f"{entry}{number}"),
                node_id=NodeID("n1"),
                authority_id=row.key_id,
                issued_at=self.clock.now(),
                not_after=self.clock.now() + ttl,
            )
            for number, serial in enumerate(serials)
        ]
        await self.store.write(lambda tx: tx.ledger.record(credentials))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, keys = await SQLiteDatastore.open(None), FakeClock(), MemoryKeyManager()
    troubles, metrics = Troubles(clock), Metrics()
    deferred = DeferredWrites(datastore=store, around=around(clock, troubles=troubles, metrics=metrics))
    watch = EnforcementWatch(around=around(clock, metrics=metrics))
    feed = FeedAttestors(
        datastore=store, deferred=deferred, watch=watch, around=around(clock), trust_domain=TRUST_DOMAIN
    )
    way = issuance(store, clock, keys, deferred=deferred)
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
        around=around(clock, troubles=troubles, metrics=metrics),
        trust_domain=TRUST_DOMAIN,
        outlook=outlook,
    )
    await rotate()
    command = CommandAuthorities(
        datastore=store,
        issuance=way,
        keys=keys,
        outlook=outlook,
        watch=watch,
        bring_forward=rotate,
        wake=rotate.wake,
        around=around(clock),
        return_window=timedelta(days=5),
    )
    yield House(store=store, clock=clock, keys=keys, feed=feed, rotate=rotate, command=command)
    await store.close()


class TestPrepare:
    async def test_one_more_is_made_and_published_at_once(self, house: House) -> None:
        sequence = (await Queries(house.store, TRUST_DOMAIN).get_bundle()).sequence
        key_id = await house.command.prepare(AuthorityKind.X509, actor=ACTOR)
        assert (await house.row(key_id)).state is AuthorityState.NEXT
        assert key_id in await house.keys.list()
        bundle = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        assert (len(bundle.x509_authorities), bundle.sequence) == (3, (sequence or 0) + 1)
        assert any('"authority preparation asked"' in row and ACTOR in row for row in await house.audit())

    async def test_of_several_the_one_that_lasts_longest_signs_once_that_is_asked(self, house: House) -> None:
        house.clock.advance(HOUR)
        key_id = await house.command.prepare(AuthorityKind.X509, actor=ACTOR)
        await house.command.hand_over(AuthorityKind.X509, why="", actor=ACTOR)
        house.clock.advance(timedelta(minutes=10))
        await house.rotate()
        assert (await house.one(AuthorityState.ACTIVE)).key_id == key_id

    async def test_no_more_are_made_than_a_bundle_should_hold(self, house: House) -> None:
        for _ in range(2):
            await house.command.prepare(AuthorityKind.JWT, actor=ACTOR)
        with pytest.raises(Refused, match="expected fewer than 3 waiting to sign, found 3") as refused:
            await house.command.prepare(AuthorityKind.JWT, actor=ACTOR)
        assert refused.value.kind is Kind.EXHAUSTED
        named = refused.value.hint.rpartition(" ")[2]
        rows = await house.store.read(lambda tx: tx.authorities.list())
        assert [row.state for row in rows if row.key_id == named] == [AuthorityState.NEXT]
        await house.command.prepare(AuthorityKind.X509, actor=ACTOR)

    async def test_of_those_that_wait_without_a_certificate_none_is_named(self, house: House) -> None:
        rows = await house.store.read(lambda tx: tx.authorities.list())
        intended = [replace(one, state=AuthorityState.INTENDED) for one in rows if one.kind is AuthorityKind.JWT]
        with pytest.raises(Refused, match="waiting to sign") as refused:
            check_preparation(intended * 3, AuthorityKind.JWT)
        assert "cognomen status says what fails" in refused.value.hint


class TestActivate:
    async def test_it_signs_now_without_the_spread_time_and_another_is_published(self, house: House) -> None:
        before, following = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        await house.command.activate(following.key_id, at_once=False, actor=ACTOR)
        assert (await house.one(AuthorityState.ACTIVE)).key_id == following.key_id
        await house.rotate()
        assert (await house.one(AuthorityState.NEXT)).key_id not in {before.key_id, following.key_id}
        assert any('"authority activated"' in row and ACTOR in row for row in await house.audit())

    async def test_whether_every_attestor_knew_it_is_on_record(self, house: House) -> None:
        following = await house.one(AuthorityState.NEXT)
        for name, number in (("n1", following.published_change - 1), ("n2", following.published_change)):
            house.feed.watch.begin(NodeID(name))
            house.feed.watch.stands(NodeID(name), number)
        seen = await house.seen(following.key_id)
        assert (seen.attestors, seen.acknowledged) == (2, 1)
        await house.command.activate(following.key_id, at_once=False, actor=ACTOR)
        assert any("not every connected attestor" in row for row in await house.audit())

    async def test_one_that_signs_is_refused_and_that_is_on_record(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        with pytest.raises(Refused, match=f"expected one that is next or old, found {active.key_id}, which is active"):
            await house.command.activate(active.key_id, at_once=False, actor=ACTOR)
        assert any('"refused"' in row and active.key_id in row for row in await house.audit())

    async def test_one_whose_key_is_gone_is_refused(self, house: House) -> None:
        following = await house.one(AuthorityState.NEXT)
        await house.keys.delete(following.key_id)
        with pytest.raises(Refused, match="whose key is gone"):
            await house.command.activate(following.key_id, at_once=False, actor=ACTOR)

    async def test_one_that_is_not_valid_now_is_refused(self, house: House) -> None:
        following = await house.one(AuthorityState.NEXT)
        house.clock.jump(timedelta(days=15))
        with pytest.raises(Refused, match="expected one that is valid now"):
            await house.command.activate(following.key_id, at_once=False, actor=ACTOR)

    async def test_one_that_nobody_knows_is_refused(self, house: House) -> None:
        with pytest.raises(Refused, match="no authority has the key 'x509-nothing'") as refused:
            await house.command.activate("x509-nothing", at_once=False, actor=ACTOR)
        assert refused.value.kind is Kind.NOT_FOUND


class TestTaint:
    async def test_of_the_active_one_the_next_one_signs_from_the_same_commit_on(self, house: House) -> None:
        active, following = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        head = (await house.store.read(lambda tx: tx.changes.head())).number
        await house.taint(active.key_id)
        rows = {row.key_id: row for row in await house.store.read(lambda tx: tx.authorities.list())}
        assert rows[following.key_id].state is AuthorityState.ACTIVE
        assert rows[active.key_id].state is AuthorityState.OLD
        assert rows[active.key_id].tainted_at == house.clock.now()
        changes = await house.store.read(lambda tx: tx.changes.after(head, limit=10))
        assert {change.kind for change in changes} == {ChangeKind.AUTHORITY}
        assert rows[active.key_id].tainted_change == changes[-1].number

    async def test_it_stays_in_the_bundle_and_keeps_its_key(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        before = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        await house.taint(active.key_id)
        assert (await Queries(house.store, TRUST_DOMAIN).get_bundle()).x509_authorities == before.x509_authorities
        await house.rotate()
        assert (await house.row(active.key_id)).state is AuthorityState.OLD

    async def test_it_leaves_by_itself_once_nothing_that_it_signed_is_valid(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        await house.taint(active.key_id)
        house.clock.advance(HOUR + timedelta(seconds=31))
        await house.rotate()
        assert (await house.row(active.key_id)).state is AuthorityState.RETIRED

    async def test_without_a_next_one_it_is_refused_with_the_way_out(self, house: House) -> None:
        active, following = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        await house.keys.delete(following.key_id)
        with pytest.raises(Refused, match="no next x509 authority can sign in its place") as refused:
            await house.taint(active.key_id)
        assert refused.value.hint == "make one first: cognomen authority prepare x509"
        assert (await house.row(active.key_id)).state is AuthorityState.ACTIVE
        await house.command.prepare(AuthorityKind.X509, actor=ACTOR)
        await house.taint(active.key_id)
        assert (await house.row(active.key_id)).state is AuthorityState.OLD

    async def test_a_next_one_signs_never(self, house: House) -> None:
        following = await house.one(AuthorityState.NEXT)
        await house.taint(following.key_id)
        await house.rotate()
        assert (await house.row(following.key_id)).state is AuthorityState.RETIRED, "it signed nothing"
        assert (await house.one(AuthorityState.NEXT)).key_id != following.key_id

    async def test_twice_is_refused_with_the_next_step(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.taint(active.key_id)
        with pytest.raises(Refused, match="expected one that is not tainted") as refused:
            await house.taint(active.key_id)
        assert refused.value.hint.endswith(f"cognomen authority revoke {active.key_id}")

    async def test_why_is_on_record(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.taint(active.key_id)
        (row,) = [row for row in await house.audit() if '"authority tainted"' in row]
        assert all(text in row for text in (ACTOR, active.key_id, "keyCompromise", "found in a log"))

    async def test_a_comment_without_an_end_is_refused(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        with pytest.raises(Refused, match="comment: expected at most 1024"):
            await house.command.taint(
                active.key_id, at_once=False, reason=Reason.SUPERSEDED, comment="x" * 1025, actor=ACTOR
            )

    async def test_what_is_in_use_of_it_is_counted_and_what_was_not_replaced(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1", "s2", "s3")
        await house.sign(active, "s4", entry="over", ttl=timedelta(seconds=1))
        await house.taint(active.key_id)
        house.clock.advance(timedelta(seconds=1))
        await house.sign(await house.one(AuthorityState.ACTIVE), "s5", "s6")
        assert (await house.seen(active.key_id)).use == Use(live=3, unreplaced=1)


class TestRevoke:
    async def test_a_tainted_one_leaves_the_bundle_at_once_and_its_key_is_destroyed(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        await house.taint(active.key_id)
        await house.sign(await house.one(AuthorityState.ACTIVE), "s2")
        before = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        head = (await house.store.read(lambda tx: tx.changes.head())).number
        await house.revoke(active.key_id)
        after = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        assert after.sequence == (before.sequence or 0) + 1
        assert set(before.x509_authorities) - set(after.x509_authorities)
        assert active.key_id not in await house.keys.list()
        assert (await house.row(active.key_id)).state is AuthorityState.RETIRED
        changes = await house.store.read(lambda tx: tx.changes.after(head, limit=10))
        assert [change.kind for change in changes] == [ChangeKind.BUNDLE]
        (row,) = [row for row in await house.audit() if '"authority revoked"' in row]
        assert all(text in row for text in (ACTOR, active.key_id, "keyCompromise", "found in a log"))

    async def test_what_it_signed_is_not_live_any_more_and_the_ledger_says_since_when(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "over", ttl=timedelta(minutes=1))
        await house.sign(active, "cut")
        house.clock.advance(timedelta(minutes=2))
        await house.taint(active.key_id)
        await house.sign(await house.one(AuthorityState.ACTIVE), "other")
        await house.revoke(active.key_id)
        revoked_at = house.clock.now()
        for is_revoked, serials in ((None, ["other", "cut", "over"]), (True, []), (False, ["other", "over"])):
            where = LedgerFilter(kind=CredentialKind.X509, is_revoked=is_revoked)
            found = await Queries(house.store, TRUST_DOMAIN).list_credentials(where, before=0, limit=10)
            assert [one.serial for one, _ in found] == serials
            assert {one.serial: at for one, at in found if at is not None} == (
                {"cut": revoked_at} if is_revoked is None else {}
            )

    async def test_of_what_was_revoked_before_its_authority_was_the_earlier_moment_is_told(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        said = Revocation(
            target=Target(kind=RevocationKind.SVID, serials=("s1",)),
            reason=Reason.SUPERSEDED,
            comment="",
            actor=ACTOR,
            at=house.clock.now(),
        )
        await house.store.write(lambda tx: deny_in(tx, said, Live(serials=["s1"])))
        house.clock.advance(timedelta(minutes=2))
        await house.revoke(active.key_id, at_once=True)
        (found,) = await Queries(house.store, TRUST_DOMAIN).list_credentials(
            LedgerFilter(serial="s1"), before=0, limit=10
        )
        assert (found[0].revocation, found[1]) == (1, said.at)

    async def test_one_that_is_not_tainted_is_refused_with_both_ways_out(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        with pytest.raises(Refused, match="expected one that is tainted") as refused:
            await house.revoke(active.key_id)
        assert f"cognomen authority taint {active.key_id}" in refused.value.hint
        assert "--force" in refused.value.hint

    async def test_a_tainted_one_of_which_something_is_not_replaced_is_refused_and_keeps_its_key(
        self, house: House
    ) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        await house.taint(active.key_id)
        with pytest.raises(Refused, match=f"found {active.key_id} with 1 that are not") as refused:
            await house.revoke(active.key_id)
        assert "--force" in refused.value.hint
        assert active.key_id in await house.keys.list()
        await house.revoke(active.key_id, at_once=True)
        assert active.key_id not in await house.keys.list()

    async def test_at_once_the_active_one_leaves_and_the_next_one_signs(self, house: House) -> None:
        active, following = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        await house.revoke(active.key_id, at_once=True)
        assert (await house.one(AuthorityState.ACTIVE)).key_id == following.key_id
        await house.rotate()
        await house.one(AuthorityState.NEXT)

    async def test_one_that_is_gone_is_refused(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.revoke(active.key_id, at_once=True)
        with pytest.raises(
            Refused, match=f"expected one that is in the bundle, found {active.key_id}, which is retired"
        ):
            await house.revoke(active.key_id, at_once=True)

    async def test_the_last_one_of_its_kind_is_refused(self, house: House) -> None:
        active, following = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        await house.revoke(following.key_id, at_once=True)
        before = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        with pytest.raises(Refused, match="is the only x509 authority in the bundle"):
            await house.revoke(active.key_id, at_once=True)
        assert await Queries(house.store, TRUST_DOMAIN).get_bundle() == before

    async def test_a_jwt_authority_goes_the_same_way(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE, AuthorityKind.JWT)
        await house.taint(active.key_id)
        await house.revoke(active.key_id)
        bundle = await Queries(house.store, TRUST_DOMAIN).get_bundle()
        assert KeyID(active.key_id) not in bundle.jwt_authorities
        assert len(bundle.jwt_authorities) == 1


class TestNodesThatAreAway:
    """Taint and revocation of what signs, while nodes are away that know nothing later."""

    async def one_away(self, house: House) -> tuple[Authority, Authority]:
        """The one that signs, which node n1 knows, and the next one, which it does not: it was published after n1 left."""
        active = await house.one(AuthorityState.ACTIVE)
        following = await house.one(AuthorityState.NEXT)
        now, told = house.clock.now(), following.published_change - 1
        node = replace(a_node(), acknowledged=told, attested_at=now, svid_not_after=now + HOUR)
        await house.store.write(lambda tx: tx.nodes.put(node))
        return active, following

    @pytest.mark.parametrize("command", ["rotate", "activate", "taint"])
    async def test_none_is_locked_out_unasked(self, house: House, command: str) -> None:
        active, following = await self.one_away(house)
        words = (
            f"expected every node that is away to know {following.key_id}, which signs then; found 1 that cannot: n1"
        )

        async def do(*, at_once: bool) -> None:
            match command:
                case "rotate":
                    await house.command.ask(AuthorityKind.X509, at_once=at_once, actor=ACTOR)
                case "activate":
                    await house.command.activate(following.key_id, at_once=at_once, actor=ACTOR)
                case _:
                    await house.taint(active.key_id, at_once=at_once)

        with pytest.raises(Refused, match=words) as refused:
            await do(at_once=False)
        assert (refused.value.kind, "cognomen node invite --node-id ID" in refused.value.hint) == (Kind.CONFLICT, True)
        assert any('"refused"' in row and "found 1 that cannot" in row for row in await house.audit())
        assert (await house.one(AuthorityState.ACTIVE)).key_id == active.key_id, "nothing was done"
        await do(at_once=True)
        if command == "rotate":
            house.clock.advance(timedelta(minutes=10))
            await house.rotate()
        assert (await house.one(AuthorityState.ACTIVE)).key_id == following.key_id

    @pytest.mark.parametrize("command", ["rotate", "activate", "taint", "revoke"])
    async def test_whom_force_cuts_off_is_told_logged_and_on_record(self, house: House, command: str) -> None:
        active, following = await self.one_away(house)
        facts = {"reason": Reason.KEY_COMPROMISE, "comment": "", "actor": ACTOR}
        with capture_logs() as lines:
            match command:
                case "rotate":
                    lost = await house.command.ask(AuthorityKind.X509, at_once=True, actor=ACTOR)
                case "activate":
                    lost = await house.command.activate(following.key_id, at_once=True, actor=ACTOR)
                case "taint":
                    lost = await house.command.taint(active.key_id, at_once=True, **facts)  # type: ignore[arg-type]  # as above
                case _:
                    lost = await house.command.revoke(active.key_id, at_once=True, **facts)  # type: ignore[arg-type]  # as above
        assert list(lost) == ["n1"]
        assert [line["nodes"] for line in lines if line["event"] == "nodes cut off"] == [["n1"]]
        (row,) = [row for row in await house.audit() if '"nodes cut off"' in row]
        assert following.key_id in row
        assert '"nodes":"n1"' in row

    async def test_what_signs_already_is_no_question_of_who_is_away(self, house: House) -> None:
        """As after a restore: the node that is away knows the old one only, and is cut off as it is."""
        first, second = await self.one_away(house)
        await house.command.activate(second.key_id, at_once=True, actor=ACTOR)
        await house.taint(first.key_id)
        await house.revoke(first.key_id)
        assert sum('"nodes cut off"' in row for row in await house.audit()) == 1, "at the activation"

    @pytest.mark.parametrize(
        "fields",
        [
            {"acknowledged": 10_000},
            {"acknowledged": 0},
            {"acknowledged": 0, "attested_at": FakeClock().now() + timedelta(seconds=1)},
            {"state": NodeState.BANNED},
            {"svid_not_after": FakeClock().now() - timedelta(days=5)},
        ],
        ids=["knows what signs then", "knows nothing", "joined later", "banned", "away for too long"],
    )
    async def test_a_node_that_loses_nothing_by_it_holds_nobody_up(
        self, house: House, fields: dict[str, object]
    ) -> None:
        active, _ = await self.one_away(house)
        node = replace(await house.store.read(lambda tx: next(iter(tx.nodes.find(after="", limit=1)))), **fields)  # type: ignore[arg-type]  # the test's own
        await house.store.write(lambda tx: tx.nodes.put(node))
        await house.taint(active.key_id)
        assert await house.is_tainted(active.key_id)

    async def test_one_that_is_connected_hears_of_it_in_time(self, house: House) -> None:
        active, _ = await self.one_away(house)
        house.feed.watch.begin(NodeID("n1"))
        await house.taint(active.key_id)
        assert await house.is_tainted(active.key_id)

    async def test_jwt_authorities_are_learned_from_the_issuer(self, house: House) -> None:
        await self.one_away(house)
        active = await house.one(AuthorityState.ACTIVE, AuthorityKind.JWT)
        await house.taint(active.key_id)
        assert await house.is_tainted(active.key_id)


class TestActivateAgain:
    async def test_an_old_one_signs_again_and_the_next_one_follows_as_before(self, house: House) -> None:
        first, second = await house.one(AuthorityState.ACTIVE), await house.one(AuthorityState.NEXT)
        await house.sign(first, "s1")
        await house.sign(second, "s2")
        await house.command.activate(second.key_id, at_once=False, actor=ACTOR)
        await house.rotate()
        await house.command.activate(first.key_id, at_once=False, actor=ACTOR)
        await house.rotate()
        assert (await house.one(AuthorityState.ACTIVE)).key_id == first.key_id
        assert (await house.one(AuthorityState.OLD)).key_id == second.key_id

    async def test_a_tainted_one_never_signs_again(self, house: House) -> None:
        active = await house.one(AuthorityState.ACTIVE)
        await house.sign(active, "s1")
        await house.taint(active.key_id)
        with pytest.raises(Refused, match="which is tainted"):
            await house.command.activate(active.key_id, at_once=False, actor=ACTOR)
