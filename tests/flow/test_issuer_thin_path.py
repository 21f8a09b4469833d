"""The issuer from an invite to SVIDs, through its real doors."""

from pathlib import Path

from cognomen.wire.pb import node_pb2
from svid import jwtsvid, x509svid
from svid.clock import SystemClock
from svid.encoding import certificates_from_der
from tests.doubles.feed import bundle_told, entries_put, updates_of
from tests.flow.issuer_harness import TRUST_DOMAIN, entry, new_key, public_der, running


async def test_a_node_joins_follows_and_mints(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join({"team": "travel"})
        feed = node.follow()
        first = await feed.read()
        assert isinstance(first, node_pb2.Change)
        assert first.snapshot
        assert not first.more
        told = updates_of(first, TRUST_DOMAIN)
        assert not entries_put(told)
        bundle = bundle_told(told)
        assert bundle is not None
        made = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1000"))
        second = await feed.read()
        assert isinstance(second, node_pb2.Change)
        assert [each.id for each in entries_put(updates_of(second, TRUST_DOMAIN))] == [made.entries[0].id]
        assert second.cursor.number == made.change
        (x509,) = await node.mint((made.entries[0].id, public_der(new_key())))
        chain = certificates_from_der(b"".join(x509.credential.chain))
        assert str(x509svid.verify(chain, bundle, at=SystemClock().now())) == "spiffe://example.org/web"
        (jwt,) = await node.mint_jwt((made.entries[0].id, ["db"]))
        token = jwtsvid.verify(jwt.credential.token, lambda _: bundle, audience="db", at=SystemClock().now())
        assert str(token.spiffe_id) == "spiffe://example.org/web"
        feed.cancel()
        await node.close()
