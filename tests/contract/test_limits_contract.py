"""What every datastore promises of limits on issuance; SQLite passes it in memory and on a file."""

from dataclasses import replace
from datetime import timedelta

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from cognomen.rulebook.tables import LimitsMode, OnBurst
from issuer.datastore.port import Datastore
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.limits import Held, HeldToken, LiveSVIDs
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.works.denials import deny_in
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN

HOUR = timedelta(hours=1)
N1, WEB = NodeID("n1"), EntryID("web")
CRM = LimitedScope(
    path="/agent/concierge/crm",
    most={"nodes": 20, "jwt_per_minute": 120},
    mode=LimitsMode.ENFORCE,
    on_burst=OnBurst.SUSPEND,
)
AGENT = LimitedScope(path="/agent/concierge", most={"live_svids": 1_000_000})
LEAF = Credential(
    kind=CredentialKind.X509,
    serial="01",
    spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path=CRM.path),
    authority_id=KeyID("x509-1"),
    issued_at=NOW - HOUR,
    not_after=NOW + HOUR,
    entry_id=WEB,
    node_id=N1,
    key_hash="aa",
)
TOKEN = replace(
    LEAF, kind=CredentialKind.JWT, serial="02", authority_id=KeyID("jwt-1"), key_hash="", audiences=("a", "b")
)


async def held(store: Datastore, *rows: Credential, since: timedelta = -HOUR, most: int = 10) -> Held:
    await store.write(lambda tx: tx.ledger.record(rows))
    return await store.read(lambda tx: tx.limits.held(WEB, N1, since=NOW + since, now=NOW, most=most))


async def test_limits_are_read_as_they_were_written_by_path(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.limits.list(0)) == []
    await store.write(lambda tx: tx.limits.replace(3, [CRM, AGENT]))
    assert await store.read(lambda tx: tx.limits.list(3)) == [AGENT, CRM]


async def test_those_of_another_rulebook_are_not_in_force(store: Datastore) -> None:
    await store.write(lambda tx: tx.limits.replace(3, [CRM, AGENT]))
    assert await store.read(lambda tx: tx.limits.list(4)) == [], "an earlier release applied a rulebook since"
    await store.write(lambda tx: tx.limits.replace(5, [CRM]))
    assert await store.read(lambda tx: tx.limits.list(5)) == [CRM]
    await store.write(lambda tx: tx.limits.replace(6, []))
    assert await store.read(lambda tx: tx.limits.list(6)) == []


async def test_what_a_node_holds_of_an_entry_is_its_last_certificate_and_its_last_token_for_the_same_audiences(
    store: Datastore,
) -> None:
    later = replace(TOKEN, serial="03", not_after=NOW + 2 * HOUR, authority_id=KeyID("jwt-2"))
    other = replace(TOKEN, serial="04", audiences=("a",))
    found = await held(
        store, LEAF, replace(LEAF, serial="05", not_after=NOW + HOUR / 2, key_hash="bb"), later, TOKEN, other
    )
    assert found.x509 == NOW + HOUR
    assert sorted(found.tokens) == [
        HeldToken(("a",), NOW + HOUR, KeyID("jwt-1"), "04"),
        HeldToken(("a", "b"), NOW + 2 * HOUR, KeyID("jwt-2"), "03"),
    ]


async def test_what_ended_is_held_no_more_but_a_certificate_until_the_time_that_is_asked_for(store: Datastore) -> None:
    ended = NOW - HOUR / 2
    rows = (replace(LEAF, not_after=ended), replace(TOKEN, not_after=ended))
    assert await held(store, *rows) == Held(ended, [])
    assert await held(store, since=-HOUR / 2) == Held(None, [])


async def test_what_failed_or_is_another_ones_is_not_held_and_only_so_many_tokens_are_told(store: Datastore) -> None:
    failed = replace(LEAF, state=CredentialState.FAILED)
    others = (
        replace(LEAF, serial="06", node_id=NodeID("n2"), key_hash="bb"),
        replace(LEAF, serial="07", entry_id=EntryID("db"), key_hash="cc"),
        replace(TOKEN, serial="08", state=CredentialState.FAILED),
    )
    assert await held(store, failed, *others) == Held(None, [])
    many = [replace(TOKEN, serial=f"1{number}", audiences=(f"a{number}",)) for number in range(5)]
    assert len((await held(store, *many, most=3)).tokens) == 3


async def test_what_is_live_is_valid_and_was_not_revoked(store: Datastore) -> None:
    n2, ledger = NodeID("n2"), SpiffeID(trust_domain=TRUST_DOMAIN, path="/agent/concierge/ledger")
    rows = [
        LEAF,
        replace(LEAF, serial="05", not_after=NOW + 2 * HOUR, key_hash="bb"),
        replace(LEAF, serial="06", node_id=n2, key_hash="cc"),
        replace(LEAF, serial="07", spiffe_id=ledger, key_hash="dd"),
        TOKEN,
        replace(TOKEN, serial="08"),
        replace(TOKEN, serial="09", not_after=NOW),
        replace(TOKEN, serial="10", state=CredentialState.FAILED),
        replace(TOKEN, serial="11", spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/agent/concierge2/crm")),
    ]
    await store.write(lambda tx: tx.ledger.record(rows))
    end = int((NOW + HOUR).timestamp())
    of_agent, of_crm = SpiffeID(trust_domain=TRUST_DOMAIN, path="/agent/concierge"), LEAF.spiffe_id
    found = await store.read(lambda tx: tx.limits.live(of_crm, now=NOW))
    assert found == LiveSVIDs({(CRM.path, N1): NOW + 2 * HOUR, (CRM.path, n2): NOW + HOUR}, {end: 2})
    found = await store.read(lambda tx: tx.limits.live(of_agent, now=NOW))
    assert (len(found.x509), found.tokens) == (3, {end: 2})
    assert await store.read(lambda tx: (tx.limits.last_revocation(), tx.limits.is_revoked("08"))) == (0, False)
    order = Revocation(
        target=Target(kind=RevocationKind.SVID, serials=("06", "08")),
        reason=Reason.UNSPECIFIED,
        comment="",
        actor="uid:0",
        at=NOW,
    )
    await store.write(lambda tx: deny_in(tx, order, Live(serials=("06", "08"))))
    found = await store.read(lambda tx: tx.limits.live(of_crm, now=NOW))
    assert found == LiveSVIDs({(CRM.path, N1): NOW + 2 * HOUR}, {end: 1})
    revoked = await store.read(lambda tx: [tx.limits.is_revoked(one) for one in ("02", "08", "none")])
    assert (revoked, await store.read(lambda tx: tx.limits.last_revocation())) == ([False, True, False], 1)
