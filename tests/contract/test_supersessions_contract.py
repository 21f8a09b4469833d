"""What every datastore promises of supersessions; SQLite passes it in memory and on a file."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.supersession import Holding, Supersession
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, an_entry

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
WEB = Supersession(
    entry_id=EntryID("web"), node_id=NodeID("n1"), actor="uid:0", at=NOW, due_at=NOW + 30 * SECOND, beyond=None
)


def row(serial: str, *, entry: str = "web", node: str = "n1", **fields: object) -> Credential:
    given = Credential(
        kind=CredentialKind.X509,
        serial=serial,
        spiffe_id=an_entry().spiffe_id,
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW + HOUR,
        entry_id=EntryID(entry),
        node_id=NodeID(node),
        state=CredentialState.ISSUED,
    )
    return replace(given, **fields)  # type: ignore[arg-type]  # the tests' own keyword arguments


async def record(store: Datastore, *rows: Credential) -> None:
    await store.write(lambda tx: tx.ledger.record(rows))


async def add(store: Datastore, *supersessions: Supersession) -> Sequence[int]:
    return await store.write(lambda tx: tx.supersessions.add(supersessions))


OTHERS = (
    row("a1", entry="db"),
    row("a2", not_after=NOW),
    row("a3", state=CredentialState.FAILED),
    row("a4", kind=CredentialKind.NODE, entry_id=None),
)


async def test_what_is_live_is_held_by_entry_and_node(store: Datastore) -> None:
    later = row("b2", kind=CredentialKind.JWT, not_after=NOW + 2 * HOUR)
    await record(store, *OTHERS, row("b1"), later, row("b3", node="n2", state=CredentialState.INTENDED))
    held = await store.read(lambda tx: tx.supersessions.holdings([EntryID("web"), EntryID("none")], now=NOW))
    assert set(held) == {
        Holding(entry_id=EntryID("web"), node_id=NodeID("n1"), ends_at=NOW + 2 * HOUR),
        Holding(entry_id=EntryID("web"), node_id=NodeID("n2"), ends_at=NOW + HOUR),
    }


async def test_it_names_what_was_live_when_it_was_added_and_is_now(store: Datastore) -> None:
    await record(store, *OTHERS, row("b1"), row("b2", kind=CredentialKind.JWT), row("b3", node="n2"))
    numbers = await add(store, WEB)
    await record(store, row("b4"))
    assert set(await store.read(lambda tx: tx.supersessions.serials(numbers, now=NOW))) == {"b1", "b2"}
    assert await store.read(lambda tx: tx.supersessions.serials(numbers, now=NOW + HOUR)) == []


async def test_it_may_name_only_what_ends_late(store: Datastore) -> None:
    await record(store, row("b1", not_after=NOW + SECOND), row("b2", not_after=NOW + 2 * SECOND))
    numbers = await add(store, replace(WEB, beyond=NOW + SECOND))
    assert await store.read(lambda tx: tx.supersessions.serials(numbers, now=NOW)) == ["b2"]


async def test_one_credential_that_is_superseded_twice_is_named_once(store: Datastore) -> None:
    await record(store, row("b1"))
    numbers = await add(store, WEB, WEB)
    assert await store.read(lambda tx: tx.supersessions.serials(numbers, now=NOW)) == ["b1"]


async def due(store: Datastore, seconds: float) -> Sequence[int]:
    now = NOW + seconds * SECOND
    return [one.number for one in await store.read(lambda tx: tx.supersessions.due(now=now, pushed_by=now - SECOND))]


async def test_it_is_due_in_time_and_where_the_clock_was_set_back(store: Datastore) -> None:
    (number,) = await add(store, WEB)
    assert [await due(store, seconds) for seconds in (0, 29.9, 30, -0.1)] == [[], [], [number], [number]]
    (stored,) = await store.read(lambda tx: tx.supersessions.due(now=WEB.due_at, pushed_by=NOW))
    assert stored == replace(WEB, number=number)


async def test_it_is_due_once_an_svid_of_the_same_entry_and_node_has_replaced_the_last(store: Datastore) -> None:
    await record(store, row("b1"))
    (number,) = await add(store, WEB)
    issued_at = NOW + 5 * SECOND
    await record(
        store,
        *(
            replace(one, issued_at=issued_at)
            for one in (
                row("c1", node="n2"),
                row("c2", entry="db"),
                row("c3", kind=CredentialKind.JWT),
                row("c4", state=CredentialState.INTENDED),
                row("c5", state=CredentialState.FAILED),
            )
        ),
    )
    assert await due(store, 10) == []
    await record(store, row("c6", issued_at=issued_at))
    assert [await due(store, seconds) for seconds in (5.9, 6)] == [[], [number]]


async def test_what_they_would_supersede_is_counted_before_they_are_added(store: Datastore) -> None:
    far = NOW + 2 * HOUR
    await record(
        store, *OTHERS, row("b1"), row("b2", not_after=far), row("b3", kind=CredentialKind.JWT), row("b4", node="n2")
    )
    other, beyond = replace(WEB, node_id=NodeID("n2")), replace(WEB, beyond=NOW + HOUR)
    for asked, expected in (([], 0), ([WEB], 3), ([beyond], 1), ([beyond, other], 2), ([beyond, WEB], 3)):
        counted = await store.read(lambda tx, asked=asked: tx.supersessions.live(asked, now=NOW))  # type: ignore[misc]  # bound at once
        assert counted == expected
    numbers = await add(store, beyond, other)
    assert len(await store.read(lambda tx: tx.supersessions.serials(numbers, now=NOW))) == 2


async def test_what_would_end_is_told_with_its_audiences(store: Datastore) -> None:
    far, jwt = NOW + 2 * HOUR, CredentialKind.JWT
    tokens = [
        row(f"j{at}", kind=jwt, audiences=(audience,), entry="db", not_after=NOW + at * HOUR)
        for at, audience in ((1, "a"), (2, "a"), (1.5, "b"))
    ]
    await record(
        store, *OTHERS, *tokens, row("b1"), row("b2", not_after=far), row("b3", node="n2"), row("b4", node="n3")
    )
    at_once = replace(WEB, node_id=NodeID("n2"), due_at=NOW)
    beyond = replace(WEB, beyond=NOW + HOUR)

    def work(tx: Transaction) -> list[tuple[CredentialKind, int, bool, tuple[str, ...], timedelta]]:
        found = tx.supersessions.ending([EntryID("db")], [beyond, at_once], now=NOW)
        return sorted((one.kind, one.count, one.is_later, one.audiences, one.ends_at - NOW) for one in found)

    x509 = CredentialKind.X509
    assert await store.read(work) == [
        (jwt, 1, False, ("b",), 1.5 * HOUR),
        (jwt, 2, False, ("a",), 2 * HOUR),
        (x509, 1, False, (), HOUR),  # a1, of the entry that is deleted
        (x509, 1, False, (), HOUR),  # b3, which nothing will replace
        (x509, 1, True, (), 2 * HOUR),
    ]
    assert await store.read(lambda tx: list(tx.supersessions.ending([], [], now=NOW))) == []


async def test_they_are_counted_until_they_are_deleted(store: Datastore) -> None:
    first, second = await add(store, WEB, replace(WEB, node_id=NodeID("n2")))
    assert await store.read(lambda tx: tx.supersessions.count()) == 2
    await store.write(lambda tx: tx.supersessions.delete([first]))
    assert await store.read(lambda tx: tx.supersessions.count()) == 1
    assert await due(store, 30) == [second]
