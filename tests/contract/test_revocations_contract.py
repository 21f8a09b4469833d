"""What every datastore promises of revocations and denials; SQLite passes it in memory and on a file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.crl import DeniedCertificate, SignedCRL
from issuer.decisions.falling import MOST_GROUPS, Falling
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.minting import Holder
from issuer.decisions.revocation import MAX_OVER, Live, Reason, Revocation, RevocationKind, Target
from svid.denials import KEPT_FOR, OPEN_FOR, Denial
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
REACH = OPEN_FOR + KEPT_FOR
ALL = frozenset({CredentialKind.X509, CredentialKind.JWT, CredentialKind.NODE})


def path(name: str) -> SpiffeID:
    return SpiffeID(trust_domain=TRUST_DOMAIN, path=name)


def serial(number: int) -> str:
    return f"{2**127 + number:x}"


def row(number: int, name: str = "/web", *, entry: str = "web", node: str = "n1", **fields: object) -> Credential:
    given = Credential(
        kind=CredentialKind.X509,
        serial=serial(number),
        spiffe_id=path(name),
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW + HOUR,
        entry_id=EntryID(entry),
        node_id=NodeID(node),
        state=CredentialState.ISSUED,
    )
    return replace(given, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments


def said(target: Target | None = None, **fields: object) -> Revocation:
    named = target or Target(kind=RevocationKind.SVID, serials=(serial(1),))
    given = Revocation(target=named, reason=Reason.SUPERSEDED, comment="käse", actor="uid:0", at=NOW)
    return replace(given, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments


async def record(store: Datastore, *rows: Credential) -> None:
    await store.write(lambda tx: tx.ledger.record(rows))


async def deny(store: Datastore, where: Live, *, now: datetime = NOW, reason: Reason = Reason.SUPERSEDED) -> list[int]:
    """Deny what is named there; the numbers of the live rows that fell, after `fallen` has said the same."""
    return [number for number, is_live in await deny_all(store, where, now=now, reason=reason) if is_live]


async def deny_all(
    store: Datastore, where: Live, *, now: datetime = NOW, reason: Reason = Reason.SUPERSEDED
) -> list[tuple[int, bool]]:
    """Deny what is named there; the numbers of the rows that fell, and whether they were live."""
    revocation = said(at=now, reason=reason)

    def work(tx: Transaction) -> list[tuple[int, bool]]:
        foretold, is_any = tx.denials.falling(where, now=now), tx.denials.is_any(where, now=now)
        number = tx.revocations.add(revocation)
        count = tx.denials.deny(where, revocation=number, now=now)
        fell = [one for one in tx.ledger.find(LedgerFilter(), before=0, limit=1000) if one.revocation == number]
        live = [one for one in fell if one.not_after > now]
        assert tx.denials.falling(where, now=now) == Falling()
        assert is_any is bool(fell)
        assert not tx.denials.is_any(where, now=now)
        assert count == (len(live), len(fell) - len(live))
        assert (foretold.count, foretold.more) == (len(live), 0)
        assert len(fell) == len(list(tx.denials.of([number])))
        assert alike(live) == {
            (one.kind, one.spiffe_id, one.node_id, one.audiences): (one.count, one.ends_at) for one in foretold.groups
        }
        return sorted((int(one.serial, 16) - 2**127, one.not_after > now) for one in fell)

    return await store.write(work)


Alike = tuple[CredentialKind, SpiffeID, NodeID | None, tuple[str, ...]]


def alike(rows: Sequence[Credential]) -> dict[Alike, tuple[int, datetime]]:
    """How many there are of each kind, SPIFFE ID, node and audiences, and the latest end among them."""
    named: list[tuple[Alike, datetime]] = [
        ((one.kind, one.spiffe_id, one.node_id, one.audiences), one.not_after) for one in rows
    ]
    counts = Counter(name for name, _ in named)
    return {name: (count, max(end for other, end in named if other == name)) for name, count in counts.items()}


SEVERAL = (
    row(1, "/a", entry="a"),
    row(2, "/ab", entry="ab", not_after=NOW + 2 * HOUR),
    row(3, "/a/b", entry="b", node="n2"),
    row(4, "/a0", entry="a0", node="n2", state=CredentialState.INTENDED),
    row(5, "/a", entry="a", kind=CredentialKind.JWT, audiences=("db", "käse"), issued_at=NOW + SECOND),
    row(6, "/a", entry="a", kind=CredentialKind.JWT, audiences=("db",), issued_at=NOW + SECOND),
    row(7, "/a", entry="a", kind=CredentialKind.JWT, audiences=("db",), not_after=NOW + SECOND),
    row(8, "/a/b/c", entry="c", issued_at=NOW + 2 * SECOND),
    row(9, "/cognomen/node/join_token/n2", kind=CredentialKind.NODE, entry_id=None, node="n2"),
    row(10, "/cognomen/issuer", kind=CredentialKind.ISSUER, entry_id=None, node_id=None),
    row(11, "", kind=CredentialKind.AUTHORITY, entry_id=None, node_id=None, not_after=NOW + 99 * HOUR),
    row(12, "/a", entry="a", state=CredentialState.FAILED),
    row(13, "/a", entry="a", not_after=NOW),
)
LIVE = [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("where", "fell"),
    [
        (Live(), LIVE),
        (Live(kinds=ALL), [*LIVE, 9]),
        (Live(kinds=frozenset({CredentialKind.JWT})), [5, 6, 7]),
        (Live(serials=[serial(2), serial(13), serial(12), serial(10), serial(99)]), [2]),
        (Live(serials=()), []),
        (Live(entry_ids=[EntryID("a"), EntryID("nobody")]), [1, 5, 6, 7]),
        (Live(node_ids=[NodeID("n2")]), [3, 4]),
        (Live(kinds=ALL, node_ids=[NodeID("n2")]), [3, 4, 9]),
        (Live(entry_ids=[EntryID("a"), EntryID("b")], node_ids=[NodeID("n2")]), [3]),
        (Live(entry_ids=[EntryID("a"), EntryID("b")], node_ids=[NodeID("n2")], any_of=True), [1, 3, 4, 5, 6, 7]),
        (Live(entry_ids=[], node_ids=[NodeID("n2")], any_of=True), [3, 4]),
        (Live(entry_ids=[], node_ids=[], any_of=True), []),
        (Live(spiffe_id=path("/a")), [1, 5, 6, 7]),
        (Live(spiffe_id=path("/a"), below=True), [1, 3, 5, 6, 7, 8]),
        (Live(spiffe_id=path("/a/b"), below=True), [3, 8]),
        (Live(spiffe_id=path(""), below=True), LIVE),
        (Live(spiffe_id=path("/A"), below=True), []),
        (Live(issued_until=NOW - timedelta(microseconds=1)), [5, 6, 8]),  # of moments to come
        (Live(issued_until=NOW), LIVE),
    ],
)
async def test_what_is_live_and_named_falls_and_nothing_else(store: Datastore, where: Live, fell: list[int]) -> None:
    await record(store, *SEVERAL)
    assert await deny(store, where) == fell


@pytest.mark.parametrize(
    ("where", "fell"),
    [
        (Live(issued_until=NOW - timedelta(microseconds=1)), []),
        (Live(issued_until=NOW), [1, 2, 3, 4, 7]),
        (Live(issued_until=NOW + SECOND), [1, 2, 3, 4, 5, 6, 7]),
        (Live(issued_until=NOW + SECOND, spiffe_id=path("/a"), node_ids=[NodeID("n1")]), [1, 5, 6, 7]),
    ],
)
async def test_what_was_issued_until_a_moment_falls(store: Datastore, where: Live, fell: list[int]) -> None:
    rows = [replace(one, not_after=max(one.not_after, NOW + HOUR)) for one in SEVERAL if one.serial != serial(13)]
    await record(store, *rows)
    assert await deny(store, where, now=NOW + 2 * SECOND) == fell


async def test_blocks_are_those_that_stand_in_the_transaction_that_asks(store: Datastore) -> None:
    uid = Target(kind=RevocationKind.SELECTOR, selector=Selector("unix", "uid:1"))
    web = Target(kind=RevocationKind.ENTRY, entry_ids=(EntryID("web"),))

    async def blocks() -> tuple[object, ...]:
        found = await store.read(lambda tx: tx.revocations.blocks())
        return found.entry_ids, found.selectors, found.named

    def fail(tx: Transaction) -> None:
        tx.revocations.add(said(uid))
        assert tx.revocations.blocks().named == 1
        raise LookupError

    assert await blocks() == (frozenset(), frozenset(), 0)
    with pytest.raises(LookupError):
        await store.write(fail)
    assert await blocks() == (frozenset(), frozenset(), 0)
    first = await store.write(lambda tx: tx.revocations.add(said(web)))
    second = await store.write(lambda tx: tx.revocations.add(said(uid)))
    await store.write(lambda tx: tx.revocations.add(said()))
    assert await blocks() == ({"web"}, {uid.selector}, 2)
    for number, left in ((first, (frozenset(), {uid.selector}, 1)), (second, (frozenset(), frozenset(), 0))):
        row = said(web if number == first else uid, number=number, lifted_at=NOW, lifted_by="uid:0")
        await store.write(lambda tx, row=row: tx.revocations.put(row))  # type: ignore[misc]  # bound at once
        assert await blocks() == left


async def test_what_fell_before_does_not_fall_again_and_keeps_the_revocation_that_ended_it(store: Datastore) -> None:
    await record(store, *SEVERAL)
    assert await deny(store, Live(entry_ids=[EntryID("b")])) == [3]
    assert await deny(store, Live(node_ids=[NodeID("n2")])) == [4]
    assert await deny(store, Live(node_ids=[NodeID("n2")])) == []
    found = await store.read(lambda tx: [tx.ledger.get(serial(number)) for number in (3, 4, 1)])
    assert [one.revocation for one in found if one is not None] == [1, 2, 0]


async def test_a_credential_that_was_denied_while_intended_and_signed_after_it_stays_denied(store: Datastore) -> None:
    await record(store, row(1, state=CredentialState.INTENDED))
    assert await deny(store, Live()) == [1]
    await store.write(lambda tx: tx.ledger.resolve([serial(1)], CredentialState.ISSUED))
    found = await store.read(lambda tx: tx.ledger.get(serial(1)))
    assert found is not None
    assert (found.state, found.revocation) == (CredentialState.ISSUED, 1)


async def test_the_ledger_is_filtered_by_whether_rows_are_revoked(store: Datastore) -> None:
    await record(store, row(1), row(2))
    await deny(store, Live(serials=[serial(2)]))
    for is_revoked, number in ((True, 2), (False, 1)):
        where = LedgerFilter(is_revoked=is_revoked)
        found = await store.read(lambda tx, where=where: tx.ledger.find(where, before=0, limit=9))  # type: ignore[misc]  # bound at once
        assert [one.serial for one in found] == [serial(number)]


async def test_denials_are_told_by_revocation_all_together_and_by_authority(store: Datastore) -> None:
    rows = [row(1), row(2, kind=CredentialKind.JWT, authority_id=KeyID("jwt-1")), row(3), row(4), row(5)]
    rows[3] = replace(rows[3], authority_id=KeyID("x509-2"))
    await record(store, *rows)
    await deny(store, Live(serials=[serial(3), serial(2)]), reason=Reason.KEY_COMPROMISE)
    await deny(store, Live(serials=[serial(1), serial(4)]), now=NOW + SECOND)
    one, three, four = (Denial(2**127 + number, NOW + HOUR + OPEN_FOR) for number in (1, 3, 4))
    two = Denial(2**127 + 2, NOW + HOUR)
    assert await store.read(lambda tx: list(tx.denials.of([1]))) == [two, three]
    assert await store.read(lambda tx: list(tx.denials.of([2, 1, 9]))) == [one, two, three, four]
    assert await store.read(lambda tx: list(tx.denials.of([]))) == []
    assert await store.read(lambda tx: list(tx.denials.all())) == [one, two, three, four]
    assert await store.read(lambda tx: tx.denials.of_authority(KeyID("x509-1"))) == [
        DeniedCertificate(serial=2**127 + 1, denied_at=NOW + SECOND, ends_at=NOW + HOUR, reason=Reason.SUPERSEDED),
        DeniedCertificate(serial=2**127 + 3, denied_at=NOW, ends_at=NOW + HOUR, reason=Reason.KEY_COMPROMISE),
    ]
    assert await store.read(lambda tx: tx.denials.of_authority(KeyID("jwt-1"))) == []


@pytest.mark.parametrize(
    ("fields", "denied"),
    [
        ({}, [1]),
        ({"not_after": NOW - REACH + timedelta(microseconds=1)}, [1]),
        ({"not_after": NOW - REACH}, []),
        ({"state": CredentialState.INTENDED}, [1]),
        ({"state": CredentialState.FAILED}, []),
        ({"kind": CredentialKind.AUTHORITY}, []),
        ({"entry_id": EntryID("other")}, []),
    ],
    ids=str,
)
async def test_a_workloads_certificate_that_ended_within_a_day_is_denied_and_on_no_list(
    store: Datastore, fields: dict[str, object], denied: list[int]
) -> None:
    ended = row(1, not_after=NOW - KEPT_FOR, issued_at=NOW - REACH)
    await record(store, replace(ended, **fields), row(2))  # type: ignore[arg-type]  # the tests' own keyword arguments
    where = Live(kinds=ALL, entry_ids=[EntryID("web")])
    assert await deny_all(store, where) == [*((number, False) for number in denied), (2, True)]
    listed = await store.read(lambda tx: tx.denials.of_authority(KeyID("x509-1")))
    assert [one.serial - 2**127 for one in listed] == [2]


@pytest.mark.parametrize(
    ("kind", "denied", "on_list"),
    [
        (CredentialKind.JWT, [1, 2], []),
        (CredentialKind.X509, [1, 2], [1, 2]),
        (CredentialKind.NODE, [1, 2], [1, 2]),
        (CredentialKind.AUTHORITY, [], []),
    ],
)
async def test_what_is_over_is_denied_while_a_verifier_whose_clock_lags_may_take_it(
    store: Datastore, kind: CredentialKind, denied: list[int], on_list: list[int]
) -> None:
    end = NOW - KEPT_FOR
    await record(
        store,
        row(1, kind=kind, not_after=end + timedelta(microseconds=1)),
        row(2, kind=kind, not_after=NOW),
        row(3, kind=kind if kind is not CredentialKind.X509 else CredentialKind.JWT, not_after=end),
    )
    assert await deny_all(store, Live(kinds=ALL)) == [(number, False) for number in denied]
    listed = await store.read(lambda tx: tx.denials.of_authority(KeyID("x509-1")))
    assert [one.serial - 2**127 for one in listed] == on_list
    await store.write(lambda tx: tx.denials.prune(ended_before=end, now=NOW))
    kept = await store.read(lambda tx: [one.number - 2**127 for one in tx.denials.all()])
    assert kept == denied, "for as long as it may be of use"


@pytest.mark.parametrize(
    "where", [Live(), Live(serials=[serial(1)]), Live(spiffe_id=path(""), below=True)], ids=["all", "serials", "below"]
)
async def test_what_ended_is_found_whatever_was_pruned_before_and_the_clock_did(store: Datastore, where: Live) -> None:
    await record(store, row(1), row(2, not_after=NOW + SECOND), row(3, not_after=NOW + 99 * HOUR))
    for now in (NOW + 3 * REACH, NOW + HOUR + REACH - SECOND, NOW + 2 * HOUR):
        await store.write(lambda tx, now=now: tx.denials.prune(ended_before=now - KEPT_FOR, now=now))  # type: ignore[misc]  # bound at once
    assert (1, False) in await deny_all(store, where, now=NOW + HOUR + REACH - SECOND)


@pytest.mark.parametrize("store", ["memory"], indirect=True)
async def test_of_very_many_that_ended_the_newest_are_denied_and_the_others_by_the_next_command(
    store: Datastore,
) -> None:
    await record(store, *(row(number, not_after=NOW) for number in range(MAX_OVER + 2)))
    first, second, third = [
        await store.write(lambda tx, number=number: tx.denials.deny(Live(), revocation=number, now=NOW))  # type: ignore[misc]  # bound at once
        for number in (1, 2, 3)
    ]
    assert (first, second, third) == ((0, MAX_OVER), (0, 2), (0, 0))
    left = await store.read(lambda tx: [one.number - 2**127 for one in tx.denials.of([2])])
    assert left == [0, 1]


async def test_of_very_many_groups_that_would_end_the_first_are_listed_and_all_are_counted(store: Datastore) -> None:
    await record(store, *(row(number, f"/{number:04d}") for number in range(MOST_GROUPS + 2)))
    falling = await store.read(lambda tx: tx.denials.falling(Live(), now=NOW))
    listed = [str(group.spiffe_id.path) for group in falling.groups]
    assert listed == [f"/{number:04d}" for number in range(MOST_GROUPS)]
    assert (falling.more, falling.count) == (2, MOST_GROUPS + 2)


async def test_the_latest_end_of_what_a_revocation_denied_is_known_while_it_is_kept(store: Datastore) -> None:
    rows = [row(1), row(2), row(3)]
    rows[1] = replace(rows[1], not_after=NOW + 2 * HOUR)
    await record(store, *rows)
    await deny(store, Live(serials=[serial(1), serial(2)]))
    await deny(store, Live(serials=[serial(3)]))
    ends = [await store.read(lambda tx, number=number: tx.denials.last_end(number)) for number in (1, 2, 3)]  # type: ignore[misc]  # bound at once
    assert ends == [NOW + 2 * HOUR, NOW + HOUR, None]


@pytest.mark.parametrize("reason", Reason)
async def test_a_key_is_compromised_once_a_certificate_for_it_was_revoked_as_such(
    store: Datastore, reason: Reason
) -> None:
    await record(store, row(1, key_hash="k1"), row(2, key_hash="k2"), row(3, key_hash="k1"))
    await deny(store, Live(serials=[serial(1)]), reason=reason)
    later = NOW + 2 * HOUR + OPEN_FOR
    await store.write(lambda tx: tx.denials.prune(ended_before=later, now=later))
    assert not await store.read(lambda tx: list(tx.denials.all()))
    await record(store, row(4, key_hash="k1"))
    holders = await store.read(lambda tx: tx.ledger.holders(["k1", "k2", "k3"]))
    mine = Holder(entry_id=EntryID("web"), node_id=NodeID("n1"))
    assert holders == {"k1": replace(mine, is_compromised=reason is Reason.KEY_COMPROMISE), "k2": mine}


class TestPrune:
    @pytest.mark.parametrize(
        ("this_update", "kept"),
        [(None, 0), (NOW, 1), (NOW + HOUR, 1), (NOW + HOUR + SECOND, 0)],
    )
    async def test_a_certificate_leaves_the_list_once_its_authority_signed_one_after_its_end_and_then_the_denials(
        self, store: Datastore, this_update: datetime | None, kept: int
    ) -> None:
        await record(store, row(1), row(2, kind=CredentialKind.JWT))
        await deny(store, Live())
        crl = SignedCRL(authority_id=KeyID("x509-1"), number=7, this_update=this_update)
        later = NOW + 2 * HOUR
        await store.write(lambda tx: tx.crls.put(crl))
        await store.write(lambda tx: tx.denials.prune(ended_before=later, now=later))
        listed = await store.read(lambda tx: [one.serial for one in tx.denials.of_authority(KeyID("x509-1"))])
        assert listed == [2**127 + 1] * kept
        assert await store.read(lambda tx: [one.number for one in tx.denials.all()]) == [2**127 + 1]
        later += OPEN_FOR
        await store.write(lambda tx: tx.denials.prune(ended_before=later, now=later))
        assert await store.read(lambda tx: [one.number for one in tx.denials.all()]) == [2**127 + 1] * kept

    @pytest.mark.parametrize(("kind", "kept_for"), [(CredentialKind.JWT, timedelta()), (CredentialKind.X509, OPEN_FOR)])
    async def test_a_denial_leaves_once_it_is_of_no_use_and_the_ledger_remembers_it(
        self, store: Datastore, kind: CredentialKind, kept_for: timedelta
    ) -> None:
        later = NOW + HOUR + timedelta(microseconds=1)
        await record(store, row(1, kind=kind), row(2, kind=kind, not_after=later))
        await deny(store, Live())
        end = NOW + HOUR + kept_for
        await store.write(lambda tx: tx.denials.prune(ended_before=end, now=NOW + 2 * HOUR))
        assert len(await store.read(lambda tx: list(tx.denials.all()))) == 2
        end += timedelta(microseconds=1)
        await store.write(lambda tx: tx.denials.prune(ended_before=end, now=NOW + 2 * HOUR))
        assert [one.number - 2**127 for one in await store.read(lambda tx: list(tx.denials.all()))] == [2]
        found = await store.read(lambda tx: tx.ledger.get(serial(1)))
        assert found is not None
        assert found.revocation == 1

    async def test_what_is_live_is_found_whatever_was_pruned_before(self, store: Datastore) -> None:
        await record(
            store,
            row(1, not_after=NOW + SECOND),
            row(2, kind=CredentialKind.AUTHORITY, not_after=NOW + 9 * HOUR),
            row(3),
            row(4, not_after=NOW + SECOND),
            row(5, not_after=NOW + 2 * HOUR),
        )
        later = NOW + timedelta(minutes=30)
        await store.write(lambda tx: tx.denials.prune(ended_before=later, now=later))
        assert await deny(store, Live(), now=later) == [3, 5]

    async def test_what_comes_after_all_was_over_is_found(self, store: Datastore) -> None:
        await store.write(lambda tx: tx.denials.prune(ended_before=NOW, now=NOW))
        await record(store, row(1))
        await store.write(lambda tx: tx.denials.prune(ended_before=NOW + 9 * HOUR, now=NOW + 9 * HOUR))
        await record(store, row(2, not_after=NOW + 10 * HOUR))
        assert await deny(store, Live(), now=NOW + 9 * HOUR) == [2]

    @pytest.mark.parametrize("back", [SECOND, timedelta(minutes=10), 8 * HOUR])
    async def test_no_live_row_is_missed_after_the_clock_was_set_back(self, store: Datastore, back: timedelta) -> None:
        forward = NOW + 8 * HOUR
        await record(store, *(row(number, not_after=forward - number * back / 4) for number in range(1, 8)))
        await store.write(lambda tx: tx.denials.prune(ended_before=forward, now=forward))
        now = forward - back
        expected = [number for number in range(1, 8) if number * back / 4 < back]
        assert expected == [1, 2, 3]
        assert await deny(store, Live(serials=[serial(1)]), now=now) == [1]
        await store.write(lambda tx: tx.denials.prune(ended_before=now, now=now))
        assert await deny(store, Live(), now=now) == [2, 3]


TARGETS = [
    Target(kind=RevocationKind.SVID, serials=(serial(1), serial(2))),
    Target(
        kind=RevocationKind.ISSUED_BEFORE,
        before=NOW - timedelta(microseconds=1),
        entry_ids=(EntryID("web"),),
        node_ids=(NodeID("n1"), NodeID("n2")),
        spiffe_id=path("/web"),
    ),
    Target(kind=RevocationKind.ENTRY, entry_ids=(EntryID("web"), EntryID("db"))),
    Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=path("/web"), below=True),
    Target(kind=RevocationKind.SELECTOR, selector=Selector("unix", "path:/a:b käse")),
    Target(kind=RevocationKind.NODE, node_ids=(NodeID("n1"),)),
]


async def _add(store: Datastore, *revocations: Revocation) -> list[int]:
    return await store.write(lambda tx: [tx.revocations.add(one) for one in revocations])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
async def test_a_revocation_comes_back_as_it_went_in_with_what_became_of_it(store: Datastore, target: Target) -> None:
    (number,) = await _add(store, said(target))
    assert await store.read(lambda tx: tx.revocations.get(number)) == said(target, number=number)
    after = said(target, number=number, denied=3, change=9, lifted_at=NOW + SECOND, lifted_by="uid:7")
    await store.write(lambda tx: tx.revocations.put(after))
    assert await store.read(lambda tx: tx.revocations.get(number)) == after
    assert await store.read(lambda tx: tx.revocations.get(number + 1)) is None


async def test_revocations_are_listed_newest_first_page_by_page(store: Datastore) -> None:
    assert await _add(store, *(said(comment=str(number)) for number in range(1, 6))) == [1, 2, 3, 4, 5]
    page = await store.read(lambda tx: tx.revocations.find(before=0, limit=2))
    assert [(one.number, one.comment) for one in page] == [(5, "5"), (4, "4")]
    rest = await store.read(lambda tx: tx.revocations.find(before=4, limit=9))
    assert [one.number for one in rest] == [3, 2, 1]


async def test_a_page_of_large_revocations_is_cut_short_and_the_next_goes_on_there(store: Datastore) -> None:
    many = Target(kind=RevocationKind.SVID, serials=tuple(map(serial, range(100_000))))
    await _add(store, *(said(many) for _ in range(3)))
    page = await store.read(lambda tx: tx.revocations.find(before=0, limit=9))
    assert [one.number for one in page] == [3, 2]
    assert page[0].target == many
    rest = await store.read(lambda tx: tx.revocations.find(before=2, limit=9))
    assert [one.number for one in rest] == [1]


async def test_those_that_stand_are_the_blocks_that_were_not_lifted(store: Datastore) -> None:
    numbers = await _add(store, *map(said, TARGETS), *map(said, TARGETS))
    lifted = {one.number: one for one in await store.read(lambda tx: tx.revocations.standing())}
    blocking = [number for number, target in zip(numbers, TARGETS * 2, strict=True) if target.is_block]
    assert sorted(lifted) == blocking
    first = replace(lifted[blocking[0]], lifted_at=NOW, lifted_by="uid:7")
    await store.write(lambda tx: tx.revocations.put(first))
    assert sorted(one.number for one in await store.read(lambda tx: tx.revocations.standing())) == blocking[1:]


async def test_the_newest_list_of_each_authority_is_kept(store: Datastore) -> None:
    one, two = KeyID("x509-1"), KeyID("x509-2")
    reserved = SignedCRL(authority_id=one, number=2**60)
    signed = SignedCRL(authority_id=two, number=7, this_update=NOW, der=b"list")

    def begin(tx: Transaction) -> None:
        tx.crls.put(reserved)
        tx.crls.put(replace(signed, number=6, der=b"before"))
        tx.crls.put(signed)

    await store.write(begin)
    assert await store.read(lambda tx: (tx.crls.get(one), tx.crls.get(two), tx.crls.get(KeyID("x509-3")))) == (
        reserved,
        signed,
        None,
    )
    await store.write(lambda tx: tx.crls.delete(one))
    await store.write(lambda tx: tx.crls.delete(one))
    assert await store.read(lambda tx: (tx.crls.get(one), tx.crls.get(two))) == (None, signed)
