"""What the attestor's flows note and count, and what one look at it finds: against an issuer in memory, on a FakeClock."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from attestor.decisions import crls
from attestor.issuerclient.port import MintedJWT
from attestor.parts import Flows
from attestor.web.health import health_pages
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from svid.spiffeid import TrustDomain
from tests.doubles.attestorflows import running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.until import pass_until, until

HALF_HOUR = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class House:
    """An attestor's flows, running, and the issuer."""

    issuer: IssuerInMemory
    clock: FakeClock
    flows: Flows

    def value(self, name: str, **labels: str) -> float | None:
        return self.flows.around.metrics.registry.get_sample_value(f"cognomen_attestor_{name}", labels)

    def troubles(self) -> set[str]:
        return {one.what for one in self.flows.around.troubles.all()}

    def holds(self, name: str) -> bool:
        return EntryID(name) in self.flows.cache.svids


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    async with running_flows(issuer, clock) as flows:
        yield House(issuer=issuer, clock=clock, flows=flows)


async def test_what_fails_while_the_issuer_is_away_is_told_and_over_when_it_is_back(house: House) -> None:
    house.issuer.put(entry("web"))
    await until(lambda: house.holds("web"))
    house.issuer.set_reachable(reachable=False)
    await until(lambda: house.troubles() == {"feed"})
    house.clock.advance(HALF_HOUR)
    await until(lambda: house.troubles() == {"feed", "node svid renewal", "x509-svid renewal"})
    with pytest.raises(Refused):
        await house.flows.jwts.jwt_svid(entry("web"), ["a"])
    assert "jwt-svid mint" in house.troubles()
    house.issuer.set_reachable(reachable=True)
    await house.flows.jwts.jwt_svid(entry("web"), ["a"])
    await pass_until(house.clock, lambda: not house.troubles())
    for kind in ("node", "x509", "jwt"):
        assert (house.value("renewals_total", kind=kind, outcome="failed") or 0) >= 1
        assert (house.value("renewals_total", kind=kind, outcome="ok") or 0) >= 1
    assert (house.value("feed_failures_total") or 0) >= 1


async def test_an_entry_that_is_refused_is_told_by_itself_until_it_is_minted_or_gone(house: House) -> None:
    for name in ("bad", "worse"):
        house.issuer.refused_entries[EntryID(name)] = Refused(Kind.DENIED, "no")
    house.issuer.put(entry("good"), entry("bad"), entry("worse"))
    await until(lambda: house.holds("good"))
    assert house.troubles() == {"x509-svid renewal of entry bad", "x509-svid renewal of entry worse"}
    assert house.value("renewals_total", kind="x509", outcome="ok") == 1
    assert house.value("renewals_total", kind="x509", outcome="failed") == 2
    house.issuer.refused_entries.clear()
    house.issuer.delete(EntryID("worse"))
    await until(lambda: house.troubles() == {"x509-svid renewal of entry bad"})
    await pass_until(house.clock, lambda: not house.troubles())
    assert house.holds("bad")


async def test_a_token_that_is_refused_is_counted_as_failed(house: House) -> None:
    house.issuer.refused_entries[EntryID("bad")] = Refused(Kind.DENIED, "no")
    house.issuer.put(entry("bad"))
    with pytest.raises(Refused):
        await house.flows.jwts.jwt_svid(entry("bad"), ["a"])
    assert house.value("renewals_total", kind="jwt", outcome="failed") == 1


async def test_one_look_sets_the_gauges(house: House) -> None:
    house.issuer.put(entry("web"))
    await until(lambda: house.holds("web"))
    await house.flows.jwts.jwt_svid(entry("web"), ["a"])
    seen = house.flows.observe()
    assert (seen.connected, seen.synchronised, len(seen.svids)) == (True, True, 1)
    assert (house.value("feed_connected"), house.value("synchronised"), house.value("svids")) == (1, 1, 1)
    assert (house.value("entries"), house.value("jwt_svids"), house.value("troubles")) == (1, 1, 0)
    assert house.value("feed_step_timestamp_seconds") == house.clock.now().timestamp()
    assert house.value("svids_first_end_timestamp_seconds") == (house.clock.now() + 2 * HALF_HOUR).timestamp()
    assert house.value("node_svid_renew_at_timestamp_seconds") == (house.clock.now() + HALF_HOUR).timestamp()
    house.issuer.deny(7)
    await until(lambda: 7 in house.flows.cache.denials)
    house.clock.advance(3)
    house.flows.observe()
    assert (house.value("denials"), house.value("heard_ago_seconds")) == (1, 3)
    assert house.value("feed_steps_total", kind="snapshot") == 1
    assert house.value("feed_steps_total", kind="change") == 2


async def test_the_lag_is_that_of_the_svid_that_is_most_overdue(house: House) -> None:
    house.issuer.put(entry("web"))
    await until(lambda: house.holds("web"))
    house.flows.observe()
    assert house.value("renewal_lag_seconds") == 0
    house.issuer.set_reachable(reachable=False)
    house.clock.advance(HALF_HOUR + timedelta(minutes=7))
    house.flows.observe()
    assert house.value("renewal_lag_seconds") == timedelta(minutes=7).total_seconds()


async def test_ready_tells_what_is_overdue_and_which_tasks_have_failed(house: House) -> None:
    house.issuer.put(entry("web", x509_svid_ttl=timedelta(minutes=20)))
    await until(lambda: house.holds("web"))
    failing: list[str] = []
    ready = health_pages(lambda: house.flows.observe, lambda: failing, house.flows.around.metrics)["/ready"]
    house.issuer.set_reachable(reachable=False)
    house.clock.advance(timedelta(minutes=12))
    assert (await ready(False)).body == b"ok\n", "half of its life is left, and the issuer may be away for a while"
    failing.append("task svids: ended unexpectedly")
    house.clock.advance(timedelta(seconds=1))
    assert (await ready(False)).body == b"x509-svid renewal: overdue for 121 s\ntask svids: ended unexpectedly\n"


async def test_what_is_too_much_for_one_call_gets_through_in_smaller_ones(house: House) -> None:
    house.issuer.most = 40
    entries = [entry(f"web{number}") for number in range(100)]
    house.issuer.put(*entries)
    await pass_until(house.clock, lambda: all(house.holds(one.id) for one in entries))


async def test_tokens_that_are_too_many_for_one_call_get_through_in_smaller_ones(house: House) -> None:
    house.issuer.most = 40
    entries = [entry(f"web{number}") for number in range(60)]
    house.issuer.put(*entries)

    async def ask() -> set[type]:
        asked = (house.flows.jwts.jwt_svid(one, ["a"]) for one in entries)
        return {type(one) for one in await asyncio.gather(*asked, return_exceptions=True)}

    assert await ask() == {Refused}
    assert await ask() == {MintedJWT}


async def test_the_newest_revocation_list_is_held_and_a_bad_one_is_told_and_keeps_nothing_back(house: House) -> None:
    authority, cache = house.issuer.authority, house.flows.cache
    house.issuer.publish_crls(authority.crl(5, number=2))
    await until(lambda: bool(cache.crls))
    with capture_logs() as logs:
        house.issuer.publish_crls(authority.crl(number=1), b"no list")
        house.issuer.put(entry("web"))
        await until(lambda: house.holds("web"))
    assert [set(crl.numbers()) for crl in cache.crls] == [{5}]
    told = [line["reason"] for line in logs if line["event"] == "revocation list of the issuer rejected"]
    assert told == ["CRL number: expected more than 2, found 1", "CRL: expected one in DER"]
    assert house.troubles() == {"revocation list of the issuer"}
    house.issuer.publish_crls(authority.crl(5, 6, number=3))
    await until(lambda: not house.troubles())
    assert [set(crl.numbers()) for crl in cache.crls] == [{5, 6}]


async def test_lists_that_are_too_large_for_workloads_are_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crls, "MOST_BYTES", 10)
    house.issuer.publish_crls(house.issuer.authority.crl())
    await until(lambda: house.troubles() == {"size of the revocation lists"})
    assert len(house.flows.cache.crls) == 1
    monkeypatch.undo()
    house.issuer.publish_crls(house.issuer.authority.crl(number=2))
    await until(lambda: not house.troubles())
