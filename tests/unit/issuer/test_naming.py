"""What a text means in place of an id."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cognomen.protocol.meaning import MOST_MEANINGS, Nameable
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.queries import Queries
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry, x509_authority

ENTRIES = {"aaaa11": "/web", "aaaa22": "/db", "bbbb": "/shared", "bbbbcc": "/shared"}


@pytest.fixture
async def store() -> AsyncIterator[Datastore]:
    opened = await SQLiteDatastore.open(None)
    authority = (await x509_authority(key_id="x509-0011223344556677")).authority

    def work(tx: Transaction) -> None:
        tx.entries.insert([an_entry(path, entry_id=name, of=f"unix:path:/{name}") for name, path in ENTRIES.items()])
        for node_id, name in (("nnnn11", "web"), ("nnnn22", "mmm"), ("mmmm", "nnnn1")):
            tx.nodes.put(replace(a_node(node_id), name=name))
        tx.authorities.put(authority)
        gone = an_entry("/gone", entry_id="aaaa33")
        tx.audit.append([AuditEvent(at=NOW, actor="uid:0", action="entry deleted", before=gone)])
        tx.ledger.record(
            [
                Credential(
                    kind=CredentialKind.NODE,
                    serial=f"abcd{name}",
                    spiffe_id=a_node(name).spiffe_id,
                    node_id=NodeID(name),
                    authority_id=KeyID("x509-1"),
                    issued_at=NOW,
                    not_after=NOW,
                )
                for name in ("mmmm", "mmmmgone")
            ]
        )

    await opened.write(work)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("kind", "text", "live", "with_past"),
    [
        ("entry", "aaaa11", ["aaaa11"], ["aaaa11"]),
        ("entry", "aaaa1", ["aaaa11"], ["aaaa11"]),
        ("entry", "aaaa", ["aaaa11", "aaaa22"], ["aaaa11", "aaaa22", "aaaa33"]),
        ("entry", "aaaa3", [], ["aaaa33"]),
        ("entry", "aaa", [], []),
        ("entry", "", [], []),
        ("entry", "bbbb", ["bbbb"], ["bbbb"]),
        ("entry", "/web", ["aaaa11"], ["aaaa11"]),
        ("entry", "spiffe://example.org/web", ["aaaa11"], ["aaaa11"]),
        ("entry", "spiffe://example.com/web", [], []),
        ("entry", "/we", [], []),
        ("entry", "/shared", ["bbbb", "bbbbcc"], ["bbbb", "bbbbcc"]),
        ("entry", "/a//b", [], []),
        ("node", "nnnn", ["nnnn11", "nnnn22"], ["nnnn11", "nnnn22"]),
        ("node", "nnnn1", ["nnnn11", "mmmm"], ["nnnn11", "mmmm"]),
        ("node", "nnnn11", ["nnnn11"], ["nnnn11"]),
        ("node", "web", ["nnnn11"], ["nnnn11"]),
        ("node", "mmm", ["nnnn22"], ["nnnn22"]),
        ("node", "we", [], []),
        ("node", "/cognomen/node/join_token/nnnn2", ["nnnn22"], ["nnnn22"]),
        ("node", "spiffe://example.org/cognomen/node/join_token/mmmm", ["mmmm"], ["mmmm"]),
        ("node", "spiffe://example.com/cognomen/node/join_token/mmmm", [], []),
        ("node", "/cognomen/node/other/nnnn2", [], []),
        ("node", "/web", [], []),
        ("node", "mmmm", ["mmmm"], ["mmmm"]),
        ("node", "mmmmg", [], ["mmmmgone"]),
        ("credential", "abcdmmmm", ["abcdmmmm"], ["abcdmmmm"]),
        ("credential", "abcd", ["abcdmmmm", "abcdmmmmgone"], ["abcdmmmm", "abcdmmmmgone"]),
        ("credential", "abc", [], []),
        ("credential", "%", [], []),
        ("authority", "x509-00", ["x509-0011223344556677"], ["x509-0011223344556677"]),
        ("authority", "x50", [], []),
    ],
)
async def test_a_text_means_what_begins_with_it_or_has_that_name(
    store: Datastore, kind: str, text: str, live: list[str], with_past: list[str]
) -> None:
    queries = Queries(store, TRUST_DOMAIN)
    for past, expected in ((False, live), (True, with_past)):
        (found,) = await queries.resolve(Nameable(kind), [text], with_past=past)
        assert [one.id for one in found] == expected


async def test_no_text_has_more_meanings_than_are_shown(store: Datastore) -> None:
    many = [an_entry("/many", entry_id=f"cccc{number:02}", of=f"unix:uid:{number}") for number in range(30)]
    await store.write(lambda tx: tx.entries.insert(many))
    for text in ("cccc", "/many"):
        (found,) = await Queries(store, TRUST_DOMAIN).resolve(Nameable.ENTRY, [text], with_past=True)
        assert [one.id for one in found] == [one.id for one in many[:MOST_MEANINGS]]
