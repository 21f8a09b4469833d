"""What every datastore promises of tokens that were exchanged for JWT-SVIDs; SQLite passes it in memory and on a file."""

from datetime import datetime, timedelta

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.revocation import Live
from tests.contract.test_revocations_contract import HOUR, SECOND, deny, path, record, row, serial
from tests.doubles.issuer_values import NOW

LIVES = {"model": HOUR, "cloud": 30 * HOUR}


def token(
    number: int, *audiences: str, ttl: timedelta = timedelta(minutes=5), ended: timedelta, **fields: object
) -> Credential:
    """A token that ended so long ago."""
    end = NOW - ended
    given: dict[str, object] = {"kind": CredentialKind.JWT, "audiences": audiences, "not_after": end, **fields}
    return row(number, issued_at=end - ttl, **given)  # type: ignore[arg-type]  # the tests' own keyword arguments


EXCHANGED = (
    row(1, kind=CredentialKind.AUTHORITY, entry_id=None, node_id=None, issued_at=NOW - 99 * HOUR),
    token(2, "cloud", ttl=24 * HOUR, ended=30 * HOUR),
    token(3, "cloud", ttl=24 * HOUR, ended=29 * HOUR),
    token(4, "cloud", ended=40 * HOUR, name="/a", entry="a"),
    token(5, "cloud", ended=28 * HOUR, name="/a", entry="a"),
    row(6, kind=CredentialKind.AUTHORITY, entry_id=None, node_id=None, issued_at=NOW - 99 * HOUR),
    token(7, "model", "db", ended=2 * HOUR),
    token(8, "model", "db", ended=SECOND, name="/a/b", node="n2"),
    token(9, "model", ended=SECOND, name="/c", state=CredentialState.FAILED),
    token(10, "db", ended=-SECOND),
    token(11, "cloud", "model", ended=-2 * SECOND, name="/d", entry="d"),
    row(12, "/x", entry="x", audiences=("model",)),
)
IN_A_DAY, IN_AN_HOUR = NOW + 30 * HOUR, NOW + HOUR


@pytest.mark.parametrize(
    ("where", "exchanged"),
    [
        (Live(), {"cloud": IN_A_DAY + 2 * SECOND, "model": IN_AN_HOUR + 2 * SECOND}),
        (Live(entry_ids=[EntryID("web")]), {"cloud": NOW + HOUR, "model": IN_AN_HOUR - SECOND}),
        (Live(serials=[serial(2), serial(4), serial(7), serial(9), serial(10), serial(12)]), {}),
        (Live(serials=[serial(3), serial(99)]), {"cloud": NOW + HOUR}),
        (Live(serials=[serial(8)]), {"model": IN_AN_HOUR - SECOND}),
        (Live(spiffe_id=path("/a")), {"cloud": NOW + 2 * HOUR}),
        (Live(spiffe_id=path("/a"), below=True), {"cloud": NOW + 2 * HOUR, "model": IN_AN_HOUR - SECOND}),
        (Live(node_ids=[NodeID("n2")]), {"model": IN_AN_HOUR - SECOND}),
        (Live(node_ids=[NodeID("n2")], entry_ids=[EntryID("a")], any_of=True), {"cloud": NOW + 2 * HOUR, "model": IN_AN_HOUR - SECOND}),
        (Live(issued_until=NOW - HOUR), {"cloud": NOW + 2 * HOUR}),
        (Live(kinds=frozenset({CredentialKind.X509})), {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_pruned", [False, True])
async def test_what_was_exchanged_may_outlive_the_tokens_that_are_named(
    store: Datastore, where: Live, exchanged: dict[str, datetime], *, is_pruned: bool
) -> None:
    await record(store, *EXCHANGED)
    if is_pruned:
        await store.write(lambda tx: tx.denials.prune(ended_before=NOW, now=NOW))
    found = await store.read(lambda tx: tx.denials.exchanged(where, longest_lives=LIVES, now=NOW))
    assert dict(found) == exchanged
    await deny(store, where)
    assert found == await store.read(lambda tx: tx.denials.exchanged(where, longest_lives=LIVES, now=NOW))
    assert not await store.read(lambda tx: tx.denials.exchanged(where, longest_lives={}, now=NOW))


async def test_nothing_was_exchanged_where_nothing_was_signed(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.denials.exchanged(Live(), longest_lives=LIVES, now=NOW)) == []
